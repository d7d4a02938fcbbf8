//! The accept loop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use super::Peer;
use super::conn::serve;
use super::flight::Flights;
use super::passed::Bound;
use crate::millis;
use crate::shutdown::{Phase, Shutdown};
use crate::tasks::TaskSet;

/// Everything a connection needs from its listener.
pub(crate) struct Door {
    pub router: Router,
    pub shutdown: Shutdown,
    /// Owns the connections.
    pub tasks: TaskSet,
    pub flights: Arc<Flights>,
    pub limits: Limits,
}

/// What a client may use up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Open connections; beyond, they wait in the kernel's backlog.
    pub connections: usize,
    /// For a request's head, and of an idle connection.
    pub header_timeout: Duration,
    /// For taking something, however little, of an answer.
    pub write_timeout: Duration,
}

/// How long to leave a listener alone that has no file descriptors left: trying at once would spin.
const EXHAUSTED: Duration = millis(100);

/// Accepts until the drain begins; the listener is closed when this returns.
pub(crate) async fn accept(bound: Bound, door: Arc<Door>) {
    let Bound { listener, passed } = bound;
    let slots = Arc::new(Semaphore::new(door.limits.connections.min(Semaphore::MAX_PERMITS)));
    let mut exhausted = false;
    let draining = door.shutdown.reached(Phase::Draining);
    let mut draining = std::pin::pin!(draining);
    loop {
        let next = async {
            // The slot first: a connection that is accepted is served.
            let slot = slots.clone().acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            biased;
            () = &mut draining => break,
            next = next => next,
        };
        let Ok(slot) = slot else { return }; // never closed
        match accepted {
            Ok((stream, peer)) => {
                exhausted = false;
                open(stream, peer, slot, &door);
            }
            Err(error) if belongs_to_the_client(&error) => {}
            Err(error) => {
                if !exhausted {
                    tracing::warn!(%error, "cannot accept connections, trying again");
                }
                exhausted = true;
                sleep(EXHAUSTED).await;
            }
        }
    }
    if passed {
        return; // whoever waits in the backlog is served by the next instance
    }
    // Clients whose connection the kernel has accepted for us already would otherwise be reset. The system is asked:
    // tokio goes by what it was told at its last look.
    let Ok(listener) = listener.into_std() else { return };
    while let Ok(slot) = slots.clone().try_acquire_owned() {
        match listener.accept() {
            Ok((stream, peer)) => {
                if stream.set_nonblocking(true).is_ok()
                    && let Ok(stream) = TcpStream::from_std(stream)
                {
                    open(stream, peer, slot, &door);
                }
            }
            Err(error) if belongs_to_the_client(&error) => {}
            Err(_) => return, // no more
        }
    }
}

fn open(stream: TcpStream, peer: SocketAddr, slot: OwnedSemaphorePermit, door: &Arc<Door>) {
    // Answers are small and written whole; waiting to fill a packet only delays them.
    let _ = stream.set_nodelay(true);
    let Ok(local) = stream.local_addr() else { return };
    let entered = door.flights.enter(Peer::new(peer, local), &door.shutdown);
    let theirs = door.clone();
    door.tasks.spawn("http connection", async move {
        serve(stream, entered, theirs).await;
        drop(slot);
    });
}

/// Whether the client gave up between its connect and our accept.
fn belongs_to_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

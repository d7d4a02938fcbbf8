//! A TCP proxy that misbehaves as it is told.

mod connection;
mod faults;
mod lane;

use std::{
    io,
    net::SocketAddr,
    panic::Location,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::sleep,
};

pub use faults::{Direction, Faults};
use lane::Lane;

use super::{sockets_in_use, wait::until};
use crate::{TaskSet, millis};

/// A proxy has at most this many connections; further ones wait.
const MOST: usize = 1024;

/// Stands between a client and a server, on a real loopback socket, and disturbs what passes as the test says, at any
/// time. Dropped, it closes all its connections.
///
/// ```no_run
/// # async fn example(upstream: std::net::SocketAddr) -> std::io::Result<()> {
/// use mainstay::{millis, testing::{Direction, FaultProxy, Faults}};
///
/// let proxy = FaultProxy::start(upstream).await?;
/// // … the client connects to proxy.address() …
/// proxy.set(Faults::default().latency(millis(200)).jitter(millis(50)));
/// proxy.set_one(Direction::ToClient, Faults::default().stall()); // answers are lost from here on
/// proxy.partition();
/// proxy.heal();
/// proxy.reset();
/// # Ok(()) }
/// ```
///
/// Its tasks run on the runtime it is started on, and take their time from it. On virtual time it keeps time from running
/// ahead of the network: time moves on only when nothing has happened for 20 real milliseconds, and stands still from
/// the bytes that a server was sent to the first that it answers, for 30 real seconds at most. So no time limit fires
/// because a server is slow; and one does at once, if the silence is the proxy's: behind a stall, a partition or a
/// latency. A server that itself takes virtual time is not to be waited for: [`impatient`](Self::impatient).
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    control: Arc<Control>,
    tasks: TaskSet,
}

#[derive(Debug)]
struct Control {
    upstream: SocketAddr,
    seed: u64,
    to_server: Lane,
    to_client: Lane,
    impatient: AtomicBool,
    /// Raised by one for each reset.
    resets: watch::Sender<u64>,
    open: watch::Sender<usize>,
}

impl FaultProxy {
    /// A proxy before `upstream`, on a free port of the loopback address, without faults. Chance has the seed 0.
    ///
    /// # Errors
    /// What the system says to the listener.
    pub async fn start(upstream: SocketAddr) -> io::Result<FaultProxy> {
        FaultProxy::seeded(upstream, 0).await
    }

    /// The same with another seed for chance.
    ///
    /// # Errors
    /// What the system says to the listener.
    pub async fn seeded(upstream: SocketAddr, seed: u64) -> io::Result<FaultProxy> {
        sockets_in_use();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let control = Arc::new(Control {
            upstream,
            seed,
            to_server: Lane::default(),
            to_client: Lane::default(),
            impatient: AtomicBool::new(false),
            resets: watch::Sender::default(),
            open: watch::Sender::default(),
        });
        let tasks =
            TaskSet::current().ok_or_else(|| io::Error::other("a fault proxy needs a tokio runtime"))?;
        drop(tasks.spawn("fault proxy", accept(listener, control.clone(), tasks.clone())));
        Ok(FaultProxy { address, control, tasks })
    }

    /// Does not hold virtual time for the server's answers: for a server whose time is virtual, too, because it runs in
    /// the same runtime.
    #[must_use]
    pub fn impatient(self) -> FaultProxy {
        self.control.impatient.store(true, Ordering::Relaxed);
        self
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets what happens in both directions, on connections that are open and on those that come.
    pub fn set(&self, faults: Faults) {
        self.set_one(Direction::ToServer, faults);
        self.set_one(Direction::ToClient, faults);
    }

    /// Sets what happens in one direction.
    pub fn set_one(&self, direction: Direction, faults: Faults) {
        self.control.lane(direction).set(faults);
    }

    /// Nothing passes in either direction, and new connections get no further than here. Nobody is told: to both ends
    /// the other is just silent.
    pub fn partition(&self) {
        self.control.to_server.cut(true);
        self.control.to_client.cut(true);
    }

    /// Ends a partition and all faults. What has been held goes on, as TCP would have repeated it.
    pub fn heal(&self) {
        self.set(Faults::default());
        self.control.to_server.cut(false);
        self.control.to_client.cut(false);
    }

    /// Resets every connection that is open here now, at both ends. Others may come. (A client may be connected before
    /// the connection is open here: [`until_open`](Self::until_open).)
    pub fn reset(&self) {
        self.control.resets.send_modify(|count| *count += 1);
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        *self.control.open.borrow()
    }

    /// Resolves when exactly `n` connections are open. Cancel safe, as the two below.
    ///
    /// # Panics
    /// After 30 seconds, on virtual time after six days, as the two below.
    #[track_caller]
    pub fn until_open(&self, n: usize) -> impl Future<Output = ()> + Send + use<> {
        let (control, at) = (self.control.clone(), Location::caller());
        async move {
            let tell =
                |open: &usize| format!("{open} instead of {n} connections are open in the fault proxy");
            until(&control.open, at, |open| *open == n, tell).await;
        }
    }

    /// Resolves when so many bytes have come to the proxy in a direction, over all connections since its start, whether
    /// or not they have been passed on.
    #[track_caller]
    pub fn until_received(
        &self,
        direction: Direction,
        bytes: u64,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (control, at) = (self.control.clone(), Location::caller());
        async move {
            let tell = |seen: &u64| format!("{seen} instead of {bytes} bytes have come to the fault proxy");
            until(&control.lane(direction).received, at, |seen| *seen >= bytes, tell).await;
        }
    }

    /// Resolves when so many bytes have been passed on in a direction, over all connections since its start.
    #[track_caller]
    pub fn until_forwarded(
        &self,
        direction: Direction,
        bytes: u64,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (control, at) = (self.control.clone(), Location::caller());
        async move {
            let tell = |seen: &u64| format!("{seen} instead of {bytes} bytes have passed the fault proxy");
            until(&control.lane(direction).forwarded, at, |seen| *seen >= bytes, tell).await;
        }
    }

    /// How many bytes have been passed on in a direction.
    pub fn forwarded(&self, direction: Direction) -> u64 {
        *self.control.lane(direction).forwarded.borrow()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

impl Control {
    fn lane(&self, direction: Direction) -> &Lane {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }
}

async fn accept(listener: TcpListener, control: Arc<Control>, tasks: TaskSet) {
    let places = Arc::new(Semaphore::new(MOST));
    let mut number = 0;
    // Nobody closes the semaphore.
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((client, _)) => {
                number += 1;
                let served = serve(client, control.clone(), number);
                drop(tasks.spawn("fault proxy connection", async move {
                    served.await;
                    drop(place);
                }));
            }
            // Of one connection, or of a system that has no descriptors left: neither is worth more than a pause.
            Err(error) => {
                tracing::warn!(%error, "fault proxy cannot accept");
                sleep(millis(10)).await;
            }
        }
    }
}

/// Counted as open from its acceptance to its end.
fn serve(client: TcpStream, control: Arc<Control>, number: u64) -> impl Future<Output = ()> {
    // Subscribed before it counts: a reset reaches everything that a test has seen to be open.
    let resets = control.resets.subscribe();
    let open = Open::new(control.clone());
    async move {
        connection::run(client, &control, resets, number).await;
        drop(open);
    }
}

struct Open(Arc<Control>);

impl Open {
    fn new(control: Arc<Control>) -> Open {
        control.open.send_modify(|open| *open += 1);
        Open(control)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

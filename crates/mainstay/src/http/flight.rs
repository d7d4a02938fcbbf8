//! What is in flight: connections, and the requests on them.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{self, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::Span;

use super::Peer;
use super::arrival::{Arrival, Caller};
use super::delivery::LostWithConnection;
use super::listener::Limits;
use super::upgrade::Upgrade;
use crate::app::Overstayer;
use crate::shutdown::Shutdown;
use crate::time::monotonic_ms;
use crate::{millis, secs};

/// How long a connection without a request may take to part in order once the listener has closed: to answer
/// HTTP/2's last ping, or to finish a half-sent head.
const LINGER: Duration = millis(500);

/// How long streams whose reader goes on elsewhere may take for their last bytes once the listener has closed.
const PARTING: Duration = secs(2);

/// Marks a response as a stream whose reader goes on elsewhere, from the last it has got: once the drain has begun it
/// has two seconds for its last bytes; that it is closed then loses nothing and is no overstaying.
#[derive(Clone, Copy, Debug)]
pub struct Resumable;

/// The connections of a listener.
#[derive(Default)]
pub(crate) struct Flights {
    next: AtomicU64,
    conns: Mutex<HashMap<u64, Arc<Conn>>>,
}

/// One connection.
pub(crate) struct Conn {
    id: u64,
    pub caller: Arc<Caller>,
    requests: Mutex<Vec<Request>>,
    begun: AtomicU64,
    /// When it began to wait for a request, in milliseconds.
    waits_since_ms: AtomicU64,
    /// Since when the client has taken nothing of what is to be written, in milliseconds; 0 while it does.
    blocked_since_ms: AtomicU64,
    /// An answer is to be written.
    unflushed: AtomicBool,
    /// Of HTTP/1.1 to something else.
    pub upgrade: Upgrade,
    /// Notified when the first request begins, and when the last one in flight ends if somebody waits for that.
    changed: Notify,
    /// Somebody waits for the last one. Set before the requests are looked at.
    awaited: AtomicBool,
}

/// What a client has taken too long over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stale {
    /// A request's head, or nothing was asked.
    Idle,
    /// Taking an answer.
    Unread,
}

struct Request {
    id: u64,
    arrival: Arc<Arrival>,
    /// Its answer has been taken to be written; it stays in the books until that is out.
    answered: bool,
    /// Its reader goes on elsewhere, see [`Resumable`].
    resumable: bool,
}

/// What a connection is busy with.
#[derive(PartialEq, Eq)]
enum Busy {
    No,
    /// Streams that are resumable, and nothing else.
    Streams,
    Requests,
}

impl Flights {
    pub fn enter(self: &Arc<Self>, peer: Peer, shutdown: &Shutdown) -> Entered {
        let conn = Arc::new(Conn {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            caller: Caller::new(peer, shutdown.clone()),
            requests: Mutex::default(),
            begun: AtomicU64::new(0),
            waits_since_ms: AtomicU64::new(monotonic_ms()),
            blocked_since_ms: AtomicU64::new(0),
            unflushed: AtomicBool::new(false),
            upgrade: Upgrade::default(),
            changed: Notify::new(),
            awaited: AtomicBool::new(false),
        });
        self.lock().insert(conn.id, conn.clone());
        metrics::gauge!("http.server.open_connections").increment(1);
        let lost = LostWithConnection(conn.caller.outgoing.clone());
        Entered { flights: self.clone(), conn, _lost: lost }
    }

    /// What would be lost if the connections were cut now.
    pub fn in_flight(&self) -> Vec<Overstayer> {
        let now = Instant::now();
        let conns: Vec<_> = self.lock().values().cloned().collect();
        let mut all = Vec::new();
        for conn in conns {
            let whence = format!("from {} to {}", conn.caller.addr, conn.caller.peer.local);
            let requests = conn.lock();
            let blocked = conn.is_write_blocked();
            all.extend(requests.iter().filter(|request| blocked || !request.answered).map(|request| {
                let arrival = &request.arrival;
                let age = now.saturating_duration_since(arrival.at);
                let what = format!("{} {}", arrival.method, arrival.uri.path());
                let span = crate::log::describe(&arrival.context, &Span::none());
                Overstayer::new(what, whence.clone(), age).in_span(span)
            }));
        }
        all
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Conn>>> {
        self.conns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in the books; leaves them when dropped.
pub(crate) struct Entered {
    flights: Arc<Flights>,
    pub conn: Arc<Conn>,
    _lost: LostWithConnection,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.conn.id);
        metrics::gauge!("http.server.open_connections").decrement(1);
    }
}

impl Conn {
    /// Books a request until the answer's body is done or dropped.
    pub fn begin(self: &Arc<Self>, arrival: Arc<Arrival>) -> Flight {
        let id = self.begun.fetch_add(1, Ordering::Relaxed);
        self.lock().push(Request { id, arrival, answered: false, resumable: false });
        if id == 0 {
            self.changed.notify_waiters();
        }
        Flight { conn: self.clone(), id, upgrades: false }
    }

    /// Resolves when the connection has carried a request.
    pub async fn used(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_used() {
                return;
            }
            changed.await;
        }
    }

    pub fn is_used(&self) -> bool {
        self.begun.load(Ordering::Relaxed) > 0
    }

    /// Resolves when the client has owed us a whole head, or has taken nothing of an answer, for its limit. Looked at
    /// once in a while: hyper's own limit makes and drops a timer for each request.
    pub async fn stale(&self, limits: &Limits) -> Stale {
        let (header, write) = (limits.header_timeout, limits.write_timeout);
        let since = |ms: u64| millis(monotonic_ms().saturating_sub(ms));
        let mut left = header.min(write);
        loop {
            tokio::time::sleep(left).await;
            let waits = since(self.waits_since_ms.load(Ordering::Relaxed));
            let header_left = if self.lock().is_empty() { header.saturating_sub(waits) } else { header };
            let write_left = match self.blocked_since_ms.load(Ordering::Relaxed) {
                0 => write,
                blocked => write.saturating_sub(since(blocked)),
            };
            if write_left.is_zero() {
                return Stale::Unread;
            }
            if header_left.is_zero() {
                return Stale::Idle;
            }
            left = header_left.min(write_left);
        }
    }

    /// Resolves when nothing would be lost by dropping the connection, and it has had a moment to part in order.
    pub async fn quiet(&self) {
        self.awaited.store(true, Ordering::Relaxed);
        let parted = Instant::now() + PARTING;
        loop {
            let changed = self.changed.notified();
            match self.busy() {
                Busy::Requests => changed.await,
                Busy::Streams => {
                    if tokio::time::timeout_at(parted, changed).await.is_err() {
                        return;
                    }
                }
                Busy::No => {
                    tokio::time::sleep(LINGER).await;
                    if self.busy() == Busy::No && !self.is_write_blocked() {
                        return;
                    }
                }
            }
        }
    }

    fn busy(&self) -> Busy {
        let requests = self.lock();
        let open = requests.iter().filter(|request| !request.answered);
        open.fold(Busy::No, |busy, request| match busy {
            Busy::No | Busy::Streams if request.resumable => Busy::Streams,
            _ => Busy::Requests,
        })
    }

    /// What was to be written is out.
    pub fn flushed(&self) {
        self.caller.outgoing.flushed();
        // hyper flushes more often than it writes.
        if self.unflushed.load(Ordering::Relaxed) && self.unflushed.swap(false, Ordering::Relaxed) {
            self.waits_since_ms.store(monotonic_ms(), Ordering::Relaxed);
            self.lock().retain(|request| !request.answered);
        }
    }

    /// The stream has been dropped: a request that changed the protocol ends with it.
    pub fn stream_is_gone(&self) {
        if self.upgrade.has_begun() {
            self.lock().clear();
            self.upgrade.stream_is_gone();
        }
    }

    /// The last write was blocked, or was not. Called by the connection alone.
    pub fn set_write_blocked(&self, blocked: bool) {
        // Cheap for the usual case: every answer comes by here.
        if blocked != self.is_write_blocked() {
            let since = if blocked { monotonic_ms() } else { 0 };
            self.blocked_since_ms.store(since, Ordering::Relaxed);
        }
    }

    fn is_write_blocked(&self) -> bool {
        self.blocked_since_ms.load(Ordering::Relaxed) != 0
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in flight.
pub(crate) struct Flight {
    conn: Arc<Conn>,
    id: u64,
    /// It changes the protocol: in flight until the stream is gone.
    upgrades: bool,
}

impl Flight {
    /// Its answer is a stream whose reader goes on elsewhere.
    pub fn is_resumable(&self) {
        let mut requests = self.conn.lock();
        let own = requests.iter_mut().find(|request| request.id == self.id);
        own.into_iter().for_each(|request| request.resumable = true);
    }

    /// Whether its client is to go elsewhere with the next one.
    pub fn is_draining(&self) -> bool {
        self.conn.caller.shutdown.is_draining()
    }

    pub fn upgrades(&mut self) {
        self.upgrades = true;
        self.conn.upgrade.begin();
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.upgrades {
            return;
        }
        let mut requests = self.conn.lock();
        let own = requests.iter_mut().find(|request| request.id == self.id);
        own.into_iter().for_each(|request| request.answered = true);
        let last = requests.iter().all(|request| request.answered || request.resumable);
        drop(requests);
        self.conn.unflushed.store(true, Ordering::Relaxed);
        // The lock orders this look after that of whoever has seen a request.
        if last && self.conn.awaited.load(Ordering::Relaxed) {
            self.conn.changed.notify_waiters();
        }
    }
}

pin_project_lite::pin_project! {
    /// A response body that keeps its request in the books.
    pub(crate) struct Tracked {
        #[pin]
        body: axum::body::Body,
        _flight: Flight,
    }
}

impl Tracked {
    pub fn new(body: axum::body::Body, flight: Flight) -> Self {
        Self { body, _flight: flight }
    }
}

impl Body for Tracked {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

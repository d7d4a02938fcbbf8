//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{self, Poll, ready};

use axum::Router;
use axum::body::Body;
use axum::routing::future::RouteFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::Service;

use super::arrival::{Arrival, Arrived};
use super::aside::Aside;
use super::flight::{Conn, Entered, Flight, Resumable, Stale, Tracked};
use super::listener::Door;
use super::sniff::{Protocol, Replay, has_arrived, sniff};
use crate::secs;
use crate::shutdown::Phase;
use crate::tasks::TaskSet;

/// Serves a connection to its end, or until the drain leaves nothing on it that could be lost.
pub(super) async fn serve(stream: TcpStream, entered: Entered, door: Arc<Door>) {
    let conn = entered.conn.clone();
    let silent = async {
        door.shutdown.reached(Phase::Draining).await;
        // What the kernel has taken for us before the drain is answered, though tokio may not know of it yet.
        if has_arrived(&stream) {
            std::future::pending().await
        }
    };
    let first = tokio::select! {
        biased;
        first = timeout(door.limits.header_timeout, sniff(&stream)) => first,
        () = silent => return,
    };
    let Ok(Ok(Some((protocol, seen)))) = first else { return };
    let io = TokioIo::new(Replay { seen, stream, conn: conn.clone() });
    let service = Routes { door: door.clone(), conn: conn.clone(), protocol };
    match protocol {
        Protocol::Http1 => {
            let served = http1::Builder::new()
                .header_read_timeout(None) // see `Conn::stale`
                .serve_connection(io, service)
                .with_upgrades();
            http1_until_drained(pin!(served), &door, &conn).await;
            if conn.upgrade.has_begun() {
                conn.upgrade.over().await;
            }
        }
        Protocol::Http2 => {
            let served = http2::Builder::new(Streams(door.tasks.clone()))
                .timer(TokioTimer::new())
                .keep_alive_interval(Some(secs(30)))
                .keep_alive_timeout(secs(20))
                .max_concurrent_streams(200)
                .serve_connection(io, service);
            http2_until_drained(pin!(served), &door, &conn).await;
        }
    }
}

/// HTTP/1.1: responses say `Connection: close` from the lame duck on (see [`Answer`]); hyper closes after them. When
/// the drain begins, what is idle closes at once and the rest after its response.
async fn http1_until_drained<C: Graceful>(mut served: Pin<&mut C>, door: &Door, conn: &Conn) {
    let leave = async {
        tokio::select! {
            biased;
            () = door.shutdown.reached(Phase::Draining) => None,
            why = conn.stale(&door.limits) => Some(why),
        }
    };
    tokio::select! {
        biased;
        _ = served.as_mut() => return,
        why = Aside::new(leave) => if let Some(why) = why { return too_slow(why, conn) },
    }
    served.as_mut().close();
    // A half-sent head keeps hyper waiting for the rest of it: the drain does not.
    tokio::select! { biased; _ = served => {}, () = conn.quiet() => {} }
}

/// HTTP/2: GOAWAY at the lame duck, but not before the first request: a connection in its handshake would be
/// cancelled by it, and a client that has just connected would lose the request it is about to send. An idle one gets
/// it too: what still leaves a stream's buffer then is not cut off, and hyper's ping ends a client that is silent.
async fn http2_until_drained<C: Graceful>(mut served: Pin<&mut C>, door: &Door, conn: &Conn) {
    let shutdown = &door.shutdown;
    let time_to_go = async {
        shutdown.draining().await;
        tokio::select! { () = conn.used() => {}, () = shutdown.reached(Phase::Draining) => {} }
    };
    let leave = async {
        tokio::select! {
            biased;
            () = time_to_go => None,
            why = conn.stale(&door.limits) => Some(why),
        }
    };
    tokio::select! {
        biased;
        _ = served.as_mut() => return,
        why = Aside::new(leave) => if let Some(why @ Stale::Unread) = why { return too_slow(why, conn) },
    }
    served.as_mut().close();
    let parted = async {
        // Where nothing was asked nothing is left to be sent.
        if conn.is_used() {
            shutdown.reached(Phase::Draining).await;
        }
        conn.quiet().await;
    };
    tokio::select! { biased; _ = served => {}, () = parted => {} }
}

/// Says why the connection ends, where something is lost by it.
fn too_slow(why: Stale, conn: &Conn) {
    if why == Stale::Unread {
        tracing::info!(peer = %conn.caller.peer.addr, "connection cut: the client took nothing of its answer for body_timeout_ms");
    }
}

/// What hyper's two kinds of connection have in common.
trait Graceful: Future {
    fn close(self: Pin<&mut Self>);
}

impl Graceful for http1::UpgradeableConnection<TokioIo<Replay>, Routes> {
    fn close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl Graceful for http2::Connection<TokioIo<Replay>, Routes, Streams> {
    fn close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Spawns HTTP/2 streams into the listener's set: none outlives it.
#[derive(Clone)]
struct Streams(TaskSet);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.spawn("http/2 stream", stream);
    }
}

/// The router as hyper calls it.
pub(super) struct Routes {
    pub door: Arc<Door>,
    pub conn: Arc<Conn>,
    pub protocol: Protocol,
}

impl Routes {
    /// From whatever it came.
    pub fn answer(&self, mut request: Request<Body>) -> Answer {
        let arrival = Arc::new(Arrival::new(&request, Some(self.conn.caller.clone())));
        let flight = self.conn.begin(arrival.clone());
        request.extensions_mut().insert(Arrived(arrival));
        let mut router: Router = self.door.router.clone();
        let connect = request.method() == Method::CONNECT;
        Answer { route: router.call(request), flight: Some(flight), protocol: self.protocol, connect }
    }
}

impl hyper::service::Service<Request<Incoming>> for Routes {
    type Response = Response<Tracked>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        self.answer(request.map(Body::new))
    }
}

pin_project_lite::pin_project! {
    /// A response on its way: books its body, and tells an HTTP/1.1 client to go elsewhere during the lame duck.
    pub(super) struct Answer {
        #[pin]
        route: RouteFuture<Infallible>,
        flight: Option<Flight>,
        protocol: Protocol,
        connect: bool,
    }
}

impl Future for Answer {
    type Output = Result<Response<Tracked>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut response) = ready!(this.route.poll(cx));
        let Some(mut flight) = this.flight.take() else { return Poll::Pending }; // polled after its end
        if response.extensions().get::<Resumable>().is_some() {
            flight.is_resumable();
        }
        if *this.protocol == Protocol::Http1 {
            let status = response.status();
            if status == StatusCode::SWITCHING_PROTOCOLS || *this.connect && status.is_success() {
                flight.upgrades();
            } else if flight.is_draining() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
        }
        Poll::Ready(Ok(response.map(|body| Tracked::new(body, flight))))
    }
}

//! Requests that come over no wire: from the test that has the app in its process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use tokio::sync::oneshot;

use super::Peer;
use super::conn::Routes;
use super::listener::Door;
use super::sniff::Protocol;
use crate::shutdown::Phase;

const LOCALHOST: HeaderValue = HeaderValue::from_static("localhost");

/// Where such a listener says that it is, and where its clients are.
pub(crate) const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 80);
const THERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 49_152);

/// A listener's door without its socket.
#[derive(Clone)]
pub(crate) struct Inlet(Arc<Door>);

impl Inlet {
    pub fn new(door: Arc<Door>) -> Self {
        Self(door)
    }

    /// The whole answer; `None` if the listener has closed, or the request was cut. Dropped before it is done, the
    /// client is gone, and the handler is dropped where it awaits.
    pub async fn ask(&self, mut request: Request<Body>) -> Option<Response<Bytes>> {
        let door = &self.0;
        if door.shutdown.phase() >= Phase::Draining {
            return None;
        }
        request.headers_mut().entry(header::HOST).or_insert(LOCALHOST);
        let entered = door.flights.enter(Peer::new(THERE, HERE), &door.shutdown);
        let (answered, answer) = oneshot::channel();
        let routes = Routes { door: door.clone(), conn: entered.conn.clone(), protocol: Protocol::Http1 };
        door.tasks.spawn("request in process", async move {
            let mut answered = answered;
            let whole = async {
                let Ok(response) = routes.answer(request).await;
                let (head, body) = response.into_parts();
                let body = body.collect().await.ok()?.to_bytes();
                entered.conn.flushed();
                Some(Response::from_parts(head, body))
            };
            let response =
                tokio::select! { biased; response = whole => response, () = answered.closed() => None };
            if let Some(response) = response {
                let _ = answered.send(response);
            }
        });
        answer.await.ok()
    }
}

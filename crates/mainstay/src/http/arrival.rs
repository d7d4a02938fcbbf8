//! What the listener knows of a request.

use std::sync::Arc;

use http::{Extensions, Method, Request, Uri};
use tokio::time::Instant;

use super::delivery::Outgoing;
use super::{Delivery, Peer};
use crate::context::Context;
use crate::shutdown::Shutdown;

/// A request as it came: one allocation, shared by the connection's books, the request's extensions and the pipeline.
pub(crate) struct Arrival {
    pub at: Instant,
    pub method: Method,
    pub uri: Uri,
    pub context: Context,
    /// `None` where the router is served by something else.
    pub caller: Option<Arc<Caller>>,
    /// That of something else, see [`Shutdown::of`].
    elsewhere: Option<Shutdown>,
}

/// The other end of a connection, and what all requests on it share: one count of references a request, not three.
pub(crate) struct Caller {
    pub peer: Peer,
    /// The address as log lines show it.
    pub addr: Box<str>,
    pub shutdown: Shutdown,
    /// Answers that are on their way out.
    pub outgoing: Arc<Outgoing>,
}

impl Caller {
    pub fn new(peer: Peer, shutdown: Shutdown) -> Arc<Self> {
        Arc::new(Self { peer, addr: peer.addr.to_string().into(), shutdown, outgoing: Arc::default() })
    }
}

/// The one entry in a request's extensions: each costs an allocation.
#[derive(Clone)]
pub(super) struct Arrived(pub Arc<Arrival>);

impl Arrival {
    /// That of a request in the pipeline, also where it is served by something else.
    pub fn of<B>(request: &Request<B>) -> Arc<Self> {
        match request.extensions().get::<Arrived>() {
            Some(arrived) => arrived.0.clone(),
            None => Arc::new(Self::new(request, None)),
        }
    }

    pub fn new<B>(request: &Request<B>, caller: Option<Arc<Caller>>) -> Self {
        let elsewhere = if caller.is_some() { None } else { request.extensions().get().cloned() };
        Self {
            at: Instant::now(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            context: Context::from_headers(request.headers()),
            caller,
            elsewhere,
        }
    }

    /// The shutdown of the service that has the request.
    pub fn shutdown(&self) -> Option<&Shutdown> {
        self.caller.as_ref().map(|caller| &caller.shutdown).or(self.elsewhere.as_ref())
    }
}

/// The caller of a request, by its extensions. `None` where the router is served by something else.
fn caller(extensions: &Extensions) -> Option<&Arc<Caller>> {
    extensions.get::<Arrived>()?.0.caller.as_ref()
}

impl Peer {
    /// The peer of a request, by its extensions. `None` where the router is served by something else.
    pub fn of(extensions: &Extensions) -> Option<Self> {
        caller(extensions).map(|caller| caller.peer)
    }
}

impl Delivery {
    /// The delivery of a request's answer, by its extensions. Served by something else, nothing is ever lost.
    pub fn of(extensions: &Extensions) -> Self {
        caller(extensions).map_or_else(Self::default, |caller| Self::on(caller.outgoing.clone()))
    }
}

impl Shutdown {
    /// The shutdown of the service that has a request, by its extensions. Served by something else, as in a test, the
    /// one that an `Extension` layer put there.
    pub fn of(extensions: &Extensions) -> Option<Self> {
        let ours = caller(extensions).map(|caller| &caller.shutdown);
        ours.or_else(|| extensions.get()).cloned()
    }
}

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
    pub caller: Option<Arc<Caller>>,
    pub shutdown: Option<Shutdown>,
}

/// The other end of a connection, and its address as log lines show it.
pub(crate) struct Caller {
    pub peer: Peer,
    pub addr: Box<str>,
}

impl Caller {
    pub fn new(peer: Peer) -> Arc<Self> {
        Arc::new(Self { peer, addr: peer.addr.to_string().into() })
    }
}

/// The one entry in a request's extensions: each costs an allocation.
#[derive(Clone)]
pub(super) struct Arrived {
    pub arrival: Arc<Arrival>,
    pub outgoing: Arc<Outgoing>,
}

impl Arrival {
    /// That of a request in the pipeline, also where it is served by something else.
    pub fn of<B>(request: &Request<B>) -> Arc<Self> {
        match request.extensions().get::<Arrived>() {
            Some(arrived) => arrived.arrival.clone(),
            None => Arc::new(Self::new(request, None, request.extensions().get().cloned())),
        }
    }

    pub fn new<B>(request: &Request<B>, caller: Option<Arc<Caller>>, shutdown: Option<Shutdown>) -> Self {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        Self {
            at: Instant::now(),
            method,
            uri,
            context: Context::from_headers(request.headers()),
            caller,
            shutdown,
        }
    }
}

impl Peer {
    /// The peer of a request, by its extensions. `None` where the router is served by something else.
    pub fn of(extensions: &Extensions) -> Option<Self> {
        extensions.get::<Arrived>()?.arrival.caller.as_ref().map(|caller| caller.peer)
    }
}

impl Delivery {
    /// The delivery of a request's answer, by its extensions. Served by something else, nothing is ever lost.
    pub fn of(extensions: &Extensions) -> Self {
        let outgoing = extensions.get::<Arrived>().map(|arrived| arrived.outgoing.clone());
        outgoing.map_or_else(Self::default, Self::on)
    }
}

impl Shutdown {
    /// The shutdown of the service that has a request, by its extensions. Served by something else, as in a test, the
    /// one that an `Extension` layer put there.
    pub fn of(extensions: &Extensions) -> Option<Self> {
        let ours = extensions.get::<Arrived>().and_then(|arrived| arrived.arrival.shutdown.as_ref());
        ours.or_else(|| extensions.get()).cloned()
    }
}

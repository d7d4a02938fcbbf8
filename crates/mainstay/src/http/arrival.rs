//! What the listener knows of a request.

use std::sync::Arc;

use http::Extensions;

use super::flight::Conn;
use super::{Delivery, Peer};
use crate::context::Context;
use crate::shutdown::Shutdown;

/// One entry in a request's extensions for all of it: each entry costs an allocation.
#[derive(Clone)]
pub(crate) struct Arrival {
    pub conn: Arc<Conn>,
    pub shutdown: Shutdown,
    pub context: Context,
}

impl Arrival {
    /// `None` where the router is served by something else.
    pub fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }
}

impl Peer {
    /// The peer of a request, by its extensions. `None` where the router is served by something else.
    pub fn of(extensions: &Extensions) -> Option<Self> {
        Arrival::of(extensions).map(|arrival| arrival.conn.peer)
    }
}

impl Delivery {
    /// The delivery of a request's answer, by its extensions. Served by something else, nothing is ever lost.
    pub fn of(extensions: &Extensions) -> Self {
        Arrival::of(extensions).map_or_else(Self::default, |arrival| Self::on(arrival.conn.outgoing.clone()))
    }
}

impl Shutdown {
    /// The shutdown of the service that has a request, by its extensions. Served by something else, as in a test, the
    /// one that an `Extension` layer put there.
    pub fn of(extensions: &Extensions) -> Option<Self> {
        Arrival::of(extensions).map(|arrival| &arrival.shutdown).or_else(|| extensions.get()).cloned()
    }
}

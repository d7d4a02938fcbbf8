//! What a handler can ask about the connection its request came on.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::shutdown::Shutdown;

/// The other end of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Peer {
    /// The address the connection comes from.
    pub addr: SocketAddr,
    /// The address it came to.
    pub local: SocketAddr,
}

impl Peer {
    pub(crate) fn new(addr: SocketAddr, local: SocketAddr) -> Self {
        Self { addr, local }
    }
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = http::StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        // Only a router that is served by something else lacks it.
        Peer::of(&parts.extensions).ok_or(http::StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl<S: Sync> FromRequestParts<S> for Shutdown {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        // Served by something else, as in a unit test: a shutdown that never begins.
        Ok(Shutdown::of(&parts.extensions).unwrap_or_else(Shutdown::new))
    }
}

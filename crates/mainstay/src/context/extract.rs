//! Context as arguments of a handler.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::{Context, RequestId, Trace};

/// The context of the request.
impl<S: Sync> FromRequestParts<S> for Context {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Context::current())
    }
}

/// The request's id. Where no pipeline has set one, a new one.
impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Context::current().request_id().copied().unwrap_or_else(RequestId::new))
    }
}

/// The request's trace. Where no pipeline has set one, a new one.
impl<S: Sync> FromRequestParts<S> for Trace {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Context::current().trace().unwrap_or_else(Trace::root))
    }
}

//! Who asks.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use serde_json::{Map, Value};

use super::layer::unauthenticated;

/// Who a request is from. In the request's extensions behind [`Authenticate`](super::Authenticate); an extractor, which
/// refuses with 401 where nobody was authenticated. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal(Arc<Inner>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    name: String,
    scopes: Vec<String>,
    claims: Map<String, Value>,
}

impl Principal {
    /// Somebody of this name, who may do this.
    pub fn new(name: impl Into<String>, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let scopes = scopes.into_iter().map(Into::into).collect();
        Self(Arc::new(Inner { name: name.into(), scopes, claims: Map::new() }))
    }

    /// The same with everything their token says.
    #[must_use]
    pub fn with_claims(self, claims: Map<String, Value>) -> Self {
        let Inner { name, scopes, .. } = &*self.0;
        Self(Arc::new(Inner { name: name.clone(), scopes: scopes.clone(), claims }))
    }

    /// Their name: of the token, or the subject of a JWT.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What they may do.
    pub fn scopes(&self) -> &[String] {
        &self.0.scopes
    }

    /// Whether they may do this.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.0.scopes.iter().any(|own| own == scope)
    }

    /// What their token says of them.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.0.claims.get(name)
    }
}

impl<S: Sync> FromRequestParts<S> for Principal {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let known = parts.extensions.get().cloned();
        known.ok_or_else(|| unauthenticated(None, |refusal| refusal.into_response()))
    }
}

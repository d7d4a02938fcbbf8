//! Lets nobody through who does not say who they are.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use tower::{Layer, Service};

use super::{Denied, Principal, Verify};
use crate::context::Context;
use crate::request::{Gate, Gated, Refusal};

/// Authentication by `Authorization: Bearer …`, as a tower layer; [`Pipeline::authenticate`] puts it in its place.
///
/// Without a token, or with a wrong one: 401 with `WWW-Authenticate: Bearer` (RFC 6750). If it cannot be checked: 503.
/// Else the [`Principal`] is in the request's extensions, and in the field `principal` of every log line.
///
/// [`Pipeline::authenticate`]: crate::request::Pipeline::authenticate
#[derive(Clone)]
#[must_use = "a layer does nothing until it is around something"]
pub struct Authenticate {
    verifiers: Arc<[Arc<dyn Verify>]>,
    optional: bool,
    refuse: fn(Refusal) -> Response,
}

impl Authenticate {
    /// By bearer tokens that `verifier` knows.
    pub fn bearer(verifier: impl Verify) -> Self {
        Self {
            verifiers: Arc::from([Arc::new(verifier) as Arc<dyn Verify>]),
            optional: false,
            refuse: |refusal| refusal.into_response(),
        }
    }

    /// A token that those before do not know may be one that this verifier knows.
    pub fn or(mut self, verifier: impl Verify) -> Self {
        let more = [Arc::new(verifier) as Arc<dyn Verify>];
        self.verifiers = self.verifiers.iter().cloned().chain(more).collect();
        self
    }

    /// Lets requests through that bring no token: handlers that need somebody take a [`Principal`]. A wrong token is
    /// refused all the same.
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    pub(crate) fn refuse_with(mut self, refuse: fn(Refusal) -> Response) -> Self {
        self.refuse = refuse;
        self
    }

    async fn identify(&self, headers: &HeaderMap) -> Result<Option<Principal>, Response> {
        let Some(given) = headers.get(header::AUTHORIZATION) else {
            return if self.optional { Ok(None) } else { Err(unauthenticated(None, self.refuse)) };
        };
        let Some(token) = bearer(given) else {
            return Err(unauthenticated(Some("the header is not `Bearer` with a token"), self.refuse));
        };
        let (mut invalid, mut unavailable) = ("the token is not known", None);
        for verifier in self.verifiers.iter() {
            match verifier.verify(token).await {
                Ok(principal) => return Ok(Some(principal)),
                Err(Denied::Invalid(why)) => invalid = why,
                Err(Denied::Unavailable(why)) => unavailable = Some(why),
            }
        }
        match unavailable {
            Some(why) => {
                tracing::warn!(error = %why, "a token could not be checked");
                let detail = "tokens cannot be checked now; try again";
                let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail);
                let mut response = (self.refuse)(refusal.of_current_request());
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(1));
                Err(response)
            }
            None => Err(unauthenticated(Some(invalid), self.refuse)),
        }
    }
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

/// 401. `wrong` is what is wrong with the token, if there is one.
pub(super) fn unauthenticated(wrong: Option<&'static str>, refuse: fn(Refusal) -> Response) -> Response {
    let detail = wrong.unwrap_or("a bearer token is needed: send `Authorization: Bearer …`");
    let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail);
    let mut response = refuse(refusal.of_current_request());
    let challenge = match wrong {
        Some(wrong) => {
            format!("Bearer error=\"invalid_token\", error_description=\"{}\"", wrong.replace('"', "'"))
        }
        None => "Bearer".to_owned(),
    };
    if let Ok(challenge) = HeaderValue::from_str(&challenge) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

impl<S> Layer<S> for Authenticate {
    type Service = Gated<S, Authenticate>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated::new(inner, self.clone())
    }
}

impl Gate for Authenticate {
    async fn answer<S>(self, mut request: Request<Body>, mut inner: S) -> Result<Response, Infallible>
    where
        S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Send + 'static,
    {
        match self.identify(request.headers()).await {
            Ok(Some(principal)) => {
                Context::current().set("principal", principal.name().to_owned());
                request.extensions_mut().insert(principal);
            }
            Ok(None) => {}
            Err(refused) => return Ok(refused),
        }
        inner.call(request).await
    }
}

impl std::fmt::Debug for Authenticate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = f.debug_struct("Authenticate");
        fields.field("verifiers", &self.verifiers.len()).field("optional", &self.optional).finish()
    }
}

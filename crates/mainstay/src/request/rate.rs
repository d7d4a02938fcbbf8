//! How often one caller may ask.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{Extensions, HeaderName, HeaderValue, Request, StatusCode, header};
use tower::{Layer, Service};

use super::{Gate, Gated, Refusal};
use crate::auth::Principal;
use crate::http::Peer;
use crate::rate::{Decision, RateLimiter};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// A rate limit for each caller, as a tower layer; [`Pipeline::rate_limit`](super::Pipeline::rate_limit) puts it in its
/// place. A caller is the request's [`Principal`]; without one, the address the connection comes from (of IPv6, its /64
/// network, because one host has all of it). Behind a proxy that is the proxy's: authenticate, or limit there.
///
/// Every answer says how things stand, by `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers);
/// over the rate it is 429 with `Retry-After`.
#[derive(Debug, Clone)]
#[must_use = "a layer does nothing until it is around something"]
pub struct CallerRate {
    limiter: RateLimiter,
    refuse: fn(Refusal) -> Response,
    /// The limiter's name as a structured field's string; what cannot be in one is left out.
    name: Arc<str>,
    policy: Option<HeaderValue>,
}

impl CallerRate {
    /// By this limiter.
    pub fn new(limiter: RateLimiter) -> Self {
        let legal = |c: &char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
        let name: String = limiter.name().chars().filter(legal).collect();
        let rate = limiter.rate();
        let policy = format!("\"{name}\";q={};w={}", rate.count(), seconds(rate.per()).max(1));
        let policy = HeaderValue::from_str(&policy).ok();
        Self { limiter, refuse: |refusal| refusal.into_response(), name: name.into(), policy }
    }

    pub(super) fn refuse_with(mut self, refuse: fn(Refusal) -> Response) -> Self {
        self.refuse = refuse;
        self
    }

    fn refusal(&self, decision: &Decision) -> Response {
        let wait = decision.retry_after.unwrap_or(decision.reset);
        let detail = format!("too many requests: try again in {} ms", wait.as_millis().max(1));
        let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "rate-limited", detail);
        let mut response = (self.refuse)(refusal.of_current_request());
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds(wait).max(1)));
        response
    }

    fn stamp(&self, decision: &Decision, response: &mut Response) {
        let state = format!("\"{}\";r={};t={}", self.name, decision.remaining, seconds(decision.reset));
        let headers = [(POLICY, self.policy.clone()), (LIMIT, HeaderValue::from_str(&state).ok())];
        for (header, value) in headers {
            if let Some(value) = value {
                response.headers_mut().insert(header, value);
            }
        }
    }
}

fn caller(extensions: &Extensions) -> String {
    if let Some(principal) = extensions.get::<Principal>() {
        return format!("principal {}", principal.name());
    }
    match extensions.get::<Peer>().map(|peer| peer.addr.ip().to_canonical()) {
        Some(IpAddr::V6(address)) => format!("network {:x}", u128::from(address) >> 64),
        Some(address) => format!("address {address}"),
        None => "unknown".to_owned(),
    }
}

/// Rounded up: who comes back then is not too early.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

impl<S> Layer<S> for CallerRate {
    type Service = Gated<S, CallerRate>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated::new(inner, self.clone())
    }
}

impl Gate for CallerRate {
    async fn answer<S>(self, request: Request<Body>, mut inner: S) -> Result<Response, Infallible>
    where
        S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Send + 'static,
    {
        let decision = self.limiter.check(&caller(request.extensions())).await;
        let mut response =
            if decision.is_allowed() { inner.call(request).await? } else { self.refusal(&decision) };
        self.stamp(&decision, &mut response);
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_one_caller_whichever_of_its_addresses_it_uses() {
        let from = |address: &str| {
            let mut extensions = Extensions::new();
            extensions.insert(Peer::new(address.parse().unwrap(), "127.0.0.1:80".parse().unwrap()));
            caller(&extensions)
        };
        assert_eq!(from("[2001:db8::1]:1"), from("[2001:db8::ffff:2]:9"));
        assert_ne!(from("[2001:db8::1]:1"), from("[2001:db8:0:1::1]:1"));
        assert_eq!(from("192.0.2.1:1"), from("[::ffff:192.0.2.1]:2"));
        assert_ne!(from("192.0.2.1:1"), from("192.0.2.2:1"));
    }
}

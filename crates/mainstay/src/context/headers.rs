//! A context in the headers of HTTP.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use tokio::time::Instant;

use super::{Baggage, Context, Criticality, Inner, Known, RequestId, Trace, TraceState};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
pub(crate) const TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout-ms");
pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
pub(crate) const RETRIES: HeaderName = HeaderName::from_static("x-retry-attempt");
const CRITICALITY: HeaderName = HeaderName::from_static("x-criticality");

/// Beyond a day nobody waits; and the sum must not overflow.
const LONGEST_WAIT_MS: u64 = 86_400_000;

impl Context {
    /// The context of a request, as its caller gave it: `x-request-id`, `traceparent`, `tracestate`, `baggage`,
    /// `x-request-timeout-ms`, `grpc-timeout` (the earlier of both), `x-criticality`, `x-retry-attempt` (retries made
    /// before this one, so that nobody retries a retry). What is missing or not valid is as if it had not been sent: a new
    /// request id, a new trace, no deadline.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let found = Found::among(headers);
        let id = found.request_id.text().and_then(RequestId::parse).unwrap_or_else(RequestId::new);
        // Put together before it is anybody's: `with_…` would move all of it about for each part.
        let mut known = Known { request_id: Some(id), ..Known::default() };
        // The state is worth nothing without its parent.
        known.trace = found.traceparent.text().and_then(Trace::continuing);
        if known.trace.is_some() && found.tracestate {
            let state = joined(headers, TRACESTATE).and_then(|text| TraceState::parse(&text));
            known.trace_state = state.unwrap_or_default();
        }
        known.trace.get_or_insert_with(Trace::root);
        if found.baggage {
            let baggage = joined(headers, BAGGAGE).and_then(|text| Baggage::parse(&text));
            known.baggage = baggage.unwrap_or_default();
        }
        known.criticality = found.criticality.text().and_then(Criticality::parse).unwrap_or_default();
        let retries = found.retries.text().and_then(|text| text.parse::<u16>().ok()).filter(|n| *n > 0);
        known.retries = retries.map_or(0, u32::from);
        known.attempt = retries.map_or(0, |retries| u32::from(retries) + 1);
        let ms = found.timeout.text().and_then(|text| text.parse::<u64>().ok());
        let grpc = found.grpc_timeout.text().and_then(grpc_timeout_ms);
        let limit = ms.into_iter().chain(grpc).min();
        known.deadline = limit.map(|ms| Instant::now() + Duration::from_millis(ms.min(LONGEST_WAIT_MS)));
        Self(Some(Arc::new(Inner { known, ..Inner::default() })))
    }

    /// Writes itself into the headers of an outgoing request. What is there already stays. To gRPC (by the
    /// `content-type`) the time left is told in `grpc-timeout` as well.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        let grpc = is_grpc(headers);
        let mut put = |name: HeaderName, value: Option<HeaderValue>| {
            if let Some(value) = value {
                headers.entry(name).or_insert(value);
            }
        };
        put(REQUEST_ID, self.request_id().and_then(|id| HeaderValue::from_str(id.as_str()).ok()));
        put(TRACEPARENT, self.trace().and_then(|trace| HeaderValue::from_str(&trace.to_string()).ok()));
        put(TRACESTATE, self.trace_state().as_str().and_then(|state| HeaderValue::from_str(state).ok()));
        if !self.baggage().is_empty() {
            put(BAGGAGE, HeaderValue::from_str(&self.baggage().to_string()).ok());
        }
        if self.criticality() != Criticality::default() {
            put(CRITICALITY, Some(HeaderValue::from_static(self.criticality().as_str())));
        }
        let left = self.remaining().map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        put(TIMEOUT, left.map(HeaderValue::from));
        put(GRPC_TIMEOUT, left.filter(|_| grpc).and_then(grpc_timeout));
        put(RETRIES, Some(self.retries()).filter(|retries| *retries > 0).map(HeaderValue::from));
    }

    /// Tells the caller of a request by what it can be found.
    pub(crate) fn stamp(&self, headers: &mut HeaderMap) {
        if let Some(id) = self.request_id().and_then(|id| HeaderValue::from_str(id.as_str()).ok()) {
            headers.insert(REQUEST_ID, id);
        }
        if let Some(trace) = self.trace().and_then(|trace| HeaderValue::from_bytes(&trace.text()).ok()) {
            headers.insert(TRACEPARENT, trace);
        }
    }
}

/// Whether the request is one of gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// So many milliseconds in gRPC's words: at most eight digits (gRPC over HTTP2, "Timeout").
pub(crate) fn grpc_timeout(ms: u64) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("{}m", ms.min(99_999_999))).ok()
}

/// At most eight digits and a unit (gRPC over HTTP2, "Timeout"), in milliseconds.
pub(crate) fn grpc_timeout_ms(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(n * 3_600_000),
        "M" => Some(n * 60_000),
        "S" => Some(n * 1_000),
        "m" => Some(n),
        "u" => Some(n / 1_000),
        "n" => Some(n / 1_000_000),
        _ => None,
    }
}

/// Our headers among a request's, which most requests have none of: one pass costs less than a search for each.
#[derive(Default)]
struct Found<'a> {
    request_id: Sole<'a>,
    traceparent: Sole<'a>,
    criticality: Sole<'a>,
    timeout: Sole<'a>,
    grpc_timeout: Sole<'a>,
    retries: Sole<'a>,
    tracestate: bool,
    baggage: bool,
}

impl<'a> Found<'a> {
    fn among(headers: &'a HeaderMap) -> Self {
        let mut found = Self::default();
        for (name, value) in headers {
            match name.as_str() {
                "x-request-id" => found.request_id.see(value),
                "traceparent" => found.traceparent.see(value),
                "x-criticality" => found.criticality.see(value),
                "x-request-timeout-ms" => found.timeout.see(value),
                "grpc-timeout" => found.grpc_timeout.see(value),
                "x-retry-attempt" => found.retries.see(value),
                "tracestate" => found.tracestate = true,
                "baggage" => found.baggage = true,
                _ => {}
            }
        }
        found
    }
}

/// A header that may stand there once only: two that differ are two answers to one question.
#[derive(Default)]
enum Sole<'a> {
    #[default]
    Missing,
    One(&'a HeaderValue),
    More,
}

impl<'a> Sole<'a> {
    fn see(&mut self, value: &'a HeaderValue) {
        *self = if let Sole::Missing = self { Sole::One(value) } else { Sole::More };
    }

    fn text(&self) -> Option<&'a str> {
        if let Sole::One(value) = self { value.to_str().ok() } else { None }
    }
}

/// A header that is a list, which may stand in several lines.
fn joined(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let mut all = headers.get_all(name).iter();
    let mut text = all.next()?.to_str().ok()?.to_owned();
    for more in all {
        text.push(',');
        text.push_str(more.to_str().ok()?);
    }
    Some(text)
}

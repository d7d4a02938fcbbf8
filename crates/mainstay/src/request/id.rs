//! Who asks: request id, trace, deadline.

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tokio::time::Instant;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout-ms");

/// The id of a request: the caller's `x-request-id` if it is sane (1 to 128 of letters, digits and `._:@/+=-`), else
/// a new one. In every request's extensions, in every response and log line. An extractor.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

/// The W3C trace a request belongs to: the caller's, or a new one. In every request's extensions. An extractor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trace {
    /// The whole trace.
    pub trace_id: u128,
    /// This request's part of it.
    pub span_id: u64,
    /// The caller's part of it; `None` if the trace begins here.
    pub parent_id: Option<u64>,
    /// As the caller gave them; bit 0 says that the trace is recorded.
    pub flags: u8,
}

/// When the caller, or the pipeline, stops waiting. In the extensions of requests that have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub Instant);

/// Both, of one request.
pub(super) struct Identity {
    pub id: RequestId,
    pub trace: Trace,
}

impl Identity {
    /// Reads the caller's, or makes new ones, and puts them into the request.
    pub fn accept<B>(request: &mut Request<B>) -> Self {
        let headers = request.headers();
        let id = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|id| is_sane(id));
        let id =
            RequestId(id.map_or_else(|| format!("{:016x}{:016x}", random(), random()).into(), Into::into));
        let trace = headers.get(TRACEPARENT).and_then(|value| Trace::parse(value.to_str().ok()?));
        let trace = trace.unwrap_or_else(Trace::root);
        request.extensions_mut().insert(id.clone());
        request.extensions_mut().insert(trace);
        Self { id, trace }
    }

    /// Puts them into the response.
    pub fn stamp(&self, headers: &mut HeaderMap) {
        if let Ok(id) = HeaderValue::from_str(&self.id.0) {
            headers.insert(REQUEST_ID, id);
        }
        if let Ok(trace) = HeaderValue::from_str(&self.trace.to_string()) {
            headers.insert(TRACEPARENT, trace);
        }
    }
}

/// The earlier of the caller's and our own time limit.
pub(super) fn deadline<B>(request: &Request<B>, own: Option<Duration>) -> Option<Instant> {
    let asked = request.headers().get(TIMEOUT).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    // Beyond a day nobody waits; and the sum must not overflow.
    let asked = asked.map(|ms| Duration::from_millis(ms.min(86_400_000)));
    let limit = asked.into_iter().chain(own).min()?;
    Some(Instant::now() + limit)
}

fn is_sane(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:@/+=-".contains(&byte);
    (1..=128).contains(&id.len()) && id.bytes().all(allowed)
}

impl RequestId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Trace {
    fn root() -> Self {
        let trace_id = u128::from(random()) << 64 | u128::from(random());
        Self { trace_id: trace_id | 1, span_id: random() | 1, parent_id: None, flags: 1 }
    }

    /// `00-<32 hex>-<16 hex>-<2 hex>`; a later version may have more after it.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let [version, trace, parent, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let lengths = (version.len(), trace.len(), parent.len(), flags.len()) == (2, 32, 16, 2);
        // `from_str_radix` takes capitals and signs, the standard does not.
        let hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let known = version != "ff" && (version != "00" || parts.next().is_none());
        if !lengths || !known || ![version, trace, parent, flags].into_iter().all(hex) {
            return None;
        }
        let trace_id = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
        let parent_id = u64::from_str_radix(parent, 16).ok().filter(|id| *id != 0)?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Some(Self { trace_id, span_id: random() | 1, parent_id: Some(parent_id), flags })
    }
}

/// As a `traceparent` for whoever is called next.
impl std::fmt::Display for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags & 1)
    }
}

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_else(|| RequestId("".into())))
    }
}

impl<S: Sync> FromRequestParts<S> for Trace {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().copied().unwrap_or_else(Trace::root))
    }
}

/// Ids must be unlikely to meet, not secret: a counter through a mixing function, from a random start.
fn random() -> u64 {
    static START: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    let mut z = START.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(name: &'static str, value: &str) -> Identity {
        let mut request = Request::new(());
        request.headers_mut().insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        Identity::accept(&mut request)
    }

    #[test]
    fn sane_ids_are_kept_and_others_replaced() {
        assert_eq!(accepted("x-request-id", "abc-1.2:3").id.as_str(), "abc-1.2:3");
        for bad in ["", "a b", "a\"b", "ä", &"x".repeat(129)] {
            let id = accepted("x-request-id", bad).id;
            assert_eq!(id.as_str().len(), 32, "{bad}: {id}");
        }
    }

    #[test]
    fn a_trace_goes_on_and_a_bad_one_begins_anew() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace = accepted("traceparent", good).trace;
        assert_eq!(trace.trace_id, 0x0af7651916cd43dd8448eb211c80319c);
        assert_eq!(trace.parent_id, Some(0xb7ad6b7169203331));
        assert!(trace.to_string().starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
        for bad in [
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "nonsense",
        ] {
            assert_eq!(accepted("traceparent", bad).trace.parent_id, None, "{bad}");
        }
    }
}

//! Headers for browsers: what makes them careful, and what lets a page read an answer.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// What every answer says unless its handler has said something else: OWASP's recommendations for an API.
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Adds them where they are missing.
pub(super) fn make_careful(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(value);
    }
}

/// What a page may read of an answer, beside the few that every page may.
pub(super) const EXPOSED: &str = "x-request-id, traceparent, retry-after, ratelimit, ratelimit-policy";

/// Lets a page of this origin read an answer that no layer of CORS has seen: one of the fixed steps.
pub(super) fn let_read(headers: &mut HeaderMap, origin: HeaderValue) {
    if headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        return;
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}

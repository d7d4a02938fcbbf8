//! A file in the binary.

use axum::body::Body;
use axum::response::Response;
use axum::routing::{MethodRouter, get};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};

/// A file in the binary, as it is served. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Asset {
    content_type: HeaderValue,
    etag: HeaderValue,
    body: Bytes,
}

/// What a page may do: nothing but what its own files say, and nowhere else.
const HEADERS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    // Kept, but asked about each time: another version of the server is another page.
    (header::CACHE_CONTROL, "no-cache"),
];

impl Asset {
    /// A file of this type.
    pub fn new(content_type: &'static str, body: impl Into<Bytes>) -> Asset {
        let body = body.into();
        let digits: String =
            Sha256::digest(&body).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        // Digits between quotes are always a header's value.
        let etag = HeaderValue::try_from(format!("\"{digits}\"")).unwrap_or(HeaderValue::from_static("\"\""));
        Asset { content_type: HeaderValue::from_static(content_type), etag, body }
    }

    /// Answers every GET with it.
    pub fn route<S: Clone + Send + Sync + 'static>(self) -> MethodRouter<S> {
        get(move |headers: HeaderMap| std::future::ready(self.answer(&headers)))
    }

    fn answer(&self, asked: &HeaderMap) -> Response {
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        for (name, value) in HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::ETAG, self.etag.clone());
        if self.is_known(asked) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        headers.insert(header::CONTENT_TYPE, self.content_type.clone());
        *response.body_mut() = Body::from(self.body.clone());
        response
    }

    fn is_known(&self, asked: &HeaderMap) -> bool {
        let known = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let mut known = known.flat_map(|value| value.split(',')).map(str::trim);
        known
            .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == self.etag.as_bytes())
    }
}

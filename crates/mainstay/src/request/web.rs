//! For browsers: pages of other origins, and compressed answers. By `tower-http`.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderName, HeaderValue, Response as HttpResponse};
use tower::Layer;
use tower::util::MapResponse;
use tower_http::compression::{Compression, CompressionBody, CompressionLayer};
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};

use super::inside::{Added, Place};
use super::{Pipeline, answers};
use crate::pipeline::Step;
use crate::{Error, Result};

/// How long a browser may remember a preflight's answer.
const PREFLIGHT: Duration = crate::secs(600);

impl Pipeline {
    /// Lets pages of these origins (`https://app.example.org`) call, with any method and any header, and read the
    /// answers, also those of the fixed steps (413, 503, 504, the 500 of a panic). They send tokens themselves; cookies
    /// are not let through. Off by default: a browser then keeps pages of other origins out.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config): not an origin. `*` and `null` are none.
    pub fn cors<'a>(mut self, origins: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let origins = origins.into_iter().map(origin).collect::<Result<Vec<_>>>()?;
        self.origins = origins.clone().into();
        let layer = CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins))
            .allow_methods(AllowMethods::mirror_request())
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(answers::EXPOSED.split(", ").map(HeaderName::from_static).collect::<Vec<_>>())
            .max_age(PREFLIGHT);
        let step = Step::new("cors", "outside of authentication, because a preflight brings no token");
        Ok(self.add(Added::new(Place(10), step, layer)))
    }

    /// Compresses answers with gzip for clients that take it: those that are not small, not compressed already, and no
    /// event streams. Off by default.
    #[must_use]
    pub fn compression(self) -> Self {
        let step =
            Step::new("compression", "outside of what refuses, so that every long answer is compressed");
        self.add(Added::new(Place(20), step, Compress))
    }
}

fn origin(text: &str) -> Result<HeaderValue> {
    let uri: Option<http::Uri> = text.parse().ok();
    let bare = !text.ends_with('/') && !text.contains(['@', '?', '#']);
    let is_origin =
        bare && uri.is_some_and(|uri| uri.scheme().is_some() && uri.host().is_some() && uri.path() == "/");
    let value = HeaderValue::from_str(&text.to_ascii_lowercase()).ok().filter(|_| is_origin);
    value.ok_or_else(|| {
        Error::config(format!("cors: `{text}` is not an origin such as https://app.example.org"))
    })
}

#[derive(Clone, Copy)]
struct Compress;

type Compressed = HttpResponse<CompressionBody<Body>>;

impl<S> Layer<S> for Compress {
    type Service = MapResponse<Compression<S>, fn(Compressed) -> Response>;

    fn layer(&self, inner: S) -> Self::Service {
        MapResponse::new(CompressionLayer::new().layer(inner), |response| response.map(Body::new))
    }
}

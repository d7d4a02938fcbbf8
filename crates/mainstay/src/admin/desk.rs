//! What the admin listener answers, without its socket: for the test that has the app in its process.

use std::sync::{Arc, Weak};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::routes;
use crate::app::Core;

#[derive(Clone)]
pub(crate) struct Desk(Weak<Core>);

impl Desk {
    pub fn of(core: &Arc<Core>) -> Self {
        Self(Arc::downgrade(core))
    }

    /// The whole answer; `None` once the app is gone.
    pub async fn ask(&self, request: Request<Body>) -> Option<Response<Bytes>> {
        let router = routes::all(&self.0.upgrade()?);
        let Ok(response) = router.oneshot(request).await;
        let (head, body) = response.into_parts();
        Some(Response::from_parts(head, body.collect().await.ok()?.to_bytes()))
    }
}

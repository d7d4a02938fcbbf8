//! The dashboard: `/ui/`, a page that asks the API every two seconds while somebody looks.

use axum::Router;
use axum::routing::get;

use crate::pages::{Asset, redirect};

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The page and its files.
pub(crate) fn routes() -> Router {
    Router::new()
        .route("/ui", get(|| async { redirect("ui/") }))
        .route("/ui/", Asset::new("text/html; charset=utf-8", include_str!("ui.html")).route())
        .route("/ui/ui.css", Asset::new("text/css; charset=utf-8", include_str!("ui.css")).route())
        .route("/ui/ui.js", Asset::new(JAVASCRIPT, include_str!("ui.js")).route())
        .route("/ui/api.js", Asset::new(JAVASCRIPT, include_str!("api.js")).route())
        .route("/ui/curl.js", Asset::new(JAVASCRIPT, include_str!("curl.js")).route())
        .route("/ui/dom.js", Asset::new(JAVASCRIPT, include_str!("dom.js")).route())
        .route("/ui/views.js", Asset::new(JAVASCRIPT, include_str!("views.js")).route())
        .route("/ui/icon.svg", Asset::new("image/svg+xml", include_str!("icon.svg")).route())
}

//! The API reference: `/docs`, a page that reads `/openapi.json`.

use axum::Router;
use axum::routing::get;

use crate::pages::{Asset, redirect};

/// The page and its files.
pub(crate) fn routes() -> Router {
    Router::new()
        .route("/docs", Asset::new("text/html; charset=utf-8", include_str!("docs.html")).route())
        .route("/docs/", get(|| async { redirect("../docs") }))
        .route("/docs/docs.css", Asset::new("text/css; charset=utf-8", include_str!("docs.css")).route())
        .route("/docs/docs.js", Asset::new("text/javascript; charset=utf-8", include_str!("docs.js")).route())
}

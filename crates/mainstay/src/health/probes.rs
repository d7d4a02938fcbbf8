//! Probes over HTTP.

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, Method, StatusCode, Uri, header};
use serde_json::{Value, json};

use super::{Health, NotReady};
use crate::request::Refusal;

impl Health {
    /// `/livez`, `/readyz` and `/startupz`, each with `?verbose`. They are on the admin listener; merge them into an
    /// API's router if its balancer probes there.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/startupz", get(startupz))
            .method_not_allowed_fallback(wrong_method)
            .with_state(self.clone())
    }
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let detail = format!("{method} is not possible on {}", uri.path());
    let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail);
    refusal.path(uri.path()).of_current_request().into_response()
}

async fn livez(State(health): State<Health>, RawQuery(query): RawQuery) -> Response {
    if health.live() {
        answer(&health, query, StatusCode::OK, json!({ "status": "healthy" }))
    } else {
        let body = json!({ "status": "unhealthy", "reason": "stalled" });
        answer(&health, query, StatusCode::SERVICE_UNAVAILABLE, body)
    }
}

async fn readyz(State(health): State<Health>, RawQuery(query): RawQuery) -> Response {
    let ready = health.ready();
    probe(&health, query, ready)
}

async fn startupz(State(health): State<Health>, RawQuery(query): RawQuery) -> Response {
    if health.started() {
        answer(&health, query, StatusCode::OK, json!({ "status": "started" }))
    } else {
        probe(&health, query, Err(NotReady::Initializing))
    }
}

fn probe(health: &Health, query: Option<String>, ready: Result<(), NotReady>) -> Response {
    match ready {
        Ok(()) => answer(health, query, StatusCode::OK, json!({ "status": "ready" })),
        Err(reason) => {
            let body = json!({ "status": "not_ready", "reason": reason });
            answer(health, query, StatusCode::SERVICE_UNAVAILABLE, body)
        }
    }
}

fn answer(health: &Health, query: Option<String>, status: StatusCode, mut body: Value) -> Response {
    let verbose = query.is_some_and(|query| {
        query.split('&').any(|pair| matches!(pair, "verbose" | "verbose=" | "verbose=true" | "verbose=1"))
    });
    if verbose {
        body["checks"] = json!(health.report());
        body["loops"] = json!(health.loops());
    }
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, body.to_string()).into_response()
}

//! What the admin listener answers.

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use tower::Service;

use crate::app::Core;
use crate::config::to_json;
use crate::log::{AccessLog, Levels};
use crate::request::{Pipeline, Refusal};
use crate::telemetry;

/// A body of administration is a few bytes.
const MAX_BODY: usize = 64 << 10;

/// The probes, always; everything else once `boot` has said who may.
pub(super) fn all(core: &Arc<Core>) -> Router {
    let rest = Router::new().fallback(dispatch).with_state(core.clone());
    // A line for each probe would drown all others.
    let access = core.settings.access_log.min(AccessLog::Errors);
    core.health.router().merge(rest).layer(Pipeline::from_settings(&core.settings).access_log(access))
}

/// What may be put behind authentication.
pub(super) fn guarded(core: &Arc<Core>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/admin/drain", post(drain))
        .route("/admin/log-level", get(log_level).put(set_log_level))
        .route("/admin/config", get(config))
        .with_state(core.clone())
}

/// The pipeline stands before this router is there, and learns from the answer which of its routes it was.
pub(super) async fn tell_route(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}

async fn dispatch(State(core): State<Arc<Core>>, request: Request) -> Response {
    match core.admin.guarded() {
        Some(mut router) => match router.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        None => {
            let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "initializing", "still starting");
            let refusal = refusal.of_current_request().path(request.uri().path());
            ([(header::RETRY_AFTER, "1")], refusal).into_response()
        }
    }
}

async fn metrics(State(core): State<Arc<Core>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = telemetry::Format::accepted(accept);
    core.collector.collect();
    ([(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")], telemetry::render_as(format))
        .into_response()
}

async fn drain(State(core): State<Arc<Core>>) -> Response {
    tracing::info!("drain requested");
    core.shutdown.begin();
    json(StatusCode::ACCEPTED, &json!({ "status": "draining" }))
}

async fn log_level(State(core): State<Arc<Core>>) -> Response {
    json(StatusCode::OK, &json!({ "level": core.log.level().get() }))
}

async fn set_log_level(State(core): State<Arc<Core>>, request: Request) -> Response {
    let declared =
        request.headers().get(header::CONTENT_TYPE).map(|declared| declared.to_str().unwrap_or("?"));
    let media = declared.map(|declared| declared.split(';').next().unwrap_or_default().trim());
    if media.is_some_and(|media| !media.eq_ignore_ascii_case("application/json")) {
        let detail = "the body must be application/json";
        return Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail)
            .into_response();
    }
    let Ok(body) = axum::body::to_bytes(request.into_body(), MAX_BODY).await else {
        return Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large", "the body is too long")
            .into_response();
    };
    let twice =
        serde_json::from_slice::<Once>(&body).is_err_and(|error| error.to_string().starts_with("duplicate"));
    let mut refusal = Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "validation-failed", "a field is wrong");
    let body = match serde_json::from_slice(if body.trim_ascii().is_empty() { b"{}" } else { &body }) {
        Ok(Value::Object(body)) => body,
        Ok(_) => return refusal.field("", "must be an object").into_response(),
        Err(_) => {
            return Refusal::new(StatusCode::BAD_REQUEST, "malformed-body", "the body is not JSON")
                .into_response();
        }
    };
    for unknown in body.keys().filter(|key| *key != "level") {
        refusal =
            refusal.field(format!("/{}", unknown.replace('~', "~0").replace('/', "~1")), "unknown field");
    }
    if twice {
        refusal = refusal.field("/level", "is given twice");
    }
    let level = match body.get("level") {
        Some(Value::String(level)) => Levels::parse(level).map(|levels| (level, levels)),
        Some(_) => Err("must be a string".to_owned()),
        None => Err("is missing".to_owned()),
    };
    match level {
        Ok((level, levels)) if !refusal.has_fields() => {
            core.log.level().set_levels(levels);
            tracing::info!(level, "log level changed");
            log_level(State(core)).await
        }
        Ok(_) => refusal.into_response(),
        Err(_) if twice => refusal.into_response(),
        Err(detail) => refusal.field("/level", detail).into_response(),
    }
}

/// Notices what a map does not: a key that is given twice.
#[derive(serde::Deserialize)]
struct Once {
    #[serde(rename = "level")]
    _level: serde::de::IgnoredAny,
}

async fn config(State(core): State<Arc<Core>>) -> Response {
    json(StatusCode::OK, &to_json(&core.values_now()))
}

fn json(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

//! Every route under `/v1`.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{Method, StatusCode, header};
use mainstay_api::{Code, Problem};

use super::jobs::{admin, claim, enqueue, one, read, settle};
use super::{Api, Call, commit, dead, events, locks, queues, schedules, store, wait, with, workers};
use crate::api::call::Answer;

/// The routes of the contract, in its order. The caller may merge more into the router: what is unknown to all of it is
/// answered by [`fallback`](Router::fallback) here.
pub fn routes(api: Api) -> Router {
    Router::new()
        .route("/v1/store", get(with(store::info)))
        // jobs: making, taking, ending
        .route("/v1/queues/{queue}/jobs", post(with(enqueue::one)))
        .route("/v1/queues/{queue}/jobs/bulk", post(with(enqueue::bulk)))
        .route("/v1/jobs/claim", post(with(claim::claim)))
        .route("/v1/jobs/settle", post(with(settle::settle)))
        .route("/v1/jobs/{id}/extend", post(with(one::extend)))
        .route("/v1/jobs/{id}/complete", post(with(one::complete)))
        .route("/v1/jobs/{id}/fail", post(with(one::fail)))
        .route("/v1/jobs/{id}/release", post(with(one::release)))
        // jobs: looking, and from outside
        .route("/v1/jobs", get(with(read::list)))
        .route("/v1/jobs/{id}", get(with(read::one)).delete(with(admin::delete)))
        .route("/v1/jobs/{id}/result", get(with(read::result)))
        .route("/v1/jobs/{id}/cancel", post(with(admin::cancel)))
        .route("/v1/jobs/{id}/retry", post(with(admin::retry)))
        // queues and their dead letters
        .route("/v1/queues", get(with(queues::list)))
        .route(
            "/v1/queues/{queue}",
            get(with(queues::one)).put(with(queues::put)).delete(with(queues::delete)),
        )
        .route("/v1/queues/{queue}/pause", post(with(queues::pause)))
        .route("/v1/queues/{queue}/resume", post(with(queues::resume)))
        .route("/v1/queues/{queue}/purge", post(with(queues::purge)))
        .route("/v1/queues/{queue}/dead", get(with(dead::list)))
        .route("/v1/queues/{queue}/dead/requeue", post(with(dead::requeue)))
        .route("/v1/queues/{queue}/dead/delete", post(with(dead::delete)))
        // locks; one may be called as the route of many renewals
        .route("/v1/locks", get(with(locks::read::list)))
        .route("/v1/locks/{name}", get(with(locks::read::one)).delete(with(locks::force::force)))
        .route("/v1/locks/{name}/acquire", post(with(locks::acquire::acquire)))
        .route("/v1/locks/{name}/withdraw", post(with(locks::acquire::withdraw)))
        .route("/v1/locks/{name}/renew", post(with(locks::hold::renew)))
        .route("/v1/locks/{name}/release", post(with(locks::hold::release)))
        .route("/v1/locks/{name}/check", post(with(locks::read::check)))
        .route(
            "/v1/locks/renew",
            post(with(locks::hold::renew_many)).get(with(locks::read::one)).delete(with(locks::force::force)),
        )
        // waiting without taking
        .route("/v1/wait", post(with(wait::wait)))
        // events, topics, consumer groups
        .route("/v1/topics", get(with(events::topics)))
        .route(
            "/v1/topics/{topic}",
            get(with(events::topic)).put(with(events::put_topic)).delete(with(events::delete_topic)),
        )
        .route("/v1/topics/{topic}/events", post(with(events::publish)).get(with(events::events)))
        .route("/v1/events", get(with(events::log)))
        .route("/v1/events/stream", get(with(events::stream)))
        .route("/v1/events/release", post(with(events::release)))
        .route("/v1/groups", get(with(events::groups)))
        .route(
            "/v1/groups/{group}",
            get(with(events::group)).put(with(events::put_group)).delete(with(events::delete_group)),
        )
        .route("/v1/groups/{group}/fetch", post(with(events::fetch)))
        .route("/v1/groups/{group}/settle", post(with(events::settle)))
        .route("/v1/groups/{group}/seek", post(with(events::seek)))
        .route("/v1/groups/{group}/dead", get(with(events::dead)))
        .route("/v1/groups/{group}/dead/requeue", post(with(events::requeue)))
        // schedules, and who works
        .route("/v1/schedules", get(with(schedules::list)))
        .route(
            "/v1/schedules/{schedule}",
            get(with(schedules::one)).put(with(schedules::put)).delete(with(schedules::delete)),
        )
        .route("/v1/schedules/{schedule}/trigger", post(with(schedules::trigger)))
        .route("/v1/schedules/{schedule}/pause", post(with(schedules::pause)))
        .route("/v1/schedules/{schedule}/resume", post(with(schedules::resume)))
        .route("/v1/workers", get(with(workers::list)))
        // one commit for everything
        .route("/v1/commit", post(with(commit::commit)))
        .method_not_allowed_fallback(wrong_method)
        .fallback(with(unknown))
        .with_state(api)
}

async fn unknown(call: Call) -> Answer {
    Err(Problem::new(Code::NotFound, format!("no route {}", call.parts.uri.path())))
}

/// The methods there are stand in `Allow`, which the router adds.
async fn wrong_method(State(api): State<Api>, request: Request) -> Response {
    if request.method() == Method::OPTIONS {
        let (parts, _) = request.into_parts();
        let mut response = StatusCode::NO_CONTENT.into_response();
        // A browser asks before it lets a page of an allowed origin call.
        if let Ok(Some(origin)) = api.origins.admit(&parts) {
            let headers = response.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            for (name, value) in PREFLIGHT {
                headers.insert(name, http::HeaderValue::from_static(value));
            }
        }
        return response;
    }
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let call = with(move |_| {
        let problem = Problem::new(Code::MethodNotAllowed, format!("{method} is not possible on {path}"));
        std::future::ready(Err(problem))
    });
    call(State(api), request).await
}

const PREFLIGHT: [(header::HeaderName, &str); 4] = [
    (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, DELETE"),
    (
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        "authorization, content-type, idempotency-key, traceparent, x-request-id, x-request-timeout-ms",
    ),
    (header::ACCESS_CONTROL_MAX_AGE, "600"),
    (header::VARY, "origin"),
];

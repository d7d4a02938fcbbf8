//! What a browser can look at: `/ui/`, `/docs`, and the `/openapi.json` they are about.
//!
//! All of it is in the binary, asks no other host for anything, and is open to everybody: it says what every server of
//! this version says. What a page shows beyond that it asks the API for, with the token of whoever looks.

mod asset;

use std::net::SocketAddr;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use mainstay::context::{Context, RequestId};
use mainstay_api::{Code, Problem};

pub(crate) use self::asset::Asset;
use crate::api::error;
use crate::{docs, openapi, ui};

/// The pages' routes; `admin` is where the admin listener is.
pub fn routes(admin: Option<SocketAddr>) -> Router {
    let document = Asset::new("application/json", openapi::document(admin).to_string());
    Router::new()
        .route("/openapi.json", document.route())
        .merge(docs::routes())
        .merge(ui::routes())
        .route("/", get(root))
        .method_not_allowed_fallback(wrong_method)
}

/// Leads on to `to`, relative to the path asked for, so that it holds behind a proxy that adds a prefix.
pub(crate) fn redirect(to: &'static str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, to), (header::CACHE_CONTROL, "no-cache")]).into_response()
}

/// A person is shown the dashboard; for a program there is nothing here.
async fn root(request: Request) -> Response {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("text/html")) {
        return redirect("ui/");
    }
    let detail = "there is nothing here: the API begins at /v1 and is described by /openapi.json";
    problem(Problem::new(Code::NotFound, detail), request.uri().path())
}

async fn wrong_method(request: Request) -> Response {
    let detail = format!("{} is not possible on {}", request.method(), request.uri().path());
    problem(Problem::new(Code::MethodNotAllowed, detail), request.uri().path())
}

/// A problem of the request that is being handled.
pub(crate) fn problem(problem: Problem, path: &str) -> Response {
    let context = Context::current();
    error::answer(problem, path, context.request_id().map_or("", RequestId::as_str))
}

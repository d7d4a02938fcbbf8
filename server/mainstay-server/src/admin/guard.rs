//! Who may use the admin listener, and how it says no.

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use http::{Method, StatusCode, header};
use mainstay::context::{Context, RequestId};
use mainstay::core::access::{AuditRecord, ScopeKind};
use mainstay::core::op::{Commit, Op};
use mainstay::core::store::Batch;
use mainstay::request::Refusal;
use mainstay_api::query::Query;
use mainstay_api::{Code, Problem};

use crate::api::{Api, error};
use crate::auth::Caller;

/// Everything behind authentication; unknown paths and refusals in the words of the contract.
pub(super) fn guarded(router: Router, api: Api) -> Router {
    let router = router.fallback(unknown).method_not_allowed_fallback(wrong_method);
    router.layer(from_fn_with_state(api, guard))
}

async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let uri = request.uri().clone();
    let context = Context::current();
    let id = context.request_id().map_or("", RequestId::as_str);
    let refused = |problem| error::answer(problem, uri.path(), id);
    let (parts, body) = request.into_parts();
    if let Err(problem) = api.origins.admit(&parts) {
        return refused(problem);
    }
    let caller = match api.tokens.identify(parts.headers.get(header::AUTHORIZATION)) {
        Ok(caller) => caller,
        Err(problem) => return refused(problem),
    };
    let needed = if uri.path() == "/metrics" { ScopeKind::Read } else { ScopeKind::Admin };
    if let Err(problem) = caller.must_always(needed) {
        return refused(problem);
    }
    // The server's own routes read their queries themselves; those of the chassis have none.
    let of_the_chassis =
        matches!(uri.path(), "/metrics" | "/admin/drain" | "/admin/log-level" | "/admin/config");
    if of_the_chassis && let Err(problem) = Query::new(uri.query().unwrap_or_default(), &[]).finish(()) {
        return refused(problem);
    }
    let action = audited(&parts.method, uri.path());
    let response = next.run(Request::from_parts(parts, body)).await;
    if let Some(action) = action.filter(|_| response.status().is_success()) {
        record(&api, &caller, action, id).await;
    }
    match response.extensions().get::<Refusal>() {
        Some(refusal) => {
            let mut refusal = refusal.clone();
            refusal.path = Some(uri.path().to_owned());
            refusal.request_id = Some(id.to_owned());
            error::refuse(refusal)
        }
        None => response,
    }
}

/// What the chassis does that the audit trail tells of. The server's own routes write their lines themselves.
fn audited(method: &Method, path: &str) -> Option<&'static str> {
    match (method.as_str(), path) {
        ("POST", "/admin/drain") => Some("server.drain"),
        ("PUT", "/admin/log-level") => Some("server.log-level"),
        _ => None,
    }
}

/// The deed is done: a line that cannot be written is a warning, not a failure.
async fn record(api: &Api, caller: &Caller, action: &str, id: &str) {
    let record = AuditRecord {
        at: api.store.now().wall,
        actor: caller.actor().to_owned(),
        action: action.to_owned(),
        subject: "server".to_owned(),
        detail: id.to_owned(),
    };
    let commit = Commit::of(Op::Audit(record), api.store.entropy());
    let batch = Batch { commits: vec![commit], within: Some(mainstay::secs(1)) };
    if let Err(error) = api.store.store().submit(batch).await {
        tracing::warn!(%error, action, "the audit trail could not be written");
    }
}

async fn unknown(request: Request) -> Response {
    let problem = Problem::new(Code::NotFound, format!("no route {}", request.uri().path()));
    answer(problem, &request)
}

async fn wrong_method(request: Request) -> Response {
    if request.method() == Method::OPTIONS {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        return response;
    }
    let detail = format!("{} is not possible on {}", request.method(), request.uri().path());
    answer(Problem::new(Code::MethodNotAllowed, detail), &request)
}

fn answer(problem: Problem, request: &Request) -> Response {
    let context = Context::current();
    error::answer(problem, request.uri().path(), context.request_id().map_or("", RequestId::as_str))
}

//! What goes wrong, in the words of the wire: the only place that knows which code stands for which reason.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use mainstay::StoreError;
use mainstay::core::error::{Applied, Error, ErrorKind};
use mainstay::core::lock::LockWaiting;
use mainstay::core::op::{Failure, Place as At, Reason, Rejection, WrongAfter};
use mainstay::request::Refusal;
use mainstay_api::types::ItemError;
use mainstay_api::{Code, FieldError, Outcome, PROBLEM_JSON, Place, Problem, Timestamp};

/// What the ops of a commit are called in the request it was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The request is the op.
    Single,
    /// They are the elements of `jobs`.
    Jobs,
    /// They are the elements of `ops`.
    Ops,
}

/// The code of a store's no.
pub(crate) fn code(reason: &Reason) -> Code {
    match reason {
        Reason::NotFound(_) => Code::NotFound,
        Reason::LeaseLost | Reason::TimeIsUp { .. } => Code::LeaseLost,
        Reason::AlreadySettled => Code::AlreadySettled,
        Reason::StateConflict(_) => Code::StateConflict,
        // A line of waiters is a bounded queue as well.
        Reason::QueueFull { .. } | Reason::QueueBehind { .. } | Reason::LocksFull { .. } => Code::QueueFull,
        Reason::LockHeld(_) => Code::LockHeld,
        Reason::LockLost => Code::LockLost,
        Reason::IdempotencyMismatch => Code::IdempotencyMismatch,
        Reason::IdInOtherQueue(_) | Reason::Invalid { .. } | Reason::After(_) => Code::ValidationFailed,
    }
}

fn of_op(index: usize, shape: Shape) -> String {
    match shape {
        Shape::Single => String::new(),
        Shape::Jobs => format!("/jobs/{index}"),
        Shape::Ops => format!("/ops/{index}"),
    }
}

/// A store's no to a request.
pub(crate) fn rejected(rejection: &Rejection, shape: Shape) -> Problem {
    let Rejection { at, reason } = rejection;
    let at = match (at, shape) {
        (At::Require(index), _) => {
            let pointer = format!("/require/{index}");
            let error = FieldError::new(pointer, format!("does not hold: {reason}"));
            let detail = format!("require {index} does not hold");
            return Problem::new(Code::StateConflict, detail).with_errors(vec![error]);
        }
        (At::Op(index), _) => of_op(*index, shape),
        (At::Commit, _) => String::new(),
    };
    let field = match reason {
        // Which queue is not for everybody to know.
        Reason::IdInOtherQueue(_) => Some(("id", "a job with this id exists in another queue".to_owned())),
        Reason::Invalid { field, detail } => Some((*field, detail.clone())),
        _ => None,
    };
    if let Reason::After(wrong) = reason {
        let error = |wrong: &WrongAfter| {
            FieldError::new(format!("{}/after/{}", of_op(wrong.op, shape), wrong.at), wrong.detail)
        };
        return Problem::invalid(wrong.iter().map(error).collect());
    }
    if let Reason::LockHeld(held) = reason {
        return lock_held(held);
    }
    let code = code(reason);
    let problem = match field {
        Some((field, detail)) => Problem::invalid(vec![FieldError::new(format!("{at}/{field}"), detail)]),
        None if at.is_empty() => Problem::new(code, reason.to_string()),
        None => {
            let error = FieldError::new(at, reason.to_string()).with_code(code);
            Problem::new(code, reason.to_string()).with_errors(vec![error])
        }
    };
    match reason {
        Reason::QueueFull { retry_ms, .. } | Reason::QueueBehind { retry_ms, .. } => {
            problem.with_retry_after(Duration::from_millis(*retry_ms))
        }
        _ => problem,
    }
}

/// Somebody else has the lock, or waits for it already.
pub(crate) fn lock_held(held: &LockWaiting) -> Problem {
    let mut problem =
        Problem::new(Code::LockHeld, format!("lock `{}` is held by `{}`", held.name, held.holder));
    problem.holder = Some(held.holder.to_string());
    problem.expires_at = Some(Timestamp(held.expires_at.0));
    problem.waiters = Some(held.waiters);
    problem
}

/// Why a commit has no answer.
pub(crate) fn of_commit(failure: &Failure, shape: Shape) -> Problem {
    match failure {
        Failure::Rejected(rejection) => rejected(rejection, shape),
        Failure::Failed(error) => failed(error),
    }
}

/// Why one item of many has no answer.
pub(crate) fn item(failure: &Failure) -> ItemError {
    match failure {
        Failure::Rejected(Rejection { reason, .. }) => {
            ItemError { code: code(reason), detail: reason.to_string() }
        }
        Failure::Failed(error) => {
            let problem = failed(error);
            ItemError { code: problem.code, detail: problem.detail.clone() }
        }
    }
}

/// One item of many, whose answer makes no sense.
pub(crate) fn item_bug() -> ItemError {
    tracing::error!("the store answered a settle with something else");
    ItemError { code: Code::Internal, detail: "something went wrong here".to_owned() }
}

/// A store's trouble.
pub(crate) fn failed(error: &Error) -> Problem {
    let code = match error.kind() {
        ErrorKind::Overloaded => Code::Overloaded,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Closed => Code::Draining,
        ErrorKind::NotSupported => Code::NotSupported,
        ErrorKind::Invalid => {
            return Problem::invalid(vec![FieldError::outside(Place::Query, "cursor", error.to_string())]);
        }
        // `Untrusted` too: what the store cannot vouch for is not acknowledged.
        _ => Code::StorageUnavailable,
    };
    let outcome = match error.applied() {
        Applied::No => Outcome::NotApplied,
        Applied::Unknown => Outcome::Unknown,
    };
    tracing::debug!(%error, "the store failed a request");
    // The store's words are for whoever calls it in their own program.
    let detail = match (code, outcome) {
        (Code::DeadlineExceeded, Outcome::NotApplied) => {
            "the time limit of the request (`x-request-timeout-ms`, else the server's) passed before anything was done; \
             allow more"
                .to_owned()
        }
        (Code::DeadlineExceeded, _) => {
            "the time limit of the request (`x-request-timeout-ms`, else the server's) passed while the store was at it; \
             look, or send it again under its `Idempotency-Key`"
                .to_owned()
        }
        _ => error.to_string(),
    };
    Problem::new(code, detail).with_outcome(outcome)
}

/// A store's no or trouble.
pub(crate) fn store(error: &StoreError) -> Problem {
    match (error.rejection(), error.failure()) {
        (Some(rejection), _) => rejected(rejection, Shape::Single),
        (None, Some(failure)) => failed(failure),
        (None, None) => internal("a store's error that says nothing"),
    }
}

/// A bug of ours: the log says what, the caller learns nothing.
pub(crate) fn internal(what: &str) -> Problem {
    tracing::error!(what, "internal error");
    Problem::new(Code::Internal, "something went wrong here; the log of the server says more")
}

/// There is no such thing.
pub(crate) fn not_found(what: &'static str) -> Problem {
    Problem::new(Code::NotFound, Reason::NotFound(what).to_string())
}

/// The answer, once path and id of the request are known.
pub(crate) fn answer(mut problem: Problem, path: &str, request_id: &str) -> Response {
    problem.instance = path.to_owned();
    problem.request_id = request_id.to_owned();
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    match problem.code {
        Code::Unauthenticated => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Code::QueueFull
        | Code::RateLimited
        | Code::Overloaded
        | Code::Initializing
        | Code::Draining
        | Code::StorageUnavailable => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(problem.retry_after.unwrap_or(1)));
        }
        _ => {}
    }
    response
}

/// What the pipeline or the chassis did not let through, in our words.
pub(crate) fn refuse(refusal: Refusal) -> Response {
    let code = match refusal.code {
        // The contract's code for what is no request at all.
        "malformed-request" => Code::MalformedBody,
        code => Code::parse(code),
    };
    let mut problem = Problem::new(code, refusal.detail);
    if code == Code::Other {
        // Whatever it is, it was not let through: whoever asked shall come back.
        problem = Problem::new(Code::Overloaded, problem.detail.clone());
    }
    let outcome = if refusal.may_have_applied { Outcome::Unknown } else { Outcome::NotApplied };
    let errors = refusal.fields.into_iter().map(|(pointer, detail)| FieldError::new(pointer, detail));
    let problem = problem.with_outcome(outcome).with_errors(errors.collect());
    answer(
        problem,
        refusal.path.as_deref().unwrap_or_default(),
        refusal.request_id.as_deref().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(at: At, reason: Reason, shape: Shape) -> (u16, Code, String) {
        let problem = rejected(&Rejection { at, reason }, shape);
        let pointer = problem.errors.first().map_or(String::new(), |error| error.pointer.clone());
        (problem.status, problem.code, pointer)
    }

    #[test]
    fn what_is_wrong_with_an_op_keeps_its_code_and_gets_its_pointer() {
        let full = || Reason::QueueFull { queue: "q".parse().unwrap(), max_depth: 1, retry_ms: 1_000 };
        let rows = [
            (At::Op(0), Reason::LeaseLost, Shape::Single, (409, Code::LeaseLost, "")),
            (At::Op(3), Reason::LeaseLost, Shape::Ops, (409, Code::LeaseLost, "/ops/3")),
            (At::Op(3), Reason::NotFound("job"), Shape::Ops, (404, Code::NotFound, "/ops/3")),
            (At::Op(2), full(), Shape::Jobs, (429, Code::QueueFull, "/jobs/2")),
            (
                At::Op(2),
                Reason::After(vec![WrongAfter { op: 2, at: 3, detail: "no" }]),
                Shape::Jobs,
                (422, Code::ValidationFailed, "/jobs/2/after/3"),
            ),
            (
                At::Op(0),
                Reason::After(vec![WrongAfter { op: 0, at: 0, detail: "no" }]),
                Shape::Single,
                (422, Code::ValidationFailed, "/after/0"),
            ),
            (At::Require(1), Reason::LeaseLost, Shape::Ops, (409, Code::StateConflict, "/require/1")),
            (At::Commit, Reason::IdempotencyMismatch, Shape::Ops, (422, Code::IdempotencyMismatch, "")),
            (
                At::Op(0),
                Reason::IdInOtherQueue("q".parse().unwrap()),
                Shape::Single,
                (422, Code::ValidationFailed, "/id"),
            ),
        ];
        for (at, reason, shape, (status, code, pointer)) in rows {
            assert_eq!(problem(at, reason, shape), (status, code, pointer.to_owned()));
        }
    }

    #[test]
    fn a_store_in_trouble_says_what_is_known_of_the_effect() {
        let no = failed(&Error::new(ErrorKind::Unavailable, "disk full"));
        assert_eq!((no.status, no.outcome, no.retryable), (503, Outcome::NotApplied, true));
        let unknown = failed(&Error::unknown(ErrorKind::Untrusted, "sync failed"));
        assert_eq!((unknown.status, unknown.outcome), (503, Outcome::Unknown));
        assert_eq!(failed(&Error::new(ErrorKind::DeadlineExceeded, "late")).status, 504);
        assert_eq!(failed(&Error::new(ErrorKind::Overloaded, "full")).code, Code::Overloaded);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shed_request_is_told_so_in_the_words_of_the_contract() {
        use axum::{Router, routing::get};
        use mainstay::admission::{Admission, AdmissionRules};
        use mainstay::request::Pipeline;
        use tower::ServiceExt;

        let rules = AdmissionRules { initial: 1, max: 1, max_wait_ms: 100, ..AdmissionRules::default() };
        let admission = Admission::new("api", rules).unwrap();
        let pipeline = Pipeline::default().admission(admission.clone()).refuse_with(refuse);
        let router = Router::new().route("/v1/store", get(|| async { "{}" })).layer(pipeline);
        let request =
            || http::Request::get("/v1/store").header("x-request-id", "r-1").body(Body::empty()).unwrap();

        let held = admission.admit().await.unwrap();
        let shed = router.clone().oneshot(request()).await.unwrap();
        assert_eq!(shed.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(shed.headers()[header::RETRY_AFTER], "1");
        assert_eq!(shed.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
        let body = axum::body::to_bytes(shed.into_body(), 10_000).await.unwrap();
        let problem: Problem = serde_json::from_slice(&body).unwrap();
        assert_eq!((problem.code, problem.status, problem.retryable), (Code::Overloaded, 503, true));
        assert_eq!(problem.outcome, Outcome::NotApplied);
        assert_eq!((problem.instance.as_str(), problem.request_id.as_str()), ("/v1/store", "r-1"));

        held.done();
        assert_eq!(router.oneshot(request()).await.unwrap().status(), StatusCode::OK);
    }
}

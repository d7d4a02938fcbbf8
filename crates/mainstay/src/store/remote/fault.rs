//! What a server's no, or its silence, means at the seam.

use mainstay_api::{
    Code, Outcome, Problem,
    client::{ApiError, ErrorKind as Api},
};
use mainstay_core::{
    Error, ErrorKind,
    event::EventOp,
    name::QueueName,
    op::{Failure, Op, Place, Reason, Rejection, Require},
};

use super::locks;
use crate::job::ms;

/// When to come back to a full queue, if a server does not say.
const RETRY_MS: u64 = 1_000;

/// Why a call that was this op, in a commit of its own, has no answer.
pub(super) fn of_op(error: &ApiError, op: &Op) -> Failure {
    // Who holds a lock is beside the code.
    if let Op::Lock(lock_op) = op
        && let Ok(Some(held)) = locks::held(error, lock_op.name())
    {
        return Rejection { at: Place::Op(0), reason: Reason::LockHeld(Box::new(held)) }.into();
    }
    let ops = std::slice::from_ref(op);
    let rejection = error.problem().and_then(|problem| rejection(problem, &[], ops, Place::Op(0)));
    rejected(rejection, error)
}

fn rejected(rejection: Option<Rejection>, error: &ApiError) -> Failure {
    let Some(mut rejection) = rejection else { return trouble(error).into() };
    // When to come back is beside the problem.
    if let Reason::QueueFull { retry_ms, .. } = &mut rejection.reason
        && let Some(after) = error.retry_after()
    {
        *retry_ms = ms(after);
    }
    rejection.into()
}

/// Why a commit of these ops has no answer.
pub(super) fn of_commit(error: &ApiError, require: &[Require], ops: &[Op]) -> Failure {
    rejected(error.problem().and_then(|problem| rejection(problem, require, ops, Place::Commit)), error)
}

/// Why one item of many has no answer.
pub(super) fn of_item(code: Code, detail: &str, op: &Op) -> Failure {
    let reason = reason(code, detail, op);
    match reason {
        Some(reason) => Rejection { at: Place::Op(0), reason }.into(),
        None => trouble_of(&Problem::new(code, detail)).into(),
    }
}

fn rejection(problem: &Problem, requires: &[Require], ops: &[Op], elsewhere: Place) -> Option<Rejection> {
    let pointer = problem.errors.first().map_or("", |error| error.pointer.as_str());
    let number = |prefix: &str| {
        let rest = pointer.strip_prefix(prefix)?;
        let (number, field) = rest.split_once('/').unwrap_or((rest, ""));
        Some((number.parse::<usize>().ok()?, field))
    };
    if let Some((require, _)) = number("/require/")
        && problem.code == Code::StateConflict
    {
        let reason = match requires.get(require) {
            Some(Require::Lock { .. }) => Reason::LockLost,
            _ => Reason::LeaseLost,
        };
        return Some(Rejection { at: Place::Require(require), reason });
    }
    let (at, field) = match number("/ops/").or_else(|| number("/jobs/")) {
        Some((op, field)) => (Place::Op(op), field),
        None if problem.code == Code::IdempotencyMismatch => (Place::Commit, ""),
        None => (elsewhere, pointer.trim_start_matches('/')),
    };
    let op = match at {
        Place::Op(op) => ops.get(op)?,
        _ => ops.first()?,
    };
    let reason = match problem.code {
        Code::ValidationFailed | Code::PayloadTooLarge => {
            let detail = problem.errors.first().map_or(&problem.detail, |error| &error.detail);
            Reason::Invalid { field: known(field), detail: detail.clone() }
        }
        code => reason(code, &problem.detail, op)?,
    };
    Some(Rejection { at, reason })
}

fn reason(code: Code, detail: &str, op: &Op) -> Option<Reason> {
    Some(match code {
        Code::NotFound => Reason::NotFound(match op {
            Op::SetPaused { .. } | Op::Purge { .. } | Op::DeleteQueue { .. } => "queue",
            Op::Lock(_) => "lock",
            Op::Event(EventOp::DeleteTopic { .. } | EventOp::PutTopic { .. }) => "topic",
            Op::Event(_) => "group",
            Op::Schedule(_) => "schedule",
            _ => "job",
        }),
        Code::LockLost => Reason::LockLost,
        Code::LeaseLost => Reason::LeaseLost,
        Code::AlreadySettled => Reason::AlreadySettled,
        Code::StateConflict => Reason::StateConflict(detail.to_owned()),
        Code::IdempotencyMismatch => Reason::IdempotencyMismatch,
        Code::QueueFull => match op {
            Op::Lock(op) => Reason::LocksFull {
                lock: op.name().clone(),
                what: if detail.contains("grants") { "grants" } else { "waiters" },
                limit: depth_in(detail),
            },
            op => Reason::QueueFull { queue: queue_of(op)?, max_depth: depth_in(detail), retry_ms: RETRY_MS },
        },
        _ => return None,
    })
}

fn queue_of(op: &Op) -> Option<QueueName> {
    match op {
        Op::Enqueue(job) => Some(job.queue.clone()),
        _ => None,
    }
}

/// The bound is in the words alone: ``queue `q` holds N waiting jobs``.
fn depth_in(detail: &str) -> u64 {
    detail.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or(0)
}

/// The field's name for a program; one that is not known here is in the detail.
fn known(field: &str) -> &'static str {
    const FIELDS: [&str; 32] = [
        "kind",
        "id",
        "payload",
        "priority",
        "run_at",
        "delay_ms",
        "max_attempts",
        "max_crashes",
        "backoff",
        "timeout_ms",
        "expires_at",
        "unique",
        "tags",
        "meta",
        "queues",
        "lease_ms",
        "owner",
        "ttl_ms",
        "wait_ms",
        "permits",
        "max",
        "topics",
        "ack_wait_ms",
        "max_deliver",
        "max_in_flight",
        "retention",
        "schema",
        "cron",
        "timezone",
        "source",
        "type",
        "subject",
    ];
    // Of an event in a commit, of a job in a schedule.
    let field = field.strip_prefix("event/").or_else(|| field.strip_prefix("job/")).unwrap_or(field);
    FIELDS
        .into_iter()
        .find(|known| field == *known || field.starts_with(&format!("{known}/")))
        .unwrap_or("request")
}

/// The server could not judge it, was not reached, or does not let us.
pub(super) fn trouble(error: &ApiError) -> Error {
    if let Some(problem) = error.problem() {
        return trouble_of(problem);
    }
    let kind = match error.kind() {
        Api::Url => ErrorKind::Invalid,
        Api::Deadline => ErrorKind::DeadlineExceeded,
        _ => ErrorKind::Unavailable,
    };
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        message.push_str(": ");
        message.push_str(&error.to_string());
        cause = error.source();
    }
    made(kind, error.outcome(), message)
}

fn trouble_of(problem: &Problem) -> Error {
    let kind = match problem.code {
        Code::Overloaded | Code::RateLimited | Code::QueueFull => ErrorKind::Overloaded,
        Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
        Code::NotSupported => ErrorKind::NotSupported,
        // Another will be there soon.
        Code::Initializing | Code::Draining | Code::StorageUnavailable | Code::Internal => {
            ErrorKind::Unavailable
        }
        // Who we are, what we may, what we said: asking again changes nothing.
        _ => ErrorKind::Invalid,
    };
    let detail = match problem.errors.first() {
        Some(error) => format!("{} ({})", problem.detail, error.detail),
        None => problem.detail.clone(),
    };
    made(kind, problem.outcome, format!("the server says {}: {detail}", problem.code))
}

fn made(kind: ErrorKind, outcome: Outcome, message: String) -> Error {
    match outcome {
        Outcome::NotApplied => Error::new(kind, message),
        Outcome::Unknown => Error::unknown(kind, message),
    }
}

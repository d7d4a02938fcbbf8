//! One commit for everything: `POST /v1/commit`.

use std::sync::Arc;

use http::StatusCode;
use mainstay::core::access::ScopeKind;
use mainstay::core::job::Outcome;
use mainstay::core::lease::Token;
use mainstay::core::lock::{LockOp, LockReply};
use mainstay::core::name::Name;
use mainstay::core::op::{self, Op, Reply};
use mainstay_api::types::{self as wire, CommitOp, CommitResult, Committed, Released, StateAnswer};
use mainstay_api::{Code, FieldError, Problem};

use super::call::{Answer, Call};
use super::error::Shape;
use super::{convert, error, jobs, json};

pub(crate) async fn commit(call: Call) -> Answer {
    let mut input = call.input();
    input.keyed();
    let body = input.body::<wire::Commit>()?;
    let (body, keyed) = input.finish(body)?;
    let mut require = Vec::with_capacity(body.require.len());
    for (index, required) in body.require.iter().enumerate() {
        require.push(requirement(&call, index, required).await?);
    }
    let trace = call.traceparent().map(Arc::from);
    let mut ops = Vec::with_capacity(body.ops.len());
    for (index, op) in body.ops.into_iter().enumerate() {
        // What is wrong with an op keeps its own code, and says which op it is about.
        ops.push(one(&call, op, trace.as_ref()).await.map_err(|problem| at(problem, index))?);
    }
    let key = keyed.map(|keyed| keyed.whole());
    let commit = op::Commit { key, require, ops, entropy: call.api.store.entropy() };
    let committed = call.commit(commit, Shape::Ops).await?;
    let results: Option<Vec<_>> = committed.replies.iter().map(result).collect();
    match results {
        Some(results) => json(StatusCode::OK, &Committed { results }),
        None => Err(error::internal("the store answered a commit with something else")),
    }
}

async fn requirement(call: &Call, index: usize, required: &wire::Require) -> Result<op::Require, Problem> {
    match required {
        wire::Require::Job { job, lease } => {
            let lost = || {
                let at = op::Place::Require(index);
                let rejection = op::Rejection { at, reason: op::Reason::LeaseLost };
                error::rejected(&rejection, Shape::Ops)
            };
            let id = convert::job_id(*job).ok_or_else(lost)?;
            match jobs::must(call, ScopeKind::JobsWork, id).await {
                Ok(()) => Ok(op::Require::Job { id, lease: convert::lease(lease) }),
                Err(problem) if problem.code == Code::NotFound => Err(lost()),
                Err(problem) => Err(problem),
            }
        }
        wire::Require::Lock { lock, token } => {
            let name = name(lock)?;
            call.caller.must(ScopeKind::LocksUse, name.as_str())?;
            Ok(op::Require::Lock { name, token: Token(*token) })
        }
    }
}

async fn one(call: &Call, op: CommitOp, trace: Option<&Arc<str>>) -> Result<Op, Problem> {
    let (id, lease, outcome) = match op {
        CommitOp::Enqueue { queue, job } => {
            let queue = name(&queue)?;
            call.caller.must(ScopeKind::JobsProduce, queue.as_str())?;
            let job = convert::new_job(&call.api.store, &queue, *job, trace);
            return Ok(Op::Enqueue(Box::new(job)));
        }
        CommitOp::Complete { id, lease, result } => {
            (id, lease, Outcome::Complete { result: result.as_ref().map(convert::json) })
        }
        CommitOp::Fail { id, lease, error, retry } => {
            (id, lease, Outcome::Fail { error: convert::failure(error), retry: convert::retry(retry) })
        }
        CommitOp::Release { id, lease, delay_ms } => (id, lease, Outcome::Release { delay_ms }),
        CommitOp::Publish { .. } => return Err(error::not_supported("events")),
        CommitOp::Ack { .. } => return Err(error::not_supported("consumer groups")),
        CommitOp::ReleaseLock { name: lock, lease } => {
            let name = name(&lock)?;
            call.caller.must(ScopeKind::LocksUse, name.as_str())?;
            return Ok(Op::Lock(LockOp::Release { name, lease: convert::lease(&lease) }));
        }
    };
    let id = convert::job_id(id).ok_or_else(|| error::not_found("job"))?;
    jobs::must(call, ScopeKind::JobsWork, id).await?;
    // Not a repeat: the other ops of this commit must not happen twice.
    Ok(Op::Settle(op::Settle { id, lease: convert::lease(&lease), outcome, repeat_is_ok: false }))
}

fn name(text: &str) -> Result<Name, Problem> {
    Name::new(text).map_err(|_| error::internal("a name that was read is none"))
}

fn at(problem: Problem, index: usize) -> Problem {
    let error = FieldError::new(format!("/ops/{index}"), problem.detail.clone()).with_code(problem.code);
    problem.with_errors(vec![error])
}

fn result(reply: &Reply) -> Option<CommitResult> {
    match reply {
        Reply::Enqueued(job) => Some(CommitResult::Enqueued(convert::enqueued(job))),
        Reply::Settled { state, run_at, .. } => {
            let run_at = run_at.map(convert::wire_time);
            Some(CommitResult::State(StateAnswer { state: convert::state(*state), run_at }))
        }
        Reply::Lock(LockReply::Released) => Some(CommitResult::Released(Released { released: true })),
        _ => None,
    }
}

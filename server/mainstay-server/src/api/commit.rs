//! One commit for everything: `POST /v1/commit`.

use std::sync::Arc;

use http::StatusCode;
use mainstay::core::access::ScopeKind;
use mainstay::core::event::EventOp;
use mainstay::core::job::Outcome;
use mainstay::core::lease::Token;
use mainstay::core::lock::{LockOp, LockReply};
use mainstay::core::name::Name;
use mainstay::core::op::{self, Op, Reply};
use mainstay::core::topic::TopicName;
use mainstay_api::types::{self as wire, CommitOp, CommitResult, Committed, Released, StateAnswer};
use mainstay_api::{Code, FieldError, Problem, RawJson, strict};

use super::call::{Answer, Call};
use super::error::Shape;
use super::{convert, error, events, jobs, json};

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
    let mut misfit = None;
    for (index, op) in body.ops.into_iter().enumerate() {
        let made = || keyed.map(|keyed| keyed.event_id(index));
        // What is wrong with an op keeps its own code, and says which op it is about.
        let (op, judged) =
            one(&call, op, trace.as_ref(), made).await.map_err(|problem| at(problem, index))?;
        ops.push(op);
        misfit = misfit.or(judged.err().map(|problem| at(problem, index)));
    }
    let published: Vec<_> = ops.iter().map(events::named).collect();
    let key = keyed.map(|keyed| keyed.whole());
    let committed = match misfit {
        None => {
            let commit = op::Commit { key, require, ops, entropy: call.api.store.entropy() };
            call.commit(commit, Shape::Ops).await?
        }
        Some(wrong) => events::answered_before(&call, key, wrong).await?,
    };
    let mut results = Vec::with_capacity(committed.replies.len());
    for (reply, published) in committed.replies.iter().zip(published) {
        let result = match (reply, published) {
            (Reply::Event(reply), Some(named)) => {
                let published = events::published(&call, named, reply, committed.repeated).await?;
                Some(CommitResult::Published(published))
            }
            (reply, _) => result(reply),
        };
        results
            .push(result.ok_or_else(|| error::internal("the store answered a commit with something else"))?);
    }
    json(StatusCode::OK, &Committed { results })
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

/// An op, and whether an event that it publishes fits the schema of its topic.
type Judged = (Op, Result<(), Problem>);

/// `made` is the id of an event that has none, if it is not any.
async fn one(
    call: &Call,
    op: CommitOp,
    trace: Option<&Arc<str>>,
    made: impl Fn() -> Option<String>,
) -> Result<Judged, Problem> {
    let op = match op {
        CommitOp::Publish { topic, event } => return publish(call, &topic, &event, trace, made()).await,
        other => plain(call, other, trace).await?,
    };
    Ok((op, Ok(())))
}

/// Of any op but a publish.
async fn plain(call: &Call, op: CommitOp, trace: Option<&Arc<str>>) -> Result<Op, Problem> {
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
        CommitOp::Publish { .. } => return Err(error::internal("a publish is judged on its own")),
        CommitOp::Ack { group, lease } => {
            let group = Name::new(&group).map_err(|_| error::internal("a name that was read is none"))?;
            events::may_use(call, &group).await?;
            return Ok(Op::Event(EventOp::Ack { group, lease: convert::lease(&lease) }));
        }
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

async fn publish(
    call: &Call,
    topic: &str,
    event: &RawJson,
    trace: Option<&Arc<str>>,
    made: Option<String>,
) -> Result<Judged, Problem> {
    let topic = TopicName::new(topic).map_err(|_| error::internal("a topic that was read is none"))?;
    call.caller.must(ScopeKind::EventsPublish, topic.as_str())?;
    let read = strict::parse::<wire::CloudEvent>(event.as_bytes(), &call.api.limits);
    let mut event = read.map_err(|_| error::internal("an event that was read is none"))?.value;
    event.id = event.id.or(made);
    let events = std::slice::from_ref(&event);
    let judged = call.api.schemas.check(&call.api.store, &topic, events, |_| "/event/data".to_owned()).await;
    let publish = events::convert::publish(&call.api.store, topic, event, trace);
    Ok((Op::Event(EventOp::Publish(Box::new(publish))), judged))
}

fn at(problem: Problem, index: usize) -> Problem {
    let at = format!("/ops/{index}");
    if problem.errors.is_empty() {
        let error = FieldError::new(at, problem.detail.clone()).with_code(problem.code);
        return problem.with_errors(vec![error]);
    }
    let inside = problem.errors.iter().map(|error| {
        let mut error = error.clone();
        error.pointer.insert_str(0, &at);
        error
    });
    let inside = inside.collect();
    problem.with_errors(inside)
}

fn result(reply: &Reply) -> Option<CommitResult> {
    match reply {
        Reply::Enqueued(job) => Some(CommitResult::Enqueued(convert::enqueued(job))),
        Reply::Settled { state, run_at, .. } => {
            let run_at = run_at.map(convert::wire_time);
            Some(CommitResult::State(StateAnswer { state: convert::state(*state), run_at }))
        }
        Reply::Lock(LockReply::Released) => Some(CommitResult::Released(Released { released: true })),
        Reply::Done => Some(CommitResult::Acked { ok: true }),
        _ => None,
    }
}

//! Making jobs: `POST /v1/queues/{queue}/jobs` and `…/jobs/bulk`.

use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};
use mainstay::core::access::ScopeKind;
use mainstay::core::op::{Commit, Op, Reply};
use mainstay_api::types::NewJob;

use super::told;
use super::write::Json;
use crate::api::call::{Answer, Call};
use crate::api::error::Shape;
use crate::api::{answer, convert, error};

/// One job: 201, or 200 when an earlier one answers for it.
pub(crate) async fn one(call: Call) -> Answer {
    let mut input = call.input();
    let queue = input.queue();
    input.keyed();
    let job = input.body::<NewJob>()?;
    let ((queue, job), keyed) = match input.finish(queue.clone().zip(job)) {
        Ok(read) => read,
        Err(problem) => return Err(told::all(&call, queue.as_ref(), problem).await),
    };
    call.caller.must(ScopeKind::JobsProduce, queue.as_str())?;

    let trace = call.traceparent().map(Arc::from);
    let job = convert::new_job(&call.api.store, &queue, job, trace.as_ref());
    let ops = vec![Op::Enqueue(Box::new(job))];
    let (reply, repeated) = match call.apply(ops, keyed.map(|keyed| keyed.whole())).await {
        Ok(answer) => answer,
        Err(problem) => return Err(told::all(&call, Some(&queue), problem).await),
    };
    let Reply::Enqueued(mut job) = reply else {
        return Err(error::internal("the store answered an enqueue with something else"));
    };
    // The store gives the first answer word for word; the contract wants to hear that nothing was added.
    job.deduplicated |= repeated;
    let mut body = Json::with_capacity(256);
    body.enqueued(&job);
    let status = if job.deduplicated { StatusCode::OK } else { StatusCode::CREATED };
    let mut response = answer::raw(status, body.finish());
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/jobs/{}", job.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Many jobs, all or none: 200.
pub(crate) async fn bulk(call: Call) -> Answer {
    let mut input = call.input();
    let queue = input.queue();
    input.keyed();
    let bulk = input.bulk()?;
    let ((queue, bulk), keyed) = match input.finish(queue.clone().zip(bulk)) {
        Ok(read) => read,
        Err(problem) => return Err(told::all(&call, queue.as_ref(), problem).await),
    };
    call.caller.must(ScopeKind::JobsProduce, queue.as_str())?;

    let trace = call.traceparent().map(Arc::from);
    let store = &call.api.store;
    let jobs = bulk.jobs.into_iter().map(|job| convert::new_job(store, &queue, job, trace.as_ref()));
    let commit = Commit {
        key: keyed.map(|keyed| keyed.whole()),
        ops: jobs.map(|job| Op::Enqueue(Box::new(job))).collect(),
        entropy: store.entropy(),
        ..Commit::default()
    };
    let mut committed = match call.commit(commit, Shape::Jobs).await {
        Ok(committed) => committed,
        Err(problem) => return Err(told::all(&call, Some(&queue), problem).await),
    };
    if committed.repeated {
        for reply in &mut committed.replies {
            if let Reply::Enqueued(job) = reply {
                job.deduplicated = true;
            }
        }
    }
    let mut body = Json::with_capacity(100 * committed.replies.len() + 16);
    body.bulk(&committed.replies);
    Ok(answer::raw(StatusCode::OK, body.finish()))
}

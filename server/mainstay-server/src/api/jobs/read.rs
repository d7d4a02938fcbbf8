//! Looking at jobs: `GET /v1/jobs`, `/v1/jobs/{id}`, `/v1/jobs/{id}/result`.

use http::StatusCode;
use mainstay::core::access::ScopeKind;
use mainstay::core::job::{JobRecord, JobState};
use mainstay::core::name::Name;
use mainstay::core::store::{JobFilter, Page, Record, Slice};
use mainstay_api::Problem;
use mainstay_api::query::{JobsQuery, PageQuery, parse_wait};
use mainstay_api::types::{self as wire, JobResult, JobView};

use crate::api::call::{Answer, Call};
use crate::api::convert::{self, MaxCrashes};
use crate::api::{error, json};

pub(crate) async fn one(call: Call) -> Answer {
    let mut input = call.input();
    let job = input.job();
    let (job, _) = input.finish(job)?;
    let job = call.api.store.job(job.id()?).await.map_err(|error| error::store(&error))?;
    let job = visible(&call, job)?;
    let max_crashes = MaxCrashes::default().of(&job, &call.api.store).await;
    json(StatusCode::OK, &convert::job_view(&job, max_crashes.map_err(|error| error::store(&error))?))
}

/// Waits for the end if asked to; in the drain only for what there is.
pub(crate) async fn result(call: Call) -> Answer {
    let mut input = call.input();
    let job = input.job();
    let wait_ms = input.query(|query| parse_wait(query, &call.api.limits));
    let ((job, wait_ms), _) = input.finish(job.zip(wait_ms))?;
    let id = job.id()?;
    super::must(&call, ScopeKind::Read, id).await?;
    let finished = call.api.store.finished(id, call.wait(wait_ms), call.api.shutdown.draining()).await;
    let job = visible(&call, finished.map_err(|error| error::store(&error))?)?;
    let state = convert::state(job.state);
    if !job.state.is_finished() {
        return json(StatusCode::ACCEPTED, &JobResult { state, result: None, error: None });
    }
    let failed = job.state != JobState::Completed;
    let error = failed.then(|| convert::last_error(&job)).flatten();
    json(StatusCode::OK, &JobResult { state, result: Some(convert::finished_result(&job)), error })
}

pub(crate) async fn list(call: Call) -> Answer {
    let mut input = call.input();
    let query = input.query(JobsQuery::parse);
    let (query, _) = input.finish(query)?;
    match &query.queue {
        Some(queue) => call.caller.must(ScopeKind::Read, queue)?,
        None => call.caller.must_sometimes(ScopeKind::Read)?,
    }
    let filter = JobFilter {
        queue: query.queue.as_deref().and_then(|queue| Name::new(queue).ok()),
        state: query.state.map(convert::store_state),
        kind: query.kind,
        tag: query.tag,
    };
    let slice = call.api.store.jobs(filter, page(&query.page)).await;
    let page = views(&call, slice.map_err(|error| error::store(&error))?, |_, _| {}).await?;
    json(StatusCode::OK, &page)
}

/// A page of jobs that the caller may see; `more` adds to each.
pub(crate) async fn views(
    call: &Call,
    slice: Slice,
    more: impl Fn(&mut JobView, &JobRecord),
) -> Result<wire::Page<JobView>, Problem> {
    let mut max_crashes = MaxCrashes::default();
    let mut items = Vec::with_capacity(slice.items.len());
    for record in &slice.items {
        let Record::Job(job) = record else { continue };
        if !call.caller.may(ScopeKind::Read, job.queue.as_str()) {
            continue; // a short page is a page
        }
        let crashes = max_crashes.of(job, &call.api.store).await.map_err(|error| error::store(&error))?;
        let mut view = convert::job_view(job, crashes);
        more(&mut view, job);
        items.push(view);
    }
    Ok(wire::Page { items, next_cursor: slice.next })
}

/// Where in a list, as a store takes it.
pub(crate) fn page(query: &PageQuery) -> Page {
    Page { limit: query.limit, cursor: query.cursor.clone() }
}

fn visible(call: &Call, job: Option<JobRecord>) -> Result<JobRecord, Problem> {
    let Some(job) = job else {
        call.caller.must_sometimes(ScopeKind::Read)?;
        return Err(error::not_found("job"));
    };
    call.caller.must(ScopeKind::Read, job.queue.as_str())?;
    Ok(job)
}

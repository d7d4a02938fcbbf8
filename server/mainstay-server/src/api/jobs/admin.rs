//! What is done to jobs from outside: `POST /v1/jobs/{id}/cancel`, `…/retry`, `DELETE /v1/jobs/{id}`.

use http::StatusCode;
use mainstay::core::access::ScopeKind;
use mainstay::core::id::JobId;
use mainstay::core::op::{Op, Reply};
use mainstay_api::Problem;
use mainstay_api::types::{CancelAnswer, StateAnswer};

use crate::api::call::{Answer, Call};
use crate::api::input::Nothing;
use crate::api::{convert, empty, error, json};

pub(crate) async fn cancel(call: Call) -> Answer {
    match on_job(&call, |id| Op::Cancel { id }).await? {
        Reply::Cancelled { state, cancel_requested } => {
            json(StatusCode::OK, &CancelAnswer { state: convert::state(state), cancel_requested })
        }
        _ => Err(error::internal("the store answered a cancel with something else")),
    }
}

pub(crate) async fn retry(call: Call) -> Answer {
    match on_job(&call, |id| Op::Retry { id }).await? {
        Reply::Retried { state, run_at } => {
            let run_at = Some(convert::wire_time(run_at));
            json(StatusCode::OK, &StateAnswer { state: convert::state(state), run_at })
        }
        _ => Err(error::internal("the store answered a retry with something else")),
    }
}

pub(crate) async fn delete(call: Call) -> Answer {
    on_job(&call, |id| Op::Delete { id }).await?;
    empty()
}

async fn on_job(call: &Call, op: impl FnOnce(JobId) -> Op) -> Result<Reply, Problem> {
    let mut input = call.input();
    let job = input.job();
    if call.parts.method == http::Method::POST {
        input.keyed();
    }
    let nothing = input.body::<Nothing>()?;
    let ((job, _), keyed) = input.finish(job.zip(nothing))?;
    let id = job.id()?;
    super::must(call, ScopeKind::JobsProduce, id).await?;
    Ok(call.apply(vec![op(id)], keyed.map(|keyed| keyed.whole())).await?.0)
}

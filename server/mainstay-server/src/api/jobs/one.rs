//! Ending or extending one claim: `POST /v1/jobs/{id}/extend`, `…/complete`, `…/fail`, `…/release`.

use http::StatusCode;
use mainstay::core::access::ScopeKind;
use mainstay::core::id::JobId;
use mainstay::core::job::Outcome;
use mainstay::core::lease::LeaseId;
use mainstay::core::op::{Op, Reply, Settle};
use mainstay_api::Problem;
use mainstay_api::strict::Strict;
use mainstay_api::types::{Complete, Extend, Extended, Fail, Release, StateAnswer};

use crate::api::call::{Answer, Call};
use crate::api::{convert, error, json};

pub(crate) async fn extend(call: Call) -> Answer {
    let reply = on_claim(&call, |id, body: Extend| Op::Extend {
        id,
        lease: convert::lease(&body.lease),
        extend_ms: body.extend_ms,
        progress: body.progress.as_ref().map(convert::json),
    });
    match reply.await? {
        Reply::Extended { expires_at, cancel_requested, .. } => {
            let expires_at = convert::wire_time(expires_at);
            json(StatusCode::OK, &Extended { expires_at, cancel_requested })
        }
        _ => Err(error::internal("the store answered an extend with something else")),
    }
}

pub(crate) async fn complete(call: Call) -> Answer {
    let reply = on_claim(&call, |id, body: Complete| {
        let result = body.result.as_ref().map(convert::json);
        settle(id, convert::lease(&body.lease), Outcome::Complete { result })
    });
    settled(reply.await?)
}

pub(crate) async fn fail(call: Call) -> Answer {
    let reply = on_claim(&call, |id, body: Fail| {
        let outcome =
            Outcome::Fail { error: convert::failure(body.error), retry: convert::retry(body.retry) };
        settle(id, convert::lease(&body.lease), outcome)
    });
    settled(reply.await?)
}

pub(crate) async fn release(call: Call) -> Answer {
    let reply = on_claim(&call, |id, body: Release| {
        settle(id, convert::lease(&body.lease), Outcome::Release { delay_ms: body.delay_ms })
    });
    settled(reply.await?)
}

/// Reads the request, sees that the caller may, and applies the op it stands for.
async fn on_claim<T: Strict>(call: &Call, op: impl FnOnce(JobId, T) -> Op) -> Result<Reply, Problem> {
    let mut input = call.input();
    let job = input.job();
    input.keyed();
    let body = input.body::<T>()?;
    let ((job, body), keyed) = input.finish(job.zip(body))?;
    let id = job.id()?;
    super::must(call, ScopeKind::JobsWork, id).await?;
    Ok(call.apply(vec![op(id, body)], keyed.map(|keyed| keyed.whole())).await?.0)
}

fn settle(id: JobId, lease: LeaseId, outcome: Outcome) -> Op {
    Op::Settle(Settle { id, lease, outcome, repeat_is_ok: true })
}

fn settled(reply: Reply) -> Answer {
    match reply {
        Reply::Settled { state, run_at, .. } => {
            let run_at = run_at.map(convert::wire_time);
            json(StatusCode::OK, &StateAnswer { state: convert::state(state), run_at })
        }
        _ => Err(error::internal("the store answered a settle with something else")),
    }
}

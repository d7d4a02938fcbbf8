//! Taking jobs: `POST /v1/jobs/claim`.

use std::time::Duration;

use http::StatusCode;
use mainstay::core::access::ScopeKind;
use mainstay::core::job::Grant;
use mainstay::core::name::Name;
use mainstay::core::op::{self, IdempotencyKey};
use mainstay_api::Problem;
use mainstay_api::types::Claim;

use super::give_back::Undelivered;
use super::write::Json;
use crate::api::call::{Answer, Call};
use crate::api::{answer, error};

/// Hands out jobs, waiting for the first if asked to.
pub(crate) async fn claim(call: Call) -> Answer {
    let mut input = call.input();
    input.keyed();
    let claim = input.body::<Claim>()?;
    let (claim, keyed) = input.finish(claim)?;
    let wanted = wanted(&call, &claim)?;
    // A client that is known to be gone is granted nothing.
    call.delivery().check_client().await;
    let grants = if call.api.shutdown.is_draining() {
        Vec::new()
    } else {
        wait(&call, wanted, keyed.map(|keyed| keyed.whole()), call.wait(claim.wait_ms)).await?
    };
    let undelivered = Undelivered::new(&call, &grants, keyed.is_some());
    if !grants.is_empty() {
        // It may have left while its jobs were being granted.
        call.delivery().check_client().await;
    }
    let mut body = Json::with_capacity(16 + size(&grants));
    body.raw("{").jobs(&grants);
    body.raw("}");
    Ok(undelivered.answer(&call, answer::raw(StatusCode::OK, body.finish())))
}

/// The claim as a store takes it, if the caller may claim from every queue it names.
pub(super) fn wanted(call: &Call, claim: &Claim) -> Result<op::Claim, Problem> {
    let name = |text: &String| Name::new(text).map_err(|_| error::internal("a name that was read is none"));
    let queues: Vec<_> = claim.queues.iter().map(name).collect::<Result<_, _>>()?;
    for queue in &queues {
        call.caller.must(ScopeKind::JobsWork, queue.as_str())?;
    }
    Ok(op::Claim {
        queues,
        max: claim.max,
        max_bytes: call.api.claim_bytes,
        lease_ms: claim.lease_ms,
        worker: claim.worker.as_ref().map(name).transpose()?,
    })
}

/// Claims, and waits for as long as there is nothing; not into the drain.
pub(super) async fn wait(
    call: &Call,
    wanted: op::Claim,
    key: Option<IdempotencyKey>,
    wait: Duration,
) -> Result<Vec<Grant>, Problem> {
    let claimed = call.api.store.claim(wanted, key, wait, call.api.shutdown.draining()).await;
    claimed.map_err(|error| error::store(&error))
}

/// About how many bytes the grants take in an answer.
pub(super) fn size(grants: &[Grant]) -> usize {
    grants.iter().map(|grant| 320 + grant.body.as_ref().map_or(0, |body| body.size())).sum()
}

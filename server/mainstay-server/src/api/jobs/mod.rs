//! Jobs: making, taking, ending, looking.

pub(super) mod admin;
pub(super) mod claim;
pub(super) mod enqueue;
mod give_back;
pub(super) mod one;
pub(super) mod read;
pub(super) mod settle;
mod told;
mod write;

use mainstay::core::access::ScopeKind;
use mainstay::core::id::JobId;
use mainstay_api::Problem;

use super::{Call, error};

/// Refuses a caller that may not do this to the job, by its queue. Looks the job up only if that makes a difference.
pub(super) async fn must(call: &Call, kind: ScopeKind, id: JobId) -> Result<(), Problem> {
    if call.caller.may_always(kind) {
        return Ok(());
    }
    call.caller.must_sometimes(kind)?;
    match call.api.store.job(id).await.map_err(|error| error::store(&error))? {
        Some(job) => call.caller.must(kind, job.queue.as_str()),
        None => Err(error::not_found("job")),
    }
}

//! Grants nobody got are given back.

use axum::response::Response;
use mainstay::core::id::JobId;
use mainstay::core::job::{Grant, Outcome};
use mainstay::core::lease::LeaseId;
use mainstay::core::op::{Commit, Op, Settle};
use mainstay::core::store::Batch;

use crate::api::{Api, Call};

/// Grants on their way to a caller. Dropped, or lost on the wire after [`answer`](Undelivered::answer), they go back to
/// their queues without spending an attempt.
pub(super) struct Undelivered {
    api: Api,
    grants: Vec<(JobId, LeaseId)>,
}

impl Undelivered {
    /// Those of a call without a key. With one, the caller asks again and gets the same: nothing is given back.
    pub fn new(call: &Call, grants: &[Grant], keyed: bool) -> Undelivered {
        let grants = if keyed { Vec::new() } else { grants.iter().map(|g| (g.id, g.lease)).collect() };
        Undelivered { api: call.api.clone(), grants }
    }

    /// From here on, whether this answer gets out decides.
    pub fn answer(mut self, call: &Call, response: Response) -> Response {
        if self.grants.is_empty() {
            return response;
        }
        // Out of `self`, whose drop would give them back: this closure is called only if the answer is lost.
        let (api, grants) = (self.api.clone(), std::mem::take(&mut self.grants));
        let delivery = call.delivery();
        response.map(|body| delivery.watch(body, move || give_back(api, grants)))
    }
}

impl Drop for Undelivered {
    fn drop(&mut self) {
        if !self.grants.is_empty() {
            give_back(self.api.clone(), std::mem::take(&mut self.grants));
        }
    }
}

fn give_back(api: Api, grants: Vec<(JobId, LeaseId)>) {
    tracing::debug!(jobs = grants.len(), "a claim's answer was lost, its jobs are given back");
    let tasks = api.tasks.clone();
    tasks.spawn("give back", async move {
        let release = |(id, lease)| {
            let outcome = Outcome::Release { delay_ms: 0 };
            Commit::of(Op::Settle(Settle { id, lease, outcome, repeat_is_ok: true }), api.store.entropy())
        };
        let commits = grants.into_iter().map(release).collect();
        // What cannot be given back now comes back when its lease runs out.
        if let Err(error) = api.store.store().submit(Batch { commits, within: None }).await {
            tracing::warn!(%error, "jobs of a lost answer could not be given back");
        }
    });
}

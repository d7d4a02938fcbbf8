//! One timer renews every lease of a pool.

use std::{sync::Arc, time::Duration};

use mainstay_core::{
    op::{Commit, Op, Reason, Reply},
    store::Batch,
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{limit::end_of_lease, run::Pool, running::Key};
use crate::{job::ms, secs};

/// Leases are looked at as often as that, however long they are.
const LONGEST_LOOK: Duration = secs(3_600);
/// A batch of extends; the store bounds what it takes at once.
const BATCH: usize = 1_000;

impl<S: Clone + Send + Sync + 'static> Pool<S> {
    /// Renews at a third of the lease, and cuts attempts whose renewals were not answered in time. Ends when it is
    /// dropped.
    pub(super) async fn renew(self: Arc<Self>) {
        tokio::join!(self.renew_all(), self.watch_leases());
    }

    /// Apart from the renewals, which wait for the store's answers.
    async fn watch_leases(&self) {
        loop {
            let (cut, next) = self.running.cut_overdue(Instant::now(), (self.lease / 3).min(LONGEST_LOOK));
            for id in cut {
                tracing::warn!(
                    job = %id,
                    "no renewal of the lease was answered in time, and it must have ended: the attempt is cut, \
                     another may have begun elsewhere"
                );
            }
            tokio::select! { () = sleep_until(next) => {}, () = self.running.sooner() => {} }
        }
    }

    async fn renew_all(&self) {
        let mut tick = interval(self.lease / 3);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.tick().await;
        loop {
            tick.tick().await;
            let leases = self.running.leases();
            for some in leases.chunks(BATCH) {
                self.renew_some(some).await;
            }
        }
    }

    async fn renew_some(&self, leases: &[Key]) {
        let extend_ms = ms(self.lease);
        let extend = |&(id, lease)| {
            Commit::of(Op::Extend { id, lease, extend_ms, progress: None }, self.client.entropy())
        };
        let sent = Instant::now();
        let batch = Batch { commits: leases.iter().map(extend).collect(), within: Some(self.lease / 3) };
        match self.client.submit(batch).await {
            Ok(answers) => {
                for (key, answer) in leases.iter().zip(answers) {
                    if answer.is_ok() {
                        self.running.renewed(*key, end_of_lease(sent, self.lease));
                    }
                    match answer.as_ref().map(|committed| committed.replies.first()) {
                        Ok(Some(Reply::Extended { cancel_requested: true, .. })) => self.running.cancel(*key),
                        Ok(_) => {}
                        // It may just have been settled; then there is nothing left to cut.
                        Err(failure)
                            if failure.rejection().is_some_and(|r| {
                                matches!(
                                    r.reason,
                                    Reason::LeaseLost | Reason::TimeIsUp { .. } | Reason::NotFound(_)
                                )
                            }) =>
                        {
                            self.running.cut_lost(*key)
                        }
                        Err(_) => {}
                    }
                }
            }
            Err(error) => tracing::warn!(%error, leases = leases.len(), "cannot renew leases; trying again"),
        }
    }
}

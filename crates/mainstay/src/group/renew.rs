//! One timer renews every lease of a subscription.

use std::{sync::Arc, time::Duration};

use mainstay_core::{
    LeaseId,
    event::{EventOp, EventReply, Prolong, SettleDeliveries, Settled},
    op::{Commit, Op, Reply},
    store::Batch,
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::run::Pool;
use crate::job::{FAR, ms};

/// At most so many in one call.
const BATCH: usize = 1_000;

impl Pool {
    /// Renews at a third of the lease. Ends when it is dropped.
    pub async fn renew(self: Arc<Self>) {
        let mut tick = interval(self.lease / 3);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.tick().await;
        loop {
            tick.tick().await;
            let leases = self.hands.leases();
            for some in leases.chunks(BATCH) {
                self.renew_some(some).await;
            }
            let cut = self.hands.cut();
            if !cut.is_empty() && self.give_back(cut.clone(), self.lease / 3).await.is_ok() {
                self.hands.given_back(&cut);
            }
        }
    }

    /// Cuts what outlives its lease by the clock of this process. Ends when it is dropped.
    pub async fn cut_late(self: Arc<Self>) {
        loop {
            let next = self.hands.cut_late(Instant::now());
            let over = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = over => {}
                () = self.hands.sooner() => {}
            }
        }
    }

    /// When a lease ends that was asked for then, at the earliest: it runs from the store's answer.
    pub fn lives_until(&self, asked: Instant) -> Instant {
        asked + self.lease.min(FAR)
    }

    /// Gives deliveries back. A lease that is gone by now is nobody's loss; only a store that does not answer is worth a
    /// word.
    pub async fn give_back(
        &self,
        leases: Vec<LeaseId>,
        within: Duration,
    ) -> Result<(), mainstay_core::Error> {
        tracing::info!(group = %self.group, events = leases.len(), "giving unfinished events back");
        let op = Op::Event(EventOp::Release { leases, delay_ms: 0 });
        let commit = Commit::of(op, self.client.entropy());
        let batch = Batch { commits: vec![commit], within: Some(within) };
        self.client.store().submit(batch).await.map(drop)
    }

    async fn renew_some(&self, leases: &[LeaseId]) {
        let extend_ms = ms(self.lease);
        let extend = leases.iter().map(|lease| Prolong { lease: *lease, extend_ms }).collect();
        let settle = SettleDeliveries { group: self.group.clone(), ack: vec![], nack: vec![], extend };
        let op = Op::Event(EventOp::Settle(Box::new(settle)));
        // An answer that comes later than the next renewal is none.
        let batch =
            Batch { commits: vec![Commit::of(op, self.client.entropy())], within: Some(self.lease / 3) };
        let until = self.lives_until(Instant::now());
        let answer = match self.client.submit(batch).await {
            Ok(mut answers) => answers.pop().and_then(|answer| answer.ok()),
            Err(error) => {
                tracing::warn!(%error, leases = leases.len(), "cannot renew leases; trying again");
                return;
            }
        };
        let Some(Reply::Event(EventReply::Settled(outcomes))) =
            answer.and_then(|committed| committed.replies.into_iter().next())
        else {
            return;
        };
        for (lease, outcome) in leases.iter().zip(outcomes) {
            match outcome {
                Settled::Extended { .. } => self.hands.extended(*lease, until),
                // It may just have been settled; then there is nothing left to cut.
                Settled::LeaseLost => self.hands.cut_lost(*lease),
                _ => {}
            }
        }
    }
}

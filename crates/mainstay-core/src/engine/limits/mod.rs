//! What bounds and orders the hand-out beyond priority and time: places (how many run at once, of a queue and of a
//! key), rates, and turns.
//!
//! Places are not state: they are counted from the jobs that run ([`lines`]), so nothing can leak, whatever becomes of
//! a worker. A job whose lease has run out holds its place until the store has tidied it up, which comes before the
//! next commit. Rates and turns remember numbers ([`rate`], [`turns`]); those are kept in the `limits` table.

mod crowd;
pub(super) mod lines;
mod rate;
#[cfg(test)]
mod tests;
mod turns;

use std::sync::Arc;

use super::{
    Engine,
    change::{Change, Extras, LimitChange, LimitKey, LiveJob, QueueId},
    queues::Queue,
    undo::Undo,
};
use crate::{
    job::{JobKeys, MAX_KEY_BYTES, is_key},
    op::Reason,
    queue::QueueConfig,
    time::StoreTime,
};

pub(super) use lines::{Lines, rank};
pub(super) use rate::Window;

/// A hand-out forgets at most this many numbers that say nothing any more; each adds fewer than that.
const FORGOTTEN_PER_GRANT: usize = 4;

impl Engine {
    /// When a queue may next hand out more than its rate allows now, on the store's clock.
    pub fn next_opening(&self) -> Option<StoreTime> {
        self.openings.first().map(|(at, _)| *at)
    }

    /// What a queue remembers. Before its jobs.
    pub fn load_limit(&mut self, queue: QueueId, key: &LimitKey, value: u64) {
        self.queue_mut(queue).swap_limit(key, Some(value));
    }

    /// Queues whose rate lets more through than before are looked at again.
    pub(super) fn open_rates(&mut self) {
        while let Some((at, id)) = self.openings.first().copied().filter(|(at, _)| *at <= self.now.store) {
            self.openings.remove(&(at, id));
            if let Some(queue) = self.queues.get_mut(id) {
                queue.opens = None;
                if !std::mem::replace(&mut queue.dirty, true) {
                    self.dirty.push(id);
                }
            }
        }
    }

    /// Checks the keys of a job that comes in.
    pub(super) fn check_keys(keys: &JobKeys) -> Result<(), Reason> {
        for (field, key) in [("concurrency_key", &keys.concurrency), ("fairness_key", &keys.fairness)] {
            if key.as_ref().is_some_and(|key| !is_key(key)) {
                let detail = format!("has 1 to {MAX_KEY_BYTES} bytes");
                return Err(Reason::Invalid { field, detail });
            }
        }
        Ok(())
    }

    /// Keys of a job, kept once for all jobs of the queue that have the same.
    pub(super) fn shared_keys(&self, queue: QueueId, keys: JobKeys) -> Option<Arc<JobKeys>> {
        self.queue_ref(queue).lines.shared(keys)
    }

    /// The numbers that a new configuration has no use for go.
    pub(super) fn drop_limits(&mut self, id: QueueId, config: Option<&QueueConfig>) {
        let queue = self.queue_ref(id);
        let mut gone = Vec::new();
        if config.is_none_or(|config| config.rate.is_none()) {
            gone.extend(queue.handed.entries().into_iter().map(LimitKey::Handed));
        }
        if config.is_none_or(|config| config.fairness.is_none()) {
            gone.extend(queue.lines.turns.keys().into_iter().map(LimitKey::Turn));
            gone.push(LimitKey::Now);
        }
        for key in gone {
            self.set_limit(id, key, None);
        }
    }

    /// The turn of a job that is about to be handed out passes on to the next key.
    pub(super) fn pass_turn(&mut self, id: QueueId, job: &LiveJob) {
        let queue = self.queue_ref(id);
        if !queue.lines.turns.is_fair() {
            return;
        }
        let keys = self.extras.get(&job.id).map(Extras::job_keys).unwrap_or_default();
        let share = queue.lines.turns.share(&keys);
        let Some((turn, next)) = queue.lines.turns.turn(&share) else { return };
        // In this order: an undo puts the pass back before the time that its turn is measured by.
        if turn > queue.lines.turns.now() {
            self.set_limit(id, LimitKey::Now, Some(turn));
        }
        self.set_limit(id, LimitKey::Turn(share), Some(next));
    }

    /// A job was handed out: what the turns need not remember goes.
    pub(super) fn settle_turns(&mut self, id: QueueId) {
        let queue = self.queue_ref(id);
        if !queue.lines.turns.is_fair() {
            return;
        }
        if let Some(end) = queue.lines.turns.end_of_all() {
            self.set_limit(id, LimitKey::Now, Some(end));
        }
        self.forget_turns(id, FORGOTTEN_PER_GRANT);
    }

    /// Forgets up to `most` passes that say nothing any more; answers how many.
    pub(super) fn forget_turns(&mut self, id: QueueId, most: usize) -> usize {
        let mut forgotten = 0;
        while forgotten < most
            && let Some(share) = self.queue_ref(id).lines.turns.forgettable()
        {
            self.set_limit(id, LimitKey::Turn(share), None);
            forgotten += 1;
        }
        forgotten
    }

    /// `count` jobs were handed out.
    pub(super) fn note_handed(&mut self, id: QueueId, count: u64) {
        let Some(rate) = self.queue_ref(id).config.rate else { return };
        if count == 0 {
            return;
        }
        self.forget_handed(id);
        let at = Window::entry(rate, self.now.store);
        let count = self.queue_ref(id).handed.get(at) + count;
        self.set_limit(id, LimitKey::Handed(at), Some(count));
    }

    /// Forgets the hand-outs that count for the rate no more.
    pub(super) fn forget_handed(&mut self, id: QueueId) {
        let Some(rate) = self.queue_ref(id).config.rate else { return };
        while let Some(over) = self.queue_ref(id).handed.first_over(rate, self.now.store) {
            self.set_limit(id, LimitKey::Handed(over), None);
        }
    }

    fn set_limit(&mut self, queue: QueueId, key: LimitKey, value: Option<u64>) {
        let old = self.queue_mut(queue).swap_limit(&key, value);
        if old == value {
            return;
        }
        self.undo.push(Undo::Limit(queue, key.clone(), old));
        self.changes.push(Change::Limit(LimitChange { queue, key, value }));
    }
}

impl Queue {
    pub(super) fn swap_limit(&mut self, key: &LimitKey, value: Option<u64>) -> Option<u64> {
        match key {
            LimitKey::Handed(at) => self.handed.swap(*at, value),
            LimitKey::Turn(share) => self.lines.turns.swap_pass(share, value),
            LimitKey::Now => Some(self.lines.turns.swap_now(value.unwrap_or(0))).filter(|now| *now > 0),
        }
    }

    /// How many more jobs may be handed out now, and when that changes by time alone if it is less than there is
    /// something to hand out.
    pub(super) fn room(&self, now: StoreTime) -> (u64, Option<StoreTime>) {
        let places =
            self.config.concurrency.map_or(u64::MAX, |most| u64::from(most).saturating_sub(self.running()));
        let Some(rate) = self.config.rate else { return (places, None) };
        let (left, opens) = self.handed.left(rate, now);
        (left.min(places), opens.filter(|_| left < places.min(self.runnable())))
    }
}

//! Who claims what: counted along, never stored. Nothing depends on it but what is shown.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
};

use super::{Engine, Leases};
use crate::{
    name::{QueueName, WorkerName},
    time::{Now, Timestamp},
    worker::{WORKER_KEPT_MS, WORKERS_KEPT, WorkerRecord},
};

#[derive(Default)]
pub(super) struct Workers {
    known: BTreeMap<WorkerName, Seen>,
    /// When the forgotten were last swept out.
    swept: Timestamp,
}

struct Seen {
    queues: Vec<QueueName>,
    running: u64,
    at: Timestamp,
}

impl Engine {
    /// Up to `limit` workers after a name, by name.
    pub fn workers(&mut self, after: Option<&str>, limit: usize, now: Now) -> Vec<WorkerRecord> {
        self.set_now(now);
        let wall = self.now.wall;
        let after = after.map_or(Unbounded, Excluded);
        let kept = |seen: &Seen| seen.is_kept(wall);
        let known = self.workers.known.range::<str, _>((after, Unbounded)).filter(|(_, seen)| kept(seen));
        known
            .take(limit)
            .map(|(name, seen)| WorkerRecord {
                name: name.clone(),
                queues: seen.queues.clone(),
                running: seen.running,
                last_seen: seen.at,
            })
            .collect()
    }

    /// A worker claims.
    pub(super) fn saw_claim(&mut self, worker: Option<&WorkerName>, queues: &[QueueName]) {
        let Some(seen) = worker.and_then(|worker| self.workers.get(worker, self.now.wall)) else { return };
        if seen.queues != queues {
            seen.queues = queues.to_vec();
        }
    }

    /// The leases of a job change: whose it was, and whose it is now.
    pub(super) fn count_worker(&mut self, was: Option<WorkerName>, is: Option<WorkerName>) {
        let Workers { known, .. } = &mut self.workers;
        if let Some(seen) = was.and_then(|worker| known.get_mut(&worker)) {
            seen.running = seen.running.saturating_sub(1);
            seen.at = seen.at.max(self.now.wall);
        }
        if let Some(worker) = is
            && let Some(seen) = self.workers.get(&worker, self.now.wall)
        {
            seen.running += 1;
        }
    }

    /// A lease was prolonged.
    pub(super) fn saw_again(&mut self, worker: Option<&WorkerName>) {
        if let Some(worker) = worker {
            self.workers.get(worker, self.now.wall);
        }
    }

    /// The store has opened: who had jobs then counts as seen now.
    pub(super) fn workers_came_back(&mut self) {
        let wall = self.now.wall;
        self.workers.known.values_mut().for_each(|seen| seen.at = wall);
    }

    /// A worker that is known by a job it has.
    pub(super) fn load_worker(&mut self, worker: &WorkerName, queue: &QueueName) {
        if let Some(seen) = self.workers.get(worker, self.now.wall)
            && !seen.queues.contains(queue)
        {
            seen.queues.push(queue.clone());
        }
    }
}

impl Workers {
    /// One that calls now; `None` if there are too many.
    fn get(&mut self, worker: &WorkerName, now: Timestamp) -> Option<&mut Seen> {
        if !self.known.contains_key(worker) {
            // A sweep looks at all of them: not at every stranger's call.
            if self.known.len() >= WORKERS_KEPT && now.ms_since(self.swept) >= 1_000 {
                self.swept = now;
                self.known.retain(|_, seen| seen.is_kept(now));
            }
            if self.known.len() >= WORKERS_KEPT {
                return None;
            }
            self.known.insert(worker.clone(), Seen { queues: vec![], running: 0, at: now });
        }
        let seen = self.known.get_mut(worker)?;
        seen.at = now;
        Some(seen)
    }
}

impl Seen {
    fn is_kept(&self, now: Timestamp) -> bool {
        self.running > 0 || now.ms_since(self.at) < WORKER_KEPT_MS
    }
}

/// Who has the job.
pub(super) fn worker_of(leases: &Option<Leases>) -> Option<&WorkerName> {
    leases.as_ref()?.live.as_ref()?.worker.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::StoreTime;

    #[test]
    fn workers_are_bounded_and_those_that_went_make_room() {
        let now = |ms: i64| Now { wall: Timestamp(ms), store: StoreTime(ms as u64) };
        let name = |n: usize| WorkerName::new(&format!("w{n:05}")).unwrap();
        let mut engine = Engine::new();
        let claim = |engine: &mut Engine, n: usize, ms: i64| {
            engine.set_now(now(ms));
            engine.saw_claim(Some(&name(n)), &[]);
        };
        for n in 0..WORKERS_KEPT + 5 {
            claim(&mut engine, n, 10_000);
        }
        assert_eq!(engine.workers.known.len(), WORKERS_KEPT);
        let kept = WORKER_KEPT_MS as i64;
        claim(&mut engine, 7, 10_000 + kept - 1);
        claim(&mut engine, WORKERS_KEPT, 10_000 + kept);
        let left: Vec<_> = engine.workers(None, 10, now(10_000 + kept)).into_iter().map(|w| w.name).collect();
        assert_eq!(left, [name(7), name(WORKERS_KEPT)]);
        assert_eq!(engine.workers.known.len(), 2);
    }
}

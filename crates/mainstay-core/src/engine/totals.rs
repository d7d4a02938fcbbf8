//! What has come into each queue and left it, counted from the changes as they are handed out. For rates: nothing
//! depends on it, and a restart begins anew.

use super::{
    Engine,
    change::{Change, QueueId},
};
use crate::{job::JobState, queue::Totals};

#[derive(Default)]
pub(super) struct Tally {
    /// By `QueueId`.
    queues: Vec<Totals>,
    /// Of the group that is not durable yet.
    pending: Vec<(QueueId, Event)>,
}

#[derive(Clone, Copy)]
enum Event {
    Enqueued,
    Completed,
    Cancelled,
    Dead,
}

impl Engine {
    /// Notes what is about to be handed out.
    pub(super) fn tally_changes(&mut self) {
        let event = |change: &Change| match change {
            Change::JobPut { job, body: Some(_), .. } => Some((job.queue, Event::Enqueued)),
            Change::JobFinished(finished) => {
                let event = match finished.state {
                    JobState::Completed => Event::Completed,
                    JobState::Cancelled => Event::Cancelled,
                    _ => Event::Dead,
                };
                Some((finished.key.queue, event))
            }
            _ => None,
        };
        self.tally.pending.extend(self.changes.iter().filter_map(event));
    }
}

impl Tally {
    /// What was handed out is durable.
    pub(super) fn commit(&mut self) {
        for (QueueId(at), event) in self.pending.drain(..) {
            let at = at as usize;
            if self.queues.len() <= at {
                self.queues.resize(at + 1, Totals::default());
            }
            let totals = &mut self.queues[at];
            *match event {
                Event::Enqueued => &mut totals.enqueued,
                Event::Completed => &mut totals.completed,
                Event::Cancelled => &mut totals.cancelled,
                Event::Dead => &mut totals.dead,
            } += 1;
        }
    }

    /// It did not happen.
    pub(super) fn roll_back(&mut self) {
        self.pending.clear();
    }

    pub(super) fn of(&self, QueueId(at): QueueId) -> Totals {
        self.queues.get(at as usize).copied().unwrap_or_default()
    }
}

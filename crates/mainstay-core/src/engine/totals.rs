//! What has come into each queue and left it, counted from the changes as they are handed out. For rates: nothing
//! depends on it, and a restart begins anew.

use super::{
    Engine,
    change::{Change, QueueId},
    drain::Drain,
};
use crate::{job::JobState, queue::Totals, time::StoreTime};

#[derive(Default)]
pub(super) struct Tally {
    /// By `QueueId`.
    queues: Vec<Option<Box<Counted>>>,
    /// Of the group that is not durable yet.
    pending: Vec<(QueueId, Event)>,
}

struct Counted {
    totals: Totals,
    drain: Drain,
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
    pub(super) fn commit(&mut self, now: StoreTime) {
        for (QueueId(at), event) in self.pending.drain(..) {
            let at = at as usize;
            if self.queues.len() <= at {
                self.queues.resize_with(at + 1, || None);
            }
            let new = || Box::new(Counted { totals: Totals::default(), drain: Drain::new(now) });
            let Counted { totals, drain } = &mut **self.queues[at].get_or_insert_with(new);
            if !matches!(event, Event::Enqueued) {
                drain.ended(now);
            }
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

    /// The queue is gone; another may get its id.
    pub(super) fn forget(&mut self, QueueId(at): QueueId) {
        if let Some(counted) = self.queues.get_mut(at as usize) {
            *counted = None;
        }
    }

    pub(super) fn of(&self, id: QueueId) -> Totals {
        self.counted(id).map_or_else(Totals::default, |counted| counted.totals)
    }

    /// How fast a queue's jobs have ended lately; `None`: nothing has come or gone yet.
    pub(super) fn drain(&self, id: QueueId) -> Option<&Drain> {
        self.counted(id).map(|counted| &counted.drain)
    }

    fn counted(&self, QueueId(at): QueueId) -> Option<&Counted> {
        self.queues.get(at as usize)?.as_deref()
    }
}

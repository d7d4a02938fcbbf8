//! The undo journal: before-images, newest last. A rejected commit is undone to its savepoint, a group that could
//! not be written to its beginning.

use std::sync::Arc;

use super::{
    Engine, Leases,
    change::{Ending, Extras, Lane, LimitKey, LiveJob, PolicyId, QueueId},
    events::EventUndo,
    keyed::Answer,
    locks::LockUndo,
    policies::{Kept, Users},
    queues::Hold,
};
use crate::{
    access::AccessToken, after::AfterFailure, id::JobId, name::Name, queue::QueueConfig,
    schedule::ScheduleRecord,
};

pub(super) enum Undo {
    Job(JobId, Option<LiveJob>),
    Leases(JobId, Option<Leases>),
    Extras(JobId, Option<Extras>),
    Unique(QueueId, Arc<str>, Option<Hold>),
    Lane(QueueId, Lane, i64),
    QueueCreated(QueueId),
    Queue(QueueId, QueueConfig, bool, bool),
    QueueRemoved(Box<super::queues::Queue>),
    PolicyAdded(PolicyId),
    PolicyUsers(PolicyId, Users),
    PolicyRemoved(PolicyId, Box<Kept>),
    KeyedAdded,
    KeyedForgotten(Answer),
    Access(Name, Option<AccessToken>),
    Lock(LockUndo),
    /// Who waits, for whom.
    Edge(JobId, JobId, Option<AfterFailure>),
    /// Whether it was there.
    Ended(JobId, Ending, bool),
    Event(EventUndo),
    Limit(QueueId, LimitKey, Option<u64>),
    Schedule(Name, Option<Box<ScheduleRecord>>),
}

impl Engine {
    /// Takes back everything since the journal had `mark` entries. Counters are not taken back: a token that was
    /// drawn is never drawn again.
    pub(super) fn undo_to(&mut self, mark: usize) {
        let mut earlier = Vec::new();
        while self.undo.len() > mark {
            let Some(step) = self.undo.pop() else { return };
            match step {
                Undo::Job(id, before) => drop(self.swap_job(id, before)),
                Undo::Leases(id, before) => drop(self.swap_leases(id, before)),
                Undo::Extras(id, before) => drop(self.swap_extras(id, before)),
                Undo::Unique(queue, key, before) => drop(self.swap_unique(queue, key, before)),
                Undo::Lane(queue, lane, by) => {
                    let count = &mut self.queue_mut(queue).lanes[lane as usize];
                    *count = count.wrapping_add_signed(-by);
                }
                Undo::QueueCreated(id) => {
                    if let Some(mut queue) = self.queues.take_back(id) {
                        self.disarm(&mut queue);
                        self.queue_names.remove(&queue.name);
                    }
                }
                Undo::Queue(id, config, paused, dropped) => {
                    let queue = self.queue_mut(id);
                    let was_dropped = queue.dropped;
                    queue.configure(config);
                    (queue.paused, queue.dropped) = (paused, dropped);
                    (queue.dirty, queue.trim_at) = (true, [None; 3]);
                    let name = queue.name.clone();
                    if was_dropped && !dropped {
                        self.dropped.retain(|q| *q != id);
                        self.queue_names.insert(name, id);
                    }
                    self.dirty.push(id);
                }
                Undo::QueueRemoved(queue) => {
                    self.dropped.push(queue.id);
                    self.queues.put(queue);
                }
                Undo::PolicyAdded(id) => self.policies.take_back(id),
                Undo::PolicyUsers(id, before) => self.policies.put_users_back(id, before),
                Undo::PolicyRemoved(id, kept) => self.policies.put_back(id, *kept),
                Undo::KeyedAdded => self.keyed.take_back(),
                Undo::KeyedForgotten(answer) => self.keyed.put_back(answer),
                Undo::Edge(waiter, on, before) => drop(self.edges.swap(waiter, on, before)),
                Undo::Ended(id, how, was) => drop(self.edges.swap_ended(id, how, was)),
                Undo::Limit(queue, key, before) => {
                    self.queue_mut(queue).swap_limit(&key, before);
                    if key == LimitKey::Now && earlier.last() != Some(&queue) {
                        earlier.push(queue);
                    }
                }
                Undo::Access(name, before) => match before {
                    Some(token) => drop(self.access.insert(name, token)),
                    None => drop(self.access.remove(&name)),
                },
                Undo::Lock(step) => self.undo_lock(step),
                Undo::Event(step) => self.undo_event(step),
                Undo::Schedule(name, before) => {
                    drop(self.swap_schedule(&name, before.map(|before| *before)));
                }
            }
        }
        for queue in earlier {
            if let Some(queue) = self.queues.get_mut(queue) {
                queue.lines.look_again();
            }
        }
    }
}

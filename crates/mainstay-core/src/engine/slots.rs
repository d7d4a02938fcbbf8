//! Queues by their ids. An id that came free is given again, the smallest first: else whoever lets commits fail that name
//! new queues, or makes queues for a while, would take memory for ever, also over restarts.

use std::collections::BTreeMap;

use super::{change::QueueId, queues::Queue};

#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Option<Box<Queue>>>,
    /// Ids that no queue has and nothing durable names, each with what [`Queue::own_up_to`] is to begin with: the tables
    /// may lag, and have rows of the queue that is gone.
    free: BTreeMap<QueueId, u64>,
    /// Came free in the group under way, which may not happen.
    freed: Vec<(QueueId, u64)>,
}

impl Slots {
    pub fn get(&self, id: QueueId) -> Option<&Queue> {
        self.slots.get(id.0 as usize)?.as_deref()
    }

    pub fn get_mut(&mut self, id: QueueId) -> Option<&mut Queue> {
        self.slots.get_mut(id.0 as usize)?.as_deref_mut()
    }

    /// All ids are below this.
    pub fn end(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The id for a new queue, and what its [`Queue::own_up_to`] begins with.
    pub fn vacant(&self) -> (QueueId, u64) {
        let first = self.free.first_key_value().map(|(id, own_up_to)| (*id, *own_up_to));
        first.unwrap_or((QueueId(self.end()), 0))
    }

    /// Puts a queue where none is: a new one, one that is loaded, or one that was not removed after all.
    pub fn put(&mut self, queue: Box<Queue>) {
        let id = queue.id;
        let at = id.0 as usize;
        if self.slots.len() <= at {
            self.slots.resize_with(at + 1, || None);
        }
        self.slots[at] = Some(queue);
        self.free.remove(&id);
        self.freed.retain(|(freed, _)| *freed != id);
    }

    /// It was not made after all: its id is free, as it was before.
    pub fn take_back(&mut self, id: QueueId) -> Option<Box<Queue>> {
        let queue = self.slots.get_mut(id.0 as usize)?.take()?;
        self.set_free([(id, queue.own_up_to)]);
        Some(queue)
    }

    /// It goes; its id is free once that is durable.
    pub fn remove(&mut self, id: QueueId) -> Option<Box<Queue>> {
        let queue = self.slots.get_mut(id.0 as usize)?.take()?;
        self.freed.push((id, queue.own_up_to));
        Some(queue)
    }

    /// The group is durable; tells what came free with it.
    pub fn commit(&mut self, mut tell: impl FnMut(QueueId)) {
        if !self.freed.is_empty() {
            let freed = std::mem::take(&mut self.freed);
            freed.iter().for_each(|(id, _)| tell(*id));
            self.set_free(freed);
        }
    }

    /// All is loaded: the tables name no other ids.
    pub fn finish_load(&mut self) {
        let gaps = self.slots.iter().enumerate().filter(|(_, slot)| slot.is_none());
        let gaps: Vec<_> = gaps.map(|(at, _)| (QueueId(at as u32), 0)).collect();
        self.set_free(gaps);
    }

    fn set_free(&mut self, ids: impl IntoIterator<Item = (QueueId, u64)>) {
        self.free.extend(ids);
        // But for what has to be remembered.
        while let Some((id, 0)) = self.free.last_key_value().map(|(id, own_up_to)| (*id, *own_up_to))
            && id.0 + 1 == self.end()
        {
            self.free.pop_last();
            self.slots.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Engine, nothing::Nothing};
    use super::*;
    use crate::{
        id::JobIds,
        job::{JobBody, NewJob, When},
        name::QueueName,
        op::{Commit, Op},
        queue::QueueConfig,
        store::Budget,
        time::{Now, StoreTime, Timestamp},
    };

    fn put(slots: &mut Slots) -> u32 {
        let (id, own_up_to) = slots.vacant();
        let mut queue = Queue::new(id, QueueName::new("q").unwrap(), QueueConfig::default());
        queue.own_up_to = own_up_to;
        slots.put(Box::new(queue));
        id.0
    }

    #[test]
    fn an_id_is_given_again_once_its_removal_is_durable_and_the_smallest_first() {
        let mut slots = Slots::default();
        assert_eq!([(); 4].map(|()| put(&mut slots)), [0, 1, 2, 3]);
        slots.get_mut(QueueId(1)).unwrap().own_up_to = 7;
        for id in [2, 1] {
            slots.remove(QueueId(id)).unwrap();
        }
        assert_eq!(put(&mut slots), 4, "not before");
        let mut freed = Vec::new();
        slots.commit(|id| freed.push(id.0));
        assert_eq!(freed, [2, 1]);
        assert_eq!([(); 3].map(|()| put(&mut slots)), [1, 2, 5]);
        assert_eq!(slots.get(QueueId(1)).unwrap().own_up_to, 7, "places of the one before are remembered");
    }

    #[test]
    fn what_did_not_happen_leaves_no_slot_behind() {
        let mut slots = Slots::default();
        put(&mut slots);
        for _ in 0..3 {
            assert_eq!([put(&mut slots), put(&mut slots)], [1, 2]);
            slots.take_back(QueueId(2)).unwrap();
            slots.take_back(QueueId(1)).unwrap();
            assert_eq!(slots.end(), 1);
        }
        let removed = slots.remove(QueueId(0)).unwrap();
        slots.put(removed);
        slots.commit(|id| panic!("{id:?} was not removed"));
        assert_eq!(put(&mut slots), 1);
    }

    #[test]
    fn gaps_are_filled_after_a_restart() {
        let mut slots = Slots::default();
        for id in [5, 2] {
            let name = QueueName::new("q").unwrap();
            slots.put(Box::new(Queue::new(QueueId(id), name, QueueConfig::default())));
        }
        slots.finish_load();
        assert_eq!([(); 5].map(|()| put(&mut slots)), [0, 1, 3, 4, 6]);
    }

    const NOW: Now = Now { wall: Timestamp(1_000), store: StoreTime(0) };

    fn apply(engine: &mut Engine, ops: Vec<Op>) -> bool {
        engine.apply(&Commit { ops, ..Commit::default() }, NOW, &mut Nothing).unwrap().is_ok()
    }

    #[test]
    fn refused_commits_to_new_queues_take_nothing() {
        let (mut engine, mut ids) = (Engine::new(), JobIds::default());
        for n in 0..100 {
            let queue = QueueName::new(&format!("q{n}")).unwrap();
            let id = ids.next(1, &queue, n);
            let job = NewJob {
                run_at: Some(When::In(1_000 + n)),
                ..NewJob::new(id, queue.clone(), JobBody::new("k", "null"))
            };
            let unknown = Op::Retry { id: ids.next(1, &queue, n) };
            assert!(!apply(&mut engine, vec![Op::Enqueue(Box::new(job)), unknown]));
        }
        assert_eq!((engine.queues.end(), engine.due_timers.len()), (0, 0));
    }

    #[test]
    fn a_queue_that_comes_back_with_its_group_is_not_in_the_way() {
        let (mut engine, config) = (Engine::new(), QueueConfig::default());
        let [a, b, c] = ["a", "b", "c"].map(|name| QueueName::new(name).unwrap());
        let put = |queue: &QueueName| Op::PutQueue { queue: queue.clone(), config: config.clone() };
        assert!(apply(&mut engine, vec![put(&a)]));
        engine.commit_group();
        for durable in [false, true] {
            assert!(apply(&mut engine, vec![Op::DeleteQueue { queue: a.clone() }]));
            engine.maintain(Budget::default(), NOW, &mut Nothing).unwrap();
            assert!(apply(&mut engine, vec![put(&b)]));
            assert_eq!(engine.queue_id("b"), Some(QueueId(1)));
            if durable {
                engine.commit_group();
            } else {
                engine.rollback_group();
                assert_eq!((engine.queue_id("a"), engine.queue_id("b")), (Some(QueueId(0)), None));
            }
        }
        assert!(apply(&mut engine, vec![put(&c)]));
        assert_eq!((engine.queue_id("a"), engine.queue_id("c")), (None, Some(QueueId(0))));
    }
}

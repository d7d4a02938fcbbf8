//! Wakes who waits, without a stampede: at most as many claimers (of jobs, of events of a group) as there is work, first
//! come first woken, and a wake-up that is not used is passed on.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    hash::Hash,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll},
};

use super::sync::{Mutex, MutexGuard, oneshot};
use crate::{
    event::EventInterest,
    id::JobId,
    lock::LockInterest,
    name::{GroupName, Name, QueueName},
    store::{Interest, Wake},
    topic::{FilterSet, TopicFilter, TopicName},
};

/// The waiters of a store, and what they wait for.
#[derive(Default)]
pub struct Hub {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last_waiter: u64,
    waiters: HashMap<u64, oneshot::Sender<Wake>>,
    lines: HashMap<Work, Line>,
    /// Who waits for the log to grow, and up to where it has grown.
    log: FilterSet<u64>,
    log_end: u64,
    finished: HashMap<JobId, BTreeMap<u64, ()>>,
    cancelled: HashMap<JobId, BTreeMap<u64, ()>>,
    tickets: HashMap<(Name, [u8; 16]), BTreeMap<u64, ()>>,
    locks: HashMap<Name, BTreeMap<u64, ()>>,
    schedules: BTreeMap<u64, ()>,
}

/// What is handed out, each piece to one of those who wait for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    /// Jobs of a queue.
    Queue(QueueName),
    /// Events of a group.
    Group(GroupName),
}

impl Work {
    fn of(interest: &Interest) -> Option<Work> {
        match interest {
            Interest::Queue(queue) => Some(Work::Queue(queue.clone())),
            Interest::Event(EventInterest::Group(group)) => Some(Work::Group(group.clone())),
            _ => None,
        }
    }
}

/// The waiters of one queue or group, oldest first.
#[derive(Default)]
struct Line {
    /// As last published.
    available: u64,
    /// Woken, and has not looked yet.
    promised: u64,
    waiters: BTreeMap<u64, ()>,
}

impl Hub {
    /// Registers a waiter; it may be woken already. Look once more at what has no count (jobs) after registering.
    pub fn register(self: &Arc<Self>, on: &[Interest]) -> Waiting {
        let (sender, receiver) = oneshot::channel();
        let mut unsent = Vec::new();
        let mut state = self.lock();
        state.last_waiter += 1;
        let number = state.last_waiter;
        state.waiters.insert(number, sender);
        for interest in on {
            match interest {
                Interest::Queue(_) | Interest::Event(EventInterest::Group(_)) => {}
                Interest::Event(EventInterest::Log { filters, .. }) => {
                    log_filters(filters).for_each(|filter| state.log.insert(&filter, number));
                }
                Interest::Finished(id) => {
                    state.finished.entry(*id).or_default().insert(number, ());
                }
                Interest::CancelRequested(id) => {
                    state.cancelled.entry(*id).or_default().insert(number, ());
                }
                Interest::Lock(LockInterest::Granted { name, scope }) => {
                    state.tickets.entry((name.clone(), *scope)).or_default().insert(number, ());
                }
                Interest::Lock(LockInterest::Changed { name, .. }) => {
                    state.locks.entry(name.clone()).or_default().insert(number, ());
                }
                Interest::Schedules => {
                    state.schedules.insert(number, ());
                }
            }
        }
        let works: Vec<Work> = on.iter().filter_map(Work::of).collect();
        for work in &works {
            state.lines.entry(work.clone()).or_default().waiters.insert(number, ());
        }
        for work in &works {
            self.wake_some(&mut state, work, &mut unsent);
        }
        let grown = on.iter().any(|interest| {
            matches!(interest, Interest::Event(EventInterest::Log { from, .. }) if *from <= state.log_end)
        });
        if grown {
            state.wake_all([number]);
        }
        drop(state);
        drop(unsent);
        Waiting { hub: self.clone(), number, on: on.to_vec(), receiver }
    }

    /// Says how many jobs of the queue can be claimed; wakes as many waiters.
    pub fn publish(self: &Arc<Self>, queue: &QueueName, claimable: u64) {
        self.there_are(Work::Queue(queue.clone()), claimable);
    }

    /// Says how many events of the group can be handed out; wakes as many waiters. `None`: the group is gone; wakes all,
    /// since nothing else ever would.
    pub fn publish_group(self: &Arc<Self>, group: &GroupName, deliverable: Option<u64>) {
        let work = Work::Group(group.clone());
        match deliverable {
            Some(deliverable) => self.there_are(work, deliverable),
            None => self.lock().close(&work),
        }
    }

    /// Says that the log has grown by events of these topics, up to this number; wakes all who wait for that.
    pub fn log_has_grown(&self, topics: &[TopicName], end: u64) {
        let mut state = self.lock();
        state.log_end = state.log_end.max(end);
        let mut waiters = Vec::new();
        for topic in topics {
            state.log.matches(topic, |number| waiters.push(*number));
        }
        state.wake_all(waiters);
    }

    fn there_are(self: &Arc<Self>, work: Work, available: u64) {
        let mut unsent = Vec::new();
        let mut state = self.lock();
        match state.lines.get_mut(&work) {
            Some(line) => line.available = available,
            None if available == 0 => return,
            None => state.lines.entry(work.clone()).or_default().available = available,
        }
        self.wake_some(&mut state, &work, &mut unsent);
        state.tidy(&work);
        drop(state);
        drop(unsent);
    }

    /// A job has finished or is gone: wakes all who wait for that.
    pub fn finished(&self, id: JobId) {
        let mut state = self.lock();
        let mut waiters = state.finished.remove(&id).unwrap_or_default();
        waiters.append(&mut state.cancelled.remove(&id).unwrap_or_default());
        state.wake_all(waiters.into_keys());
    }

    /// A job's cancellation was asked for: wakes all who wait for that.
    pub fn cancel_requested(&self, id: JobId) {
        let mut state = self.lock();
        let waiters = state.cancelled.remove(&id).unwrap_or_default();
        state.wake_all(waiters.into_keys());
    }

    /// A lock has other holders than before: wakes all who watch it, and who waits with the ticket that it was handed
    /// to.
    pub fn lock_changed(&self, name: &Name, handed_to: Option<[u8; 16]>) {
        let mut state = self.lock();
        let mut waiters = state.locks.remove(name).unwrap_or_default();
        if let Some(scope) = handed_to {
            waiters.append(&mut state.tickets.remove(&(name.clone(), scope)).unwrap_or_default());
        }
        state.wake_all(waiters.into_keys());
    }

    /// Something about schedules has changed: wakes all who wait for that.
    pub fn schedules_changed(&self) {
        let mut state = self.lock();
        let waiters = std::mem::take(&mut state.schedules);
        state.wake_all(waiters.into_keys());
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.lock().waiters.len()
    }

    /// Nothing is left of those who waited, and nothing of what they waited for.
    #[cfg(test)]
    pub(crate) fn is_tidy(&self) -> bool {
        let state = self.lock();
        state.waiters.is_empty() && state.lines.is_empty() && state.log.is_empty()
    }

    fn wake_some(self: &Arc<Self>, state: &mut State, work: &Work, unsent: &mut Vec<Wake>) {
        let State { waiters, lines, .. } = state;
        let Some(line) = lines.get_mut(work) else { return };
        while line.available > line.promised {
            let Some((number, ())) = line.waiters.pop_first() else { return };
            // One that waits for several may have been woken by another.
            let Some(sender) = waiters.remove(&number) else { continue };
            line.promised += 1;
            let promise = Promise { hub: self.clone(), work: work.clone() };
            // A waiter that is gone hands its wake-up back, but a promise must not be dropped under the lock.
            if let Err(wake) = sender.send(Wake::woken(Some(Box::new(promise)))) {
                unsent.push(wake);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake_all(&mut self, waiters: impl IntoIterator<Item = u64>) {
        for sender in waiters.into_iter().filter_map(|number| self.waiters.remove(&number)) {
            // Without a promise, a wake-up that finds nobody is simply gone.
            let _ = sender.send(Wake::woken(None));
        }
    }

    /// There will be none of this work: wakes the whole line, and keeps nothing of it.
    fn close(&mut self, work: &Work) {
        let Some(line) = self.lines.get_mut(work) else { return };
        line.available = 0;
        let waiters = std::mem::take(&mut line.waiters);
        self.wake_all(waiters.into_keys());
        self.tidy(work);
    }

    fn tidy(&mut self, work: &Work) {
        if self.lines.get(work).is_some_and(|l| l.available == 0 && l.promised == 0 && l.waiters.is_empty()) {
            self.lines.remove(work);
        }
    }
}

/// A waiter's place. Resolves when it is woken; dropped, it leaves the line and passes an unused wake-up on.
pub struct Waiting {
    hub: Arc<Hub>,
    number: u64,
    on: Vec<Interest>,
    receiver: oneshot::Receiver<Wake>,
}

impl Future for Waiting {
    type Output = Wake;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Wake> {
        // The sender lives in the hub until it is used, and the hub lives as long as this.
        Pin::new(&mut self.receiver).poll(cx).map(|wake| wake.unwrap_or_else(|_| Wake::woken(None)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut guard = self.hub.lock();
        let state = &mut *guard;
        state.waiters.remove(&self.number);
        for interest in &self.on {
            match interest {
                Interest::Queue(_) | Interest::Event(EventInterest::Group(_)) => {
                    let Some(work) = Work::of(interest) else { continue };
                    if let Some(line) = state.lines.get_mut(&work) {
                        line.waiters.remove(&self.number);
                    }
                    state.tidy(&work);
                }
                Interest::Event(EventInterest::Log { filters, .. }) => {
                    for filter in log_filters(filters) {
                        state.log.remove(&filter, &self.number);
                    }
                }
                Interest::Finished(id) => leave(&mut state.finished, id, self.number),
                Interest::CancelRequested(id) => leave(&mut state.cancelled, id, self.number),
                Interest::Lock(LockInterest::Granted { name, scope }) => {
                    leave(&mut state.tickets, &(name.clone(), *scope), self.number);
                }
                Interest::Lock(LockInterest::Changed { name, .. }) => {
                    leave(&mut state.locks, name, self.number);
                }
                Interest::Schedules => {
                    state.schedules.remove(&self.number);
                }
            }
        }
        drop(guard);
        // A wake-up that was sent but not taken is dropped with the receiver, outside the lock.
    }
}

fn leave<K: Eq + Hash>(lines: &mut HashMap<K, BTreeMap<u64, ()>>, key: &K, number: u64) {
    if let Some(line) = lines.get_mut(key) {
        line.remove(&number);
        if line.is_empty() {
            lines.remove(key);
        }
    }
}

/// No filter is every topic.
fn log_filters(filters: &[TopicFilter]) -> impl Iterator<Item = TopicFilter> + '_ {
    let all = filters.is_empty().then(TopicFilter::all);
    filters.iter().cloned().chain(all)
}

/// Kept by a woken claimer until it has looked. Dropped, it wakes the next if there is still work.
struct Promise {
    hub: Arc<Hub>,
    work: Work,
}

impl Drop for Promise {
    fn drop(&mut self) {
        let mut unsent = Vec::new();
        let mut state = self.hub.lock();
        if let Some(line) = state.lines.get_mut(&self.work) {
            line.promised = line.promised.saturating_sub(1);
        }
        self.hub.wake_some(&mut state, &self.work, &mut unsent);
        state.tidy(&self.work);
        drop(state);
        drop(unsent);
    }
}

//! Wakes who waits, without a stampede: at most as many claimers as there is work, first come first woken, and a
//! wake-up that is not used is passed on.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    hash::Hash,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use crate::{
    id::JobId,
    lock::LockInterest,
    name::{Name, QueueName},
    store::{Interest, Wake},
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
    queues: HashMap<QueueName, Line>,
    finished: HashMap<JobId, BTreeMap<u64, ()>>,
    cancelled: HashMap<JobId, BTreeMap<u64, ()>>,
    tickets: HashMap<(Name, [u8; 16]), BTreeMap<u64, ()>>,
    locks: HashMap<Name, BTreeMap<u64, ()>>,
}

/// The waiters of one queue, oldest first.
#[derive(Default)]
struct Line {
    /// As last published.
    claimable: u64,
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
                Interest::Queue(queue) => {
                    state.queues.entry(queue.clone()).or_default().waiters.insert(number, ());
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
            }
        }
        for interest in on {
            if let Interest::Queue(queue) = interest {
                self.wake_claimers(&mut state, queue, &mut unsent);
            }
        }
        drop(state);
        drop(unsent);
        Waiting { hub: self.clone(), number, on: on.to_vec(), receiver }
    }

    /// Says how many jobs of the queue can be claimed; wakes as many waiters.
    pub fn publish(self: &Arc<Self>, queue: &QueueName, claimable: u64) {
        let mut unsent = Vec::new();
        let mut state = self.lock();
        match state.queues.get_mut(queue) {
            Some(line) => line.claimable = claimable,
            None if claimable == 0 => return,
            None => state.queues.entry(queue.clone()).or_default().claimable = claimable,
        }
        self.wake_claimers(&mut state, queue, &mut unsent);
        state.tidy(queue);
        drop(state);
        drop(unsent);
    }

    /// A job has finished or is gone: wakes all who wait for that.
    pub fn finished(&self, id: JobId) {
        let mut state = self.lock();
        let mut waiters = state.finished.remove(&id).unwrap_or_default();
        waiters.append(&mut state.cancelled.remove(&id).unwrap_or_default());
        state.wake_all(waiters);
    }

    /// A job's cancellation was asked for: wakes all who wait for that.
    pub fn cancel_requested(&self, id: JobId) {
        let mut state = self.lock();
        let waiters = state.cancelled.remove(&id).unwrap_or_default();
        state.wake_all(waiters);
    }

    /// A lock has other holders than before: wakes all who watch it, and who waits with the ticket that it was handed
    /// to.
    pub fn lock_changed(&self, name: &Name, handed_to: Option<[u8; 16]>) {
        let mut state = self.lock();
        let mut waiters = state.locks.remove(name).unwrap_or_default();
        if let Some(scope) = handed_to {
            waiters.append(&mut state.tickets.remove(&(name.clone(), scope)).unwrap_or_default());
        }
        state.wake_all(waiters);
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.lock().waiters.len()
    }

    fn wake_claimers(self: &Arc<Self>, state: &mut State, queue: &QueueName, unsent: &mut Vec<Wake>) {
        let State { waiters, queues, .. } = state;
        let Some(line) = queues.get_mut(queue) else { return };
        while line.claimable > line.promised {
            let Some((number, ())) = line.waiters.pop_first() else { return };
            // One that waits on several queues may have been woken by another.
            let Some(sender) = waiters.remove(&number) else { continue };
            line.promised += 1;
            let promise = Promise { hub: self.clone(), queue: queue.clone() };
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
    fn wake_all(&mut self, waiters: BTreeMap<u64, ()>) {
        for sender in waiters.keys().filter_map(|number| self.waiters.remove(number)).collect::<Vec<_>>() {
            // Without a promise, a wake-up that finds nobody is simply gone.
            let _ = sender.send(Wake::woken(None));
        }
    }

    fn tidy(&mut self, queue: &QueueName) {
        if self.queues.get(queue).is_some_and(|l| l.claimable == 0 && l.promised == 0 && l.waiters.is_empty())
        {
            self.queues.remove(queue);
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
                Interest::Queue(queue) => {
                    if let Some(line) = state.queues.get_mut(queue) {
                        line.waiters.remove(&self.number);
                    }
                    state.tidy(queue);
                }
                Interest::Finished(id) => leave(&mut state.finished, id, self.number),
                Interest::CancelRequested(id) => leave(&mut state.cancelled, id, self.number),
                Interest::Lock(LockInterest::Granted { name, scope }) => {
                    leave(&mut state.tickets, &(name.clone(), *scope), self.number);
                }
                Interest::Lock(LockInterest::Changed { name, .. }) => {
                    leave(&mut state.locks, name, self.number);
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

/// Kept by a woken claimer until it has looked. Dropped, it wakes the next if there is still work.
struct Promise {
    hub: Arc<Hub>,
    queue: QueueName,
}

impl Drop for Promise {
    fn drop(&mut self) {
        let mut unsent = Vec::new();
        let mut state = self.hub.lock();
        if let Some(line) = state.queues.get_mut(&self.queue) {
            line.promised = line.promised.saturating_sub(1);
        }
        self.hub.wake_claimers(&mut state, &self.queue, &mut unsent);
        state.tidy(&self.queue);
        drop(state);
        drop(unsent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> QueueName {
        QueueName::new("mail").unwrap()
    }
    fn woken(waiting: &mut Waiting) -> Option<Wake> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match Pin::new(waiting).poll(&mut cx) {
            Poll::Ready(wake) => Some(wake),
            Poll::Pending => None,
        }
    }

    #[test]
    fn as_many_are_woken_as_there_is_work_and_the_first_come_first() {
        let hub = Arc::new(Hub::default());
        let mut waiters: Vec<_> = (0..5).map(|_| hub.register(&[Interest::Queue(queue())])).collect();
        hub.publish(&queue(), 2);
        let wakes: Vec<_> = waiters.iter_mut().map(woken).collect();
        assert_eq!(wakes.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false, false, false]);
    }

    #[test]
    fn an_unused_wake_up_is_passed_on() {
        let hub = Arc::new(Hub::default());
        let mut first = hub.register(&[Interest::Queue(queue())]);
        let mut second = hub.register(&[Interest::Queue(queue())]);
        let mut third = hub.register(&[Interest::Queue(queue())]);
        hub.publish(&queue(), 1);
        let wake = woken(&mut first);
        assert!(wake.is_some() && woken(&mut second).is_none());
        drop(wake);
        // Sent, but dropped before anybody polled it.
        drop(second);
        let wake = woken(&mut third);
        assert!(wake.is_some());
        hub.publish(&queue(), 0);
        drop(wake);
        assert_eq!(hub.waiting(), 0);
        assert!(hub.lock().queues.is_empty(), "an idle queue leaves nothing behind");
    }

    #[test]
    fn one_who_comes_when_there_is_work_is_woken_at_once_but_not_for_what_is_promised() {
        let hub = Arc::new(Hub::default());
        hub.publish(&queue(), 1);
        let mut first = hub.register(&[Interest::Queue(queue())]);
        let mut second = hub.register(&[Interest::Queue(queue())]);
        assert!(woken(&mut first).is_some());
        // The wake-up above was dropped at once, so the job was passed on.
        assert!(woken(&mut second).is_some());
    }

    #[test]
    fn a_waiter_on_two_queues_is_woken_once() {
        let hub = Arc::new(Hub::default());
        let other = QueueName::new("other").unwrap();
        let mut both = hub.register(&[Interest::Queue(queue()), Interest::Queue(other.clone())]);
        let mut one = hub.register(&[Interest::Queue(other.clone())]);
        hub.publish(&queue(), 1);
        hub.publish(&other, 1);
        assert!(woken(&mut both).is_some());
        assert!(woken(&mut one).is_some());
    }
}

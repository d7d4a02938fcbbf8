//! A worker: one task that takes one job after the other, and runs each within bounds of its own.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::Poll;

use futures_util::future::poll_immediate;
use tokio::time::{Instant, sleep_until};

use super::attempt::{self, Ran};
use super::later::{Key, Put};
use super::shared::{Shared, Spawn};
use super::slot::{Current, Slot};
use super::ticket::{Place, Stop, Waits};
use super::{Item, PoolContext, PoolError};
use crate::job::JobError;
use crate::queue::{Receiver, TryRecvError};

/// How to start a worker with this handler, whose types end here.
pub(super) fn spawner<J, R, F, Fut>(handler: F) -> Spawn<J, R>
where
    J: Clone + Send + 'static,
    R: Send + 'static,
    F: Fn(J, PoolContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, JobError>> + Send + 'static,
{
    let handler = Arc::new(handler);
    Box::new(move |shared, slot, receiver| {
        let name = format!("worker {} of pool {}", slot.number, shared.plan.name);
        let tasks = shared.tasks.clone();
        // Its own, so that its count of references is nobody else's business.
        let pool = Arc::from(&*shared.plan.name);
        let worker = Worker { shared, slot, handler: handler.clone(), receiver, pool, streak: 0 };
        tasks.spawn(name, worker.run())
    })
}

struct Worker<J, R, F> {
    shared: Arc<Shared<J, R>>,
    slot: Arc<Slot<J, R>>,
    handler: Arc<F>,
    receiver: Receiver<Item<J, R>>,
    pool: Arc<str>,
    /// Jobs so far.
    streak: u32,
}

/// Jobs one after the other before the other tasks have a turn.
const STREAK: u32 = 128;

/// What comes after a job.
enum Next<J, R> {
    Another,
    /// Another, and it is so late now.
    AnotherAt(Instant),
    /// The same again: this worker has waited with it, since too many were put off.
    Again(Item<J, R>),
    /// The slot was given to somebody else.
    Lost,
}

impl<J, R, F, Fut> Worker<J, R, F>
where
    J: Clone + Send + 'static,
    R: Send + 'static,
    F: Fn(J, PoolContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, JobError>> + Send + 'static,
{
    async fn run(mut self) {
        // When the last job ended, if the next one begins right after it: the clock is read once a job.
        let mut now = None;
        while let Some(mut item) = self.next(&mut now).await {
            loop {
                match self.one(item, now.take().unwrap_or_else(Instant::now)).await {
                    Next::Another => break,
                    Next::AnotherAt(ended) => {
                        now = Some(ended);
                        break;
                    }
                    Next::Again(same) => item = same,
                    Next::Lost => return,
                }
            }
        }
    }

    /// The next job; `None` when this worker is to go. `now` is forgotten if it had to wait.
    async fn next(&mut self, now: &mut Option<Instant>) -> Option<Item<J, R>> {
        // Whoever works in a loop gives others their turn. It counts by itself, which is cheaper than by the budget of its
        // task; that is its jobs'.
        self.streak = self.streak.wrapping_add(1);
        if self.streak.is_multiple_of(STREAK) {
            *now = None;
            turn().await;
        }
        let shared = &*self.shared;
        let mut turned = false;
        loop {
            if shared.is_halted() || shared.may_go() {
                self.slot.leave();
                return None;
            }
            if let Some(item) = shared.later.due() {
                // There may be more whose time has come.
                shared.wake.notify_one();
                return Some(item);
            }
            let none = match self.receiver.try_recv() {
                Ok(item) => return Some(item),
                Err(empty) => empty,
            };
            *now = None;
            match none {
                // Others first: in a busy pool somebody submits meanwhile, and has nobody to wake.
                TryRecvError::Empty if !turned => {
                    turned = true;
                    turn().await;
                }
                TryRecvError::Empty => tokio::select! {
                    biased;
                    item = self.receiver.recv_at_rest() => {
                        if let Some(item) = item {
                            return Some(item);
                        }
                    }
                    () = shared.wake.notified() => {}
                },
                TryRecvError::Closed => tokio::select! {
                    biased;
                    () = shared.idle() => return None,
                    () = shared.wake.notified() => {}
                },
            }
        }
    }

    async fn one(&self, item: Item<J, R>, began: Instant) -> Next<J, R> {
        let shared = &*self.shared;
        let Some(Waits { job, since }) = item.begin() else {
            // Cancelled while it waited.
            shared.meter.ended(&PoolError::Cancelled);
            shared.left();
            return Next::Another;
        };
        shared.began(since, began);
        // Users' code, which may panic.
        let copy = catch_unwind(AssertUnwindSafe(|| job.clone()));
        let current = Current::of(item, job, self.slot.number, began);
        let job = match copy {
            Ok(job) => job,
            Err(panic) => {
                shared.over();
                let error = attempt::panicked(&shared.plan, current.ticket.id, &*panic);
                shared.ended(current, Err(error), false);
                return Next::Another;
            }
        };
        if current.ticket.context.deadline().is_some_and(|at| at <= began) {
            shared.over();
            shared.ended(current, Err(PoolError::Expired), false);
            return Next::Another;
        }
        let (id, limit) = (current.ticket.id, current.ticket.limit);
        let context = match limit {
            Some(limit) => current.ticket.context.clone().with_time_limit(limit),
            None => current.ticket.context.clone(),
        };
        let stop: Arc<dyn Stop> = current.ticket.clone();
        self.slot.begin(current);
        // Seen now, or whoever halts it sees the job in its slot and tells it to stop.
        if shared.is_halted()
            && let Some(current) = self.slot.end()
        {
            shared.over();
            current.ticket.put_off();
            shared.give_back(current.into_item(began));
            return Next::Another;
        }
        let cx = PoolContext { stop, attempt: 1, pool: self.pool.clone() };
        let plan = &shared.plan;
        let ended = {
            // Pinned here, so that what is around it moves a pointer only.
            let mut work = pin!(attempt::work(plan, &*self.handler, job, cx, context));
            match poll_immediate(work.as_mut()).await {
                Some(ended) => Ok(ended),
                // In a box: most of those jobs of which there are many are ready at once.
                None => Box::pin(attempt::wait(work, plan, &self.slot, limit, began)).await,
            }
        };
        let ran = attempt::ran(plan, &self.slot, id, ended);
        let Some(current) = self.slot.end() else { return Next::Lost };
        shared.over();
        match ran {
            Ran::Ended(result) => {
                let began = current.began;
                let ended = shared.ended(current, result, false);
                if shared.scales {
                    self.slot.count(ended.saturating_duration_since(began));
                }
                Next::AnotherAt(ended)
            }
            Ran::PutOff(delay) => {
                let now = Instant::now();
                let ticket = current.ticket.clone();
                ticket.put_off();
                if ticket.is_stopped() {
                    // Whoever cancelled it may have seen it run.
                    shared.ended(current, Err(PoolError::Cancelled), false);
                    return Next::Another;
                }
                // A time that the clock does not reach is a long one.
                let at = now.checked_add(delay).unwrap_or_else(|| now + crate::secs(365 * 86_400));
                match shared.later.put(at, current.into_item(at)) {
                    Put::Done(key) => {
                        ticket.lies_in(Box::new(Laid { shared: Arc::downgrade(&self.shared), key }));
                        // It waits until then at least.
                        shared.call.notify_one();
                        Next::Another
                    }
                    Put::Beyond(key) => {
                        tokio::select! {
                            () = sleep_until(at) => {},
                            () = ticket.stopped() => {},
                            () = shared.halted() => {},
                        }
                        shared.later.take(&key).map_or(Next::Another, Next::Again)
                    }
                    Put::Closed(item) => {
                        shared.give_back(item);
                        Next::Another
                    }
                }
            }
        }
    }
}

/// A job that was put off, by where it lies.
struct Laid<J, R> {
    shared: Weak<Shared<J, R>>,
    key: Key,
}

impl<J: Send, R: Send> Place for Laid<J, R> {
    fn clear(&self) {
        let Some(shared) = self.shared.upgrade() else { return };
        // Whoever has taken it before sees for themselves that it has ended.
        if shared.later.take(&self.key).is_some() {
            shared.meter.ended(&PoolError::Cancelled);
            shared.left();
        }
    }
}

/// Gives everybody who is ready a turn.
async fn turn() {
    let mut given = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl<J, R, F> Drop for Worker<J, R, F> {
    fn drop(&mut self) {
        self.slot.leave();
        // Aborted in the middle of a job, or ended by a panic that its own guard did not see (in a drop).
        if let Some(current) = self.slot.end() {
            let error = match std::thread::panicking() {
                true => PoolError::Panicked("while it was cut".to_owned()),
                false => PoolError::Cancelled,
            };
            self.shared.over();
            self.shared.ended(current, Err(error), false);
        }
    }
}

//! What the handles, the workers and the supervisor of a pool share.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::dead::{DeadLetter, DeadLetters};
use super::later::Later;
use super::meter::Meter;
use super::slot::{Current, Slot};
use super::tally::Tally;
use super::{Item, Owner, Plan, PoolError, PoolReport, Status};
use crate::app::Overstayer;
use crate::millis;
use crate::queue::Receiver;
use crate::scale::Reason;
use crate::tasks::{Task, TaskSet};

/// Starts a worker in a slot.
pub(super) type Spawn<J, R> =
    Box<dyn Fn(Arc<Shared<J, R>>, Arc<Slot<J, R>>, Receiver<Item<J, R>>) -> Task<()> + Send + Sync>;

pub(super) struct Shared<J, R> {
    pub plan: Plan,
    pub tasks: TaskSet,
    /// Jobs that were submitted, and those of them that have ended.
    pub tally: Tally,
    pub dead: DeadLetters<J>,
    pub later: Later<Item<J, R>>,
    pub meter: Meter,
    /// Wakes a worker that waits: something was put off until now, or somebody is to go.
    pub wake: Notify,
    /// Calls the supervisor.
    pub call: Notify,
    empty: Notify,
    closed: AtomicBool,
    /// No job begins any more.
    halted: AtomicBool,
    halting: Notify,
    /// Jobs that never began, or were put off, when it was halted: for the report.
    returned: Mutex<Vec<J>>,
    /// The supervisor wants to be called when so many are pending.
    call_at: AtomicUsize,
    /// How many workers are to go.
    excess: AtomicUsize,
    /// Whether the number of workers can change: only then are they watched closely.
    pub scales: bool,
    busy: AtomicUsize,
    most_busy: AtomicUsize,
    waited_us: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
    seen: Mutex<Seen<J, R>>,
}

/// What the supervisor saw last.
struct Seen<J, R> {
    slots: Vec<Arc<Slot<J, R>>>,
    reason: Reason,
}

impl<J, R> Shared<J, R> {
    pub fn new(plan: Plan, tasks: TaskSet) -> Self {
        Self {
            tasks,
            tally: Tally::default(),
            dead: DeadLetters::new(plan.dead),
            later: Later::new(plan.capacity),
            meter: Meter::new(&plan.name),
            wake: Notify::new(),
            call: Notify::new(),
            empty: Notify::new(),
            closed: AtomicBool::new(false),
            halted: AtomicBool::new(false),
            halting: Notify::new(),
            returned: Mutex::default(),
            call_at: AtomicUsize::new(1),
            excess: AtomicUsize::new(0),
            scales: plan.rules.floor < plan.rules.ceiling,
            busy: AtomicUsize::new(0),
            most_busy: AtomicUsize::new(0),
            waited_us: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            seen: Mutex::new(Seen { slots: Vec::new(), reason: Reason::Enough }),
            plan,
        }
    }

    /// A job has ended, or did not come in.
    pub fn left(&self) {
        self.left_by(0, false);
    }

    /// The same, counted by this worker; whether it gave a value.
    fn left_by(&self, worker: u64, done: bool) {
        self.tally.leave(worker, done);
        // Whoever wants to know has said so before it looked at what is pending.
        if (self.tally.is_watched() || self.is_closed()) && self.pending() == 0 {
            self.empty.notify_waiters();
            if self.is_closed() {
                self.call.notify_one();
            }
        }
    }

    pub fn pending(&self) -> usize {
        self.tally.pending()
    }

    pub async fn idle(&self) {
        let _watch = self.tally.watch();
        loop {
            let empty = self.empty.notified();
            if self.pending() == 0 {
                return;
            }
            empty.await;
        }
    }

    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.call.notify_one();
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Calls the supervisor if it wants to know of this.
    pub fn call_if_needed(&self) {
        // In this order, after the job was counted: the supervisor looks at what is pending after it has said when to be
        // called.
        let at = self.call_at.load(Ordering::SeqCst);
        if at != usize::MAX && self.pending() >= at {
            self.call.notify_one();
        }
    }

    /// When the supervisor wants to be called; whether that is now.
    pub fn call_me_at(&self, pending: usize) -> bool {
        self.call_at.store(pending, Ordering::SeqCst);
        self.pending() >= pending
    }

    /// So many workers are to go, whatever was said before.
    pub fn dismiss(&self, workers: usize) {
        self.excess.store(workers, Ordering::SeqCst);
        if workers > 0 {
            self.wake.notify_one();
        }
    }

    /// Whether the worker that asks is one of those that are to go.
    pub fn may_go(&self) -> bool {
        if self.excess.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let one_less = |excess: usize| excess.checked_sub(1);
        let gone = self.excess.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        if gone.is_ok_and(|before| before > 1) {
            // One notice is kept at most: it is passed on.
            self.wake.notify_one();
        }
        gone.is_ok()
    }

    /// A worker takes a job that waits since then.
    pub fn began(&self, since: Option<Instant>, now: Instant) {
        if !self.scales {
            return;
        }
        let waited = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let waited = waited.as_micros() as u64;
        if waited > self.waited_us.load(Ordering::Relaxed) {
            self.waited_us.store(waited, Ordering::Relaxed);
        }
        let busy = self.busy.fetch_add(1, Ordering::Relaxed) + 1;
        if busy > self.most_busy.load(Ordering::Relaxed) {
            self.most_busy.store(busy, Ordering::Relaxed);
        }
    }

    /// A job has left its slot.
    pub fn over(&self) {
        if self.scales {
            self.busy.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The most workers that were busy at once since the last look, and the longest that a job waited.
    pub fn look(&self) -> (usize, Duration) {
        let busy = self.busy.load(Ordering::Relaxed);
        let most = self.most_busy.swap(busy, Ordering::Relaxed);
        (most, Duration::from_micros(self.waited_us.swap(0, Ordering::Relaxed)))
    }

    /// Ends a job that was taken out of its slot; answers when that was.
    pub fn ended(&self, current: Current<J, R>, result: Result<R, PoolError>, stuck: bool) -> Instant {
        let Current { job, ticket, began, worker, .. } = current;
        let now = Instant::now();
        let ran = || now.saturating_duration_since(began);
        let done = result.is_ok();
        match &result {
            Ok(_) => self.meter.completed(),
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                if error.is_dead_letter() {
                    tracing::warn!(pool = %self.plan.name, job = ticket.id, %error, stuck, "job failed");
                    let error = error.clone();
                    let (id, priority, limit) = (ticket.id, ticket.priority, ticket.limit);
                    let letter = DeadLetter { id, job, error, stuck, ran: ran(), at: now, priority, limit };
                    self.dead.add(letter);
                    self.meter.dead(self.dead.len());
                }
                self.meter.ended(error);
            }
        }
        self.meter.ran(ticket.id, ran);
        ticket.end(result);
        self.left_by(worker, done);
        now
    }

    /// A slot is lost to this job.
    pub fn lost(&self, current: Current<J, R>, now: Instant) {
        let error = match current.ticket.limit {
            _ if current.ticket.is_stopped() => PoolError::Cancelled,
            Some(limit) => PoolError::TimedOut(limit),
            None => PoolError::Cancelled,
        };
        let (job, age_ms) = (current.ticket.id, (now - current.began).as_millis() as u64);
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.meter.lost();
        tracing::error!(
            pool = %self.plan.name, job, age_ms,
            "a job holds its thread although it was to stop; its slot is given to another worker"
        );
        self.over();
        self.ended(current, Err(error), true);
    }

    pub fn saw(&self, slots: Vec<Arc<Slot<J, R>>>, reason: Reason) {
        let before = std::mem::replace(&mut *self.seen(), Seen { slots, reason });
        drop(before);
    }

    pub fn status(&self, waiting: usize) -> Status {
        let (slots, reason) = {
            let seen = self.seen();
            (seen.slots.clone(), seen.reason)
        };
        Status {
            workers: slots.iter().filter(|slot| !slot.has_left()).count(),
            busy: slots.iter().filter(|slot| slot.is_busy()).count(),
            waiting,
            put_off: self.later.len(),
            dead: self.dead.len(),
            lost: self.lost.load(Ordering::Relaxed),
            reason,
        }
    }

    /// What runs now.
    pub fn running(&self) -> Vec<Overstayer> {
        let slots = self.seen().slots.clone();
        slots.iter().filter_map(|slot| slot.overstayer(&self.plan.name)).collect()
    }

    /// Tells everything that runs to stop.
    pub fn cancel_all(&self) {
        let slots = self.seen().slots.clone();
        slots.iter().for_each(|slot| slot.cancel());
        // It notes when they were told.
        self.call.notify_one();
    }

    pub fn is_halted(&self) -> bool {
        self.halted.load(Ordering::SeqCst)
    }

    pub async fn halted(&self) {
        loop {
            let halting = self.halting.notified();
            if self.is_halted() {
                return;
            }
            halting.await;
        }
    }

    /// A job whose turn does not come.
    pub fn give_back(&self, item: Item<J, R>) {
        // One that was cancelled has had its end.
        if let Some(job) = item.give_up(PoolError::Stopped) {
            self.meter.ended(&PoolError::Stopped);
            self.returned().push(job);
        }
        self.left();
    }

    /// How many are to be in the report.
    pub fn given_back(&self) -> usize {
        self.returned().len()
    }

    fn returned(&self) -> MutexGuard<'_, Vec<J>> {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, Seen<J, R>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Aborted tasks need a moment to be gone.
const LINGER: Duration = millis(100);

impl<J, R> Shared<J, R> {
    /// The end: of everything there is, or of what `limit` allows.
    pub async fn drain(&self, owner: &Owner<J, R>, limit: Option<Duration>) -> PoolReport<J> {
        let (done, failed) = (self.tally.all_done(), self.failed.load(Ordering::Relaxed));
        owner.close();
        let (mut overstayed, mut stuck) = (Vec::new(), Vec::new());
        let late = match limit {
            None => {
                self.idle().await;
                false
            }
            Some(limit) => timeout(limit, self.idle()).await.is_err(),
        };
        if late {
            self.hand_back(owner).await;
            overstayed = self.running();
            self.cancel_all();
            let _ = timeout(self.plan.grace + LINGER, self.idle()).await;
            stuck = self.running();
        }
        // The workers go when there is nothing left, which takes them a moment.
        self.tasks.drain(LINGER).await;
        self.tasks.abort();
        PoolReport {
            done: self.tally.all_done() - done,
            failed: self.failed.load(Ordering::Relaxed) - failed,
            left: std::mem::take(&mut *self.returned()),
            overstayed,
            stuck,
        }
    }

    /// Takes no more jobs and begins none; what has not begun goes into the report. What runs goes on.
    pub async fn hand_back(&self, owner: &Owner<J, R>) {
        owner.close();
        self.halted.store(true, Ordering::SeqCst);
        self.halting.notify_waiters();
        let waiting = owner.queue.drain_by(Instant::now()).await.left;
        waiting.into_iter().chain(self.later.close()).for_each(|item| self.give_back(item));
    }
}

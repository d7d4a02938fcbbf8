//! Renews what a client holds and gives back what it does not want any more: one task and one timer for all of it.
//!
//! The task is there while there is something to do. It owes its life to the first lock that is taken, and ends with the
//! last that is given back, so that a test on virtual time leaves nothing behind.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use mainstay_core::{
    clock::Clock,
    lock::{LockOp, LockReply, Ticket},
    name::Name,
    op::{Commit, Committed, Failure, Op, Reason, Reply},
    store::{Batch, Store},
    time::StoreTime,
};
use tracing::Span;

use super::{
    Term,
    hold::{Hold, Loss},
    sync::{Mutex, MutexGuard, Notify, TaskSet, timeout, watch},
};
use crate::{context::Context, job::ms, secs};

/// What one call to the store renews or gives back at most.
const BATCH: usize = 500;
/// Timers stand still while the machine sleeps: the clock is looked at this often.
const LOOK_AGAIN: Duration = secs(1);
/// How long one try to give back may take, and how often it is tried.
const GIVE_BACK_LIMIT: Duration = secs(5);
const GIVE_BACK_TRIES: u32 = 5;

/// The locks of one client.
pub(crate) struct Keeper {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// There is something new to do.
    work: Notify,
    /// All was given back.
    idle: Notify,
    stopping: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    last: u64,
    held: HashMap<u64, Entry>,
    /// When to look at which.
    due: BTreeSet<(StoreTime, u64)>,
    /// To be told to the store: releases and withdrawals.
    gone: Vec<LockOp>,
    /// The task is there.
    running: bool,
}

struct Entry {
    hold: Arc<Hold>,
    term: Term,
    due: StoreTime,
}

/// What a call under way has come to.
enum Done {
    /// The renewals of these, asked for then.
    Renewed {
        numbers: Vec<u64>,
        asked_at: StoreTime,
        answers: Vec<Option<Result<Committed, Failure>>>,
    },
    GivenBack,
}

impl Keeper {
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Arc<Keeper> {
        Arc::new(Keeper {
            store,
            clock,
            state: Mutex::default(),
            work: Notify::new(),
            idle: Notify::new(),
            stopping: watch::Sender::new(false),
        })
    }

    /// A place in a line that is left when the answer is dropped.
    pub fn enter_line(self: &Arc<Self>, name: Name, ticket: Ticket) -> InLine {
        let withdraw = LockOp::Withdraw { name, ticket, visit: 0, may_return: false };
        InLine { keeper: self.clone(), withdraw: Some(withdraw) }
    }

    /// Looks after a hold until the answer is dropped.
    pub(super) fn keep(self: &Arc<Self>, hold: Arc<Hold>, term: Term, renewed: bool) -> Kept {
        metrics::gauge!("mainstay.lock.held").increment(1.0);
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        let due = if renewed { term.renew_at() } else { term.lost_at() };
        state.due.insert((due, number));
        state.held.insert(number, Entry { hold: hold.clone(), term, due });
        drop(state);
        self.wake();
        Kept { keeper: self.clone(), number, hold, told: false }
    }

    /// Resolves when the service is on its way out.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopping = self.stopping.subscribe();
        async move {
            if stopping.wait_for(|stopping| *stopping).await.is_err() {
                // The client is gone, and nobody can stop it any more.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Tells all who hold a lock that it is lost, and those who wait for one that there will be none.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
        let state = self.lock();
        let holds: Vec<_> = state.held.values().map(|entry| entry.hold.clone()).collect();
        drop(state);
        holds.iter().for_each(|hold| hold.end(Loss::Stopping));
    }

    /// Gives everything back that is held, whoever still has it, and waits until the store has been told.
    pub async fn give_all_back(self: &Arc<Self>) {
        self.stop();
        {
            let mut state = self.lock();
            let State { held, due, gone, .. } = &mut *state;
            due.clear();
            gone.extend(held.drain().map(|(_, entry)| release(&entry.hold)));
        }
        loop {
            let mut idle = std::pin::pin!(self.idle.notified());
            idle.as_mut().enable();
            self.wake();
            if !self.lock().running {
                return;
            }
            idle.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees that the task is there if there is something to do.
    fn wake(self: &Arc<Self>) {
        let mut state = self.lock();
        let idle = state.held.is_empty() && state.gone.is_empty();
        if state.running || idle {
            drop(state);
            self.work.notify_one();
            return;
        }
        // Without a runtime nobody can be told; what is held ends with its TTL.
        let Some(tasks) = TaskSet::current() else { return };
        state.running = true;
        drop(state);
        // Nobody's in particular: neither the deadline nor the trace of whoever took the first lock.
        let _nobodys = Context::default().enter();
        let keeper = self.clone();
        let here = Here(Some(self.clone()));
        Span::none().in_scope(|| tasks.spawn("keep locks", async move { keeper.run(here).await }));
    }

    async fn run(self: Arc<Self>, here: Here) {
        let mut calls: FuturesUnordered<BoxFuture<'static, Done>> = FuturesUnordered::new();
        loop {
            let now = self.clock.now().store;
            let next = {
                let mut state = self.lock();
                state.give_up_lost(now);
                calls.extend(self.give_back(&mut state));
                calls.extend(self.renew(&mut state, now));
                if state.held.is_empty() && calls.is_empty() {
                    here.leave(state);
                    return;
                }
                let soon = now.plus_ms(ms(LOOK_AGAIN));
                state.due.first().map_or(soon, |(due, _)| soon.min(*due))
            };
            tokio::select! {
                biased;
                Some(done) = calls.next() => self.done(done),
                () = self.work.notified() => {}
                () = self.clock.sleep_until(next) => {}
            }
        }
    }

    /// Calls that tell the store what is not wanted any more.
    fn give_back(&self, state: &mut State) -> Vec<BoxFuture<'static, Done>> {
        let mut gone = std::mem::take(&mut state.gone);
        let mut calls: Vec<BoxFuture<'static, Done>> = Vec::new();
        while !gone.is_empty() {
            let some = gone.split_off(gone.len().saturating_sub(BATCH));
            let (store, clock) = (self.store.clone(), self.clock.clone());
            calls.push(Box::pin(async move {
                tell(&*store, &*clock, some).await;
                Done::GivenBack
            }));
        }
        calls
    }

    /// Calls that renew what is due.
    fn renew(&self, state: &mut State, now: StoreTime) -> Vec<BoxFuture<'static, Done>> {
        let mut due = Vec::new();
        while let Some(&(at, number)) = state.due.first() {
            if at > now {
                break;
            }
            state.due.pop_first();
            let Some(entry) = state.held.get_mut(&number) else { continue };
            // Looked at again when its time is over, whatever becomes of the call.
            entry.due = entry.term.lost_at();
            state.due.insert((entry.due, number));
            due.push((number, entry.hold.clone(), entry.term.try_limit()));
        }
        let call = |some: &[(u64, Arc<Hold>, Duration)]| -> BoxFuture<'static, Done> {
            let numbers = some.iter().map(|(number, ..)| *number).collect();
            let limit = some.iter().map(|(.., limit)| *limit).min().unwrap_or(LOOK_AGAIN);
            let renew = |hold: &Hold| {
                let op =
                    LockOp::Renew { name: hold.name.clone(), lease: hold.lease, ttl_ms: Some(ms(hold.ttl)) };
                Commit::of(Op::Lock(op), self.clock.entropy())
            };
            let commits: Vec<_> = some.iter().map(|(_, hold, _)| renew(hold)).collect();
            let (store, asked_at) = (self.store.clone(), now);
            Box::pin(async move {
                let count = commits.len();
                let submit = store.submit(Batch { commits, within: Some(limit) });
                let answers = match timeout(limit, submit).await {
                    Ok(Ok(answers)) => answers.into_iter().map(Some).collect(),
                    Ok(Err(error)) => {
                        tracing::warn!(%error, locks = count, "cannot renew locks; trying again");
                        Vec::new()
                    }
                    Err(_) => {
                        tracing::warn!(locks = count, "the store did not renew locks in time; trying again");
                        Vec::new()
                    }
                };
                Done::Renewed { numbers, asked_at, answers }
            })
        };
        due.chunks(BATCH).map(call).collect()
    }

    fn done(&self, done: Done) {
        let Done::Renewed { numbers, asked_at, mut answers } = done else { return };
        answers.resize_with(numbers.len(), || None);
        let now = self.clock.now().store;
        let mut state = self.lock();
        for (number, answer) in numbers.into_iter().zip(answers) {
            let State { held, due, .. } = &mut *state;
            // Given back meanwhile.
            let Some(entry) = held.get_mut(&number) else { continue };
            let next = match answer {
                Some(Ok(committed)) if is_renewed(&committed) => {
                    entry.term = Term::new(asked_at, entry.term.ttl());
                    entry.hold.extend(entry.term);
                    entry.term.renew_at()
                }
                Some(Err(Failure::Rejected(rejection)))
                    if rejection.reason == Reason::LockLost && !entry.hold.is_releasing() =>
                {
                    entry.hold.end(Loss::Taken);
                    now
                }
                _ => entry.term.again_at(now).min(entry.term.lost_at()),
            };
            due.remove(&(entry.due, number));
            entry.due = next;
            due.insert((next, number));
        }
    }
}

impl State {
    /// Takes out what is due and lost: there is nothing to renew any more. It is given back when its guard is dropped.
    /// What a service that stops has only been told to give back is renewed until it does.
    fn give_up_lost(&mut self, now: StoreTime) {
        let due: Vec<_> = self.due.iter().take_while(|(at, _)| *at <= now).copied().collect();
        for (at, number) in due {
            let Some(entry) = self.held.get(&number) else { continue };
            if !entry.term.is_held(now) {
                entry.hold.end(Loss::Expired);
            } else if !matches!(entry.hold.ended(), Some(Loss::Expired | Loss::Taken | Loss::Released)) {
                continue;
            }
            self.due.remove(&(at, number));
            self.held.remove(&number);
        }
    }
}

fn is_renewed(committed: &Committed) -> bool {
    matches!(committed.replies.first(), Some(Reply::Lock(LockReply::Renewed { .. })))
}

fn release(hold: &Hold) -> LockOp {
    LockOp::Release { name: hold.name.clone(), lease: hold.lease }
}

/// Tries until the store has judged all of it. What cannot be told ends with its TTL or its wait.
async fn tell(store: &dyn Store, clock: &dyn Clock, mut ops: Vec<LockOp>) {
    for tried in 0..GIVE_BACK_TRIES {
        let commits = ops.iter().map(|op| Commit::of(Op::Lock(op.clone()), clock.entropy())).collect();
        let submit = store.submit(Batch { commits, within: Some(GIVE_BACK_LIMIT) });
        match timeout(GIVE_BACK_LIMIT, submit).await {
            Ok(Ok(answers)) => {
                let mut failed = answers.iter().map(|answer| matches!(answer, Err(Failure::Failed(_))));
                ops.retain(|_| failed.next().unwrap_or(true));
                if ops.is_empty() {
                    return;
                }
            }
            Ok(Err(error)) if error.kind() == mainstay_core::ErrorKind::Closed => return,
            Ok(Err(error)) => {
                tracing::debug!(%error, locks = ops.len(), "cannot give locks back; trying again")
            }
            Err(_) => {}
        }
        let pause = Duration::from_millis(50 << tried);
        clock.sleep_until(clock.now().store.plus_ms(ms(pause))).await;
    }
    tracing::warn!(locks = ops.len(), "locks could not be given back; they end with their TTL");
}

/// The task is there until this is dropped, also with the runtime it ran on.
struct Here(Option<Arc<Keeper>>);

impl Here {
    /// Under the lock that shows that there is nothing to do: whoever comes next starts the next task.
    fn leave(mut self, mut state: MutexGuard<'_, State>) {
        state.running = false;
        drop(state);
        if let Some(keeper) = self.0.take() {
            keeper.idle.notify_waiters();
        }
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        if let Some(keeper) = &self.0 {
            keeper.lock().running = false;
            keeper.idle.notify_waiters();
        }
    }
}

/// A place in a line. Dropped, it is left, and what was granted meanwhile is given back.
pub(crate) struct InLine {
    keeper: Arc<Keeper>,
    withdraw: Option<LockOp>,
}

impl InLine {
    /// There is nothing to leave any more.
    pub fn leave(mut self) {
        self.withdraw = None;
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        if let Some(withdraw) = self.withdraw.take() {
            self.keeper.lock().gone.push(withdraw);
            self.keeper.wake();
        }
    }
}

/// A hold that is looked after. Dropped, it is given back.
pub(super) struct Kept {
    keeper: Arc<Keeper>,
    number: u64,
    hold: Arc<Hold>,
    /// The store has been told already.
    told: bool,
}

impl Kept {
    /// The store has been told: there is nothing to give back.
    pub fn told(mut self) {
        self.told = true;
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        metrics::gauge!("mainstay.lock.held").decrement(1.0);
        let mut state = self.keeper.lock();
        let entry = state.held.remove(&self.number);
        if let Some(entry) = &entry {
            state.due.remove(&(entry.due, self.number));
        }
        if !self.told {
            state.gone.push(release(&self.hold));
        }
        drop(state);
        self.hold.end(Loss::Released);
        self.keeper.wake();
    }
}

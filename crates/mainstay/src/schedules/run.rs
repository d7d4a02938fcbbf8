//! The scheduler: looks at the tick that comes first, sleeps until then, fires it.
//!
//! It keeps no list of its own. The store has the schedules in the order of their next ticks, so that the look at what
//! is due costs the same for ten schedules and for a hundred thousand.

use std::{collections::HashMap, future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use mainstay_core::{
    ErrorKind,
    name::Name,
    op::{Commit, Committed, Failure, Op, Reason},
    schedule::{Fire, ScheduleOp, ScheduleOrder, ScheduleRecord},
    store::{Batch, Interest, Page, Query, Record},
    time::{StoreTime, Timestamp},
};
use tokio::time::sleep;

use super::{Cron, plan, template};
use crate::{
    client::{Client, StoreError},
    health::Heartbeat,
    secs,
    shutdown::{Phase, Shutdown},
};

/// With nothing due, the clocks are looked at this often: the wall clock may be set.
const LOOK: Duration = secs(1);
/// With nothing to wait for at all, the store is asked this often.
const IDLE: Duration = secs(30);
/// So many schedules are read at once.
const PAGE: u32 = 500;
/// What is handed over at once, at most: ops, and bytes of payloads.
const OPS: usize = 2_000;
const BYTES: usize = 4 << 20;
/// After trouble with the store.
const PAUSE: Duration = secs(1);
/// A schedule that could not be fired is tried again after this: its queue is full; another node was quicker, or this
/// node's clock is ahead of the store's; this node cannot read it.
const FULL_MS: u64 = 1_000;
const BEHIND_MS: u64 = 100;
const UNREADABLE_MS: u64 = 60_000;
/// So many expressions are kept ready.
const CRONS: usize = 1_000;
/// Of so many schedules it is known that their queue has little room.
const NARROW: usize = 1_000;

/// Fires the schedules of one store, as long as it runs. [`Boot::store`](crate::Boot::store) has one; this is for
/// programs without an [`App`](crate::App).
pub struct Scheduler {
    client: Client,
    crons: HashMap<(Arc<str>, Arc<str>), Arc<Cron>>,
    /// Not to be tried before.
    deferred: HashMap<Name, StoreTime>,
    /// At most so many ticks in one commit, where the queue had no room for more: a commit is all or nothing, and one
    /// that is larger than the queue would never go in.
    narrow: HashMap<Name, usize>,
}

/// Says that it goes on.
type Beat<'b> = &'b (dyn Fn() + Sync);

/// What became of a round.
struct Round {
    /// Something was fired: look again at once.
    again: bool,
    /// When there is something to do next, on the store's wall clock.
    next: Option<Timestamp>,
}

/// One commit of a round.
struct Due {
    record: ScheduleRecord,
    steps: Vec<plan::Step>,
}

impl Scheduler {
    /// A scheduler of this store.
    pub fn new(client: Client) -> Scheduler {
        Scheduler { client, crons: HashMap::new(), deferred: HashMap::new(), narrow: HashMap::new() }
    }

    /// Fires what is due until `stop` resolves, or the store is closed. Dropping it is safe: a tick is fired or not.
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) {
        tokio::select! { biased; () = stop => {}, () = self.go_on(&|| {}) => {} }
    }

    /// Runs from the end of the start to the beginning of the drain.
    pub(crate) async fn run(mut self, heartbeat: Heartbeat, shutdown: Shutdown) {
        heartbeat.rest();
        shutdown.reached(Phase::Running).await;
        shutdown.unless_draining(self.go_on(&|| heartbeat.beat())).await;
    }

    async fn go_on(&mut self, beat: Beat<'_>) {
        let store = self.client.store().clone();
        loop {
            beat();
            // Registered before the look, so that what comes in between is not missed.
            let interest = [Interest::Schedules];
            let mut waiting = pin!(store.wait(&interest, IDLE));
            let early = match poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx))).await {
                Poll::Ready(ended) => Some(ended),
                Poll::Pending => None,
            };
            let woken = early.is_some();
            let round = match early {
                Some(Err(error)) => Err(error.into()),
                _ => self.round().await,
            };
            let round = match round {
                Ok(round) => round,
                Err(error) => {
                    if error.failure().is_some_and(|failure| failure.kind() == ErrorKind::Closed) {
                        return;
                    }
                    tracing::warn!(%error, "schedules cannot be read or fired at the moment; they are tried again");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            if round.again || woken {
                continue;
            }
            let sleeping = pin!(self.sleep_until(round.next, beat));
            // Its trouble shows at the next look.
            tokio::select! { _ = waiting => {}, () = sleeping => {} }
        }
    }

    /// Until that time on the wall clock, which may be set meanwhile.
    async fn sleep_until(&self, at: Option<Timestamp>, beat: Beat<'_>) {
        let Some(at) = at else { return std::future::pending().await };
        loop {
            let left = Duration::from_millis(at.ms_since(self.client.now().wall));
            if left.is_zero() {
                return;
            }
            sleep(left.min(LOOK)).await;
            beat();
        }
    }

    /// Fires what is due.
    async fn round(&mut self) -> Result<Round, StoreError> {
        let mut round = Round { again: false, next: None };
        let query = Query::Schedules(ScheduleOrder::Next);
        let mut page = Page { limit: PAGE, cursor: None };
        loop {
            let slice = self.client.store().list(&query, &page).await?;
            let now = self.client.store().now().await?;
            self.deferred.retain(|_, until| *until > now.store);
            let (mut due, mut all_due) = (vec![], true);
            for record in slice.items {
                let Record::Schedule(record) = record else { continue };
                match record.state.next {
                    Some(next) if next <= now.wall => {}
                    next => {
                        round.next = earliest(round.next, next);
                        all_due = false;
                        break;
                    }
                }
                if let Some(until) = self.deferred.get(record.name()) {
                    round.next = earliest(round.next, Some(now.wall_at(*until)));
                } else if let Some(cron) = self.cron(&record, now.store) {
                    let steps = plan::steps(&record, &cron, now.wall);
                    due.push(Due { record, steps });
                }
            }
            round.again |= !due.is_empty();
            self.fire(due, now.store).await?;
            match slice.next {
                // However many of them have to wait: others may be due behind them.
                Some(cursor) if all_due => page.cursor = Some(cursor),
                _ => return Ok(round),
            }
        }
    }

    async fn fire(&mut self, due: Vec<Due>, now: StoreTime) -> Result<(), StoreError> {
        let mut due = due.into_iter().peekable();
        while due.peek().is_some() {
            let (mut some, mut ops, mut bytes) = (vec![], 0, 0);
            while ops < OPS
                && bytes < BYTES
                && let Some(mut next) = due.next()
            {
                let size = next.record.schedule.job.body.size().max(1);
                let most = self.narrow.get(next.record.name()).copied().unwrap_or(plan::CHUNK);
                next.steps.truncate((BYTES / size).clamp(1, most));
                ops += next.steps.len();
                bytes += size * next.steps.len();
                some.push(next);
            }
            let commits = some.iter().map(|due| self.commit(due)).collect();
            let answers = self.client.submit(Batch { commits, within: None }).await?;
            for (due, answer) in some.iter().zip(answers) {
                self.answered(due, answer, now);
            }
        }
        Ok(())
    }

    fn commit(&self, Due { record, steps }: &Due) -> Commit {
        let op = |step: &plan::Step| {
            let template = &record.schedule.job;
            let job = step
                .tick
                .map(|tick| Box::new(template::of_tick(&self.client, record.name(), template, Some(tick))));
            Op::Schedule(ScheduleOp::Fire(Box::new(Fire {
                name: record.name().clone(),
                revision: Some(record.state.revision),
                expected: step.expected,
                tick: step.tick,
                job,
                next: step.next,
                missed: step.missed,
            })))
        };
        Commit { ops: steps.iter().map(op).collect(), entropy: self.client.entropy(), ..Commit::default() }
    }

    fn answered(&mut self, due: &Due, answer: Result<Committed, Failure>, now: StoreTime) {
        let name = due.record.name();
        let failure = match answer {
            Ok(_) => {
                self.widen(name);
                return self.note(due);
            }
            Err(failure) => failure,
        };
        let after_ms = match failure.rejection().map(|rejection| &rejection.reason) {
            // Another node was quicker, or somebody changed it meanwhile.
            Some(Reason::StateConflict(_) | Reason::NotFound(_)) => BEHIND_MS,
            Some(Reason::QueueFull { .. } | Reason::QueueBehind { .. }) => {
                self.narrow(name, due.steps.len());
                tracing::warn!(schedule = %name, %failure, "a tick waits for room in its queue");
                FULL_MS
            }
            _ => {
                tracing::error!(schedule = %name, %failure, "a tick could not be fired; it is tried again");
                FULL_MS
            }
        };
        self.deferred.insert(name.clone(), now.plus_ms(after_ms));
    }

    /// Half as many next time.
    fn narrow(&mut self, name: &Name, steps: usize) {
        if steps > 1 {
            if self.narrow.len() >= NARROW {
                self.narrow.clear();
            }
            self.narrow.insert(name.clone(), steps / 2);
        }
    }

    /// Twice as many next time.
    fn widen(&mut self, name: &Name) {
        let Some(most) = self.narrow.get_mut(name) else { return };
        *most *= 2;
        if *most >= plan::CHUNK {
            self.narrow.remove(name);
        }
    }

    fn note(&self, due: &Due) {
        let name = due.record.name();
        let wall = self.client.now().wall;
        let missed: u64 = due.steps.iter().map(|step| step.missed).sum();
        for tick in due.steps.iter().filter_map(|step| step.tick) {
            metrics::counter!("mainstay.schedules.fired").increment(1);
            metrics::histogram!("mainstay.schedules.lag").record(wall.ms_since(tick) as f64 / 1_000.0);
            tracing::debug!(schedule = %name, tick = tick.0, "tick fired");
        }
        if missed > 0 {
            metrics::counter!("mainstay.schedules.missed").increment(missed);
            tracing::warn!(schedule = %name, missed, "ticks were passed over: nobody was there to fire them in time");
        }
    }

    /// The expression of a schedule, if this node can read it.
    fn cron(&mut self, record: &ScheduleRecord, now: StoreTime) -> Option<Arc<Cron>> {
        let schedule = &record.schedule;
        let key = (schedule.cron.clone(), schedule.timezone.clone());
        if let Some(cron) = self.crons.get(&key) {
            return Some(cron.clone());
        }
        match Cron::new(&schedule.cron, &schedule.timezone) {
            Ok(cron) => {
                let cron = Arc::new(cron);
                if self.crons.len() >= CRONS {
                    self.crons.clear();
                }
                self.crons.insert(key, cron.clone());
                Some(cron)
            }
            Err(mistakes) => {
                let name = record.name();
                let mistake = mistakes.first().map(ToString::to_string).unwrap_or_default();
                tracing::error!(schedule = %name, mistake, "this node cannot read a schedule and does not fire it");
                self.deferred.insert(name.clone(), now.plus_ms(UNREADABLE_MS));
                None
            }
        }
    }
}

fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    [a, b].into_iter().flatten().min()
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;

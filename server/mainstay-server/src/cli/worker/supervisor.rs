//! Claims jobs for free places, runs them, renews their leases and settles them.
//!
//! One task decides everything; commands run in tasks of their own and report to it. A place is taken from the moment a
//! job is asked for until its end has reached the server, so neither jobs nor results pile up while it is away. What
//! has ended is settled in one call that also asks for the next jobs; a call that waits for jobs is made only for
//! places that call leaves free.
//!
//! Only the server says that a lease is lost. While none runs its clock stands still, so a worker that cannot reach it
//! goes on, and settles when it is back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use mainstay::core::clock::Clock;
use mainstay::tasks::TaskError;
use mainstay::{SystemClock, TaskSet};
use mainstay_api::client::{ApiError, HttpClient};
use mainstay_api::types::{Claim, ClaimedJob, JobState, SettleItem, SettleOutcome, SettleResult};
use mainstay_api::{Code, JobId};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::away::{Away, is_passing};
use super::calls::{self, Exchange, InFlight, Polled, Renewed};
use super::child::{self, Ended, Order};
use super::tally::Tally;
use super::verdict::{Verdict, Why, refused, verdict};
use super::{Failure, Outcome, Settings, session};
use crate::cli::words::{brief, clean, count, now as wall, when};

/// What a server takes at once.
const MAX_ITEMS: usize = 1_000;
/// Half of what a body may have.
const MAX_BYTES: usize = 8 << 20;
/// How long the last settles may take after the last command was killed.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long to leave a server alone that does not wait for jobs though it was asked to: it drains.
const HASTY: Duration = Duration::from_millis(500);
/// How long killed commands may take to be gone when the process ends at once.
const REAP: Duration = Duration::from_millis(200);

/// SIGTERM and SIGINT, from now on ours.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    pub(super) fn install() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// The number of the next one.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.term.recv() => 15,
            _ = self.int.recv() => 2,
        }
    }
}

pub(super) struct Supervisor {
    settings: Arc<Settings>,
    api: HttpClient,
    tasks: TaskSet,
    /// Numbers runs: a job can be claimed again while its last run still dies.
    next: u64,
    running: HashMap<u64, Running>,
    children: FuturesUnordered<BoxFuture<'static, (u64, Result<Ended, TaskError>)>>,
    unsettled: VecDeque<Unsettled>,
    /// So many of the first of those were refused together: they go one by one.
    careful: usize,
    exchange: InFlight<Exchange>,
    exchanged: Vec<About>,
    /// Places kept for the exchange under way.
    exchange_places: usize,
    poll: InFlight<Polled>,
    poll_places: usize,
    /// Not before then.
    poll_at: Instant,
    renewal: InFlight<Renewed>,
    renew_at: Instant,
    away: Away,
    phase: Phase,
    /// The last claim came back without a job.
    seen_empty: bool,
    tally: Tally,
    /// Commands that were ended, and results that were given up.
    cut: u64,
    failure: Option<Failure>,
}

/// A run of the command.
struct Running {
    about: About,
    order: watch::Sender<Order>,
    stopped: Option<Why>,
}

/// The job of a run.
#[derive(Clone)]
struct About {
    id: JobId,
    lease: String,
    kind: String,
    attempt: u32,
}

/// A run whose end has not reached the server yet.
struct Unsettled {
    about: About,
    outcome: SettleOutcome,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Working,
    /// No new jobs; commands may end by themselves until then.
    Draining(Instant),
    /// Commands were told to end; what is not settled by then is given up.
    Cutting(Instant),
}

enum Event {
    Signal(u8),
    Ended(u64, Result<Ended, TaskError>),
    Exchanged(Exchange),
    Polled(Polled),
    Renewed(Renewed),
    Tick,
}

fn log(text: &str) {
    session::note(&format!("mainstay worker: {text}"));
}

impl Supervisor {
    pub(super) fn new(settings: Arc<Settings>, api: HttpClient, tasks: TaskSet) -> Self {
        // A call must not take so long that a lease runs out meanwhile.
        let patience = (settings.lease / 3).clamp(Duration::from_secs(1), Duration::from_secs(10));
        let renew_at = Instant::now() + settings.lease / 3;
        Self {
            settings,
            api: api.with_retry(false).with_timeout(patience),
            tasks,
            next: 0,
            running: HashMap::new(),
            children: FuturesUnordered::new(),
            unsettled: VecDeque::new(),
            careful: 0,
            exchange: None,
            exchanged: Vec::new(),
            exchange_places: 0,
            poll: None,
            poll_places: 0,
            poll_at: Instant::now(),
            renewal: None,
            renew_at,
            away: Away::default(),
            phase: Phase::Working,
            seen_empty: false,
            tally: Tally::default(),
            cut: 0,
            failure: None,
        }
    }

    /// Works until a signal, or a failure that waiting does not mend, ends it. Everything it started has ended then.
    pub(super) async fn run(mut self, mut signals: Signals) -> Result<(Tally, Outcome), Failure> {
        loop {
            self.call();
            if self.is_over() {
                break;
            }
            match self.event(&mut signals).await {
                Event::Signal(number) => {
                    if let Some(code) = self.signalled(number) {
                        let _ = timeout(REAP, self.tasks.idle()).await;
                        return Err(Failure::silent(code));
                    }
                }
                Event::Ended(number, ended) => self.ended(number, ended),
                Event::Exchanged(exchange) => self.exchanged(exchange),
                Event::Polled(polled) => self.polled(polled),
                Event::Renewed(renewed) => self.renewed(renewed),
                Event::Tick => self.tick(),
            }
        }
        let given_up = (self.unsettled.len() + self.running.len()) as u64;
        self.tally.lost += given_up;
        self.cut += given_up;
        let outcome = match self.failure.take() {
            Some(failure) => Err(failure),
            None if self.cut > 0 => {
                Err(Failure::new(format!("{} did not end in time", count(self.cut, "command")))
                    .tip("--drain-ms gives them longer"))
            }
            None => Ok(()),
        };
        Ok((self.tally, outcome))
    }

    async fn event(&mut self, signals: &mut Signals) -> Event {
        let wake = self.wake();
        let Self { children, exchange, poll, renewal, .. } = self;
        tokio::select! {
            number = signals.next() => Event::Signal(number),
            Some((number, ended)) = children.next() => Event::Ended(number, ended),
            exchanged = calls::answer(exchange) => Event::Exchanged(exchanged),
            polled = calls::answer(poll) => Event::Polled(polled),
            renewed = calls::answer(renewal) => Event::Renewed(renewed),
            () = sleep_until(wake) => Event::Tick,
        }
    }

    /// When there is something to do even if nothing happens.
    fn wake(&self) -> Instant {
        let phase = match self.phase {
            Phase::Working => None,
            Phase::Draining(until) | Phase::Cutting(until) => Some(until),
        };
        // A deadline that has passed already has been acted upon.
        let now = Instant::now();
        let retry = self.away.until().filter(|until| *until > now);
        let renew = Some(self.renew_at).filter(|at| *at > now);
        let poll = Some(self.poll_at).filter(|at| *at > now);
        [phase, retry, renew, poll].into_iter().flatten().min().unwrap_or(now + self.settings.lease)
    }

    fn is_over(&self) -> bool {
        let idle = self.running.is_empty() && self.unsettled.is_empty() && self.exchange.is_none();
        match self.phase {
            Phase::Working => idle && self.settings.until_empty && self.seen_empty && self.poll.is_none(),
            Phase::Draining(_) => idle,
            Phase::Cutting(until) => idle || until <= Instant::now(),
        }
    }

    /// Places nobody has asked a job for.
    fn free(&self) -> usize {
        let taken = self.running.len() + self.unsettled.len() + self.exchange_places + self.poll_places;
        self.settings.concurrency.saturating_sub(taken)
    }

    fn claim(&self, max: usize, wait_ms: u64) -> Option<Claim> {
        let max = u32::try_from(max.min(MAX_ITEMS)).ok().filter(|max| *max > 0)?;
        Some(Claim {
            queues: self.settings.queues.clone(),
            max,
            lease_ms: ms(self.settings.lease),
            wait_ms,
            worker: Some(self.settings.name.clone()),
        })
    }

    /// Makes the calls there is reason for.
    fn call(&mut self) {
        let now = Instant::now();
        if !self.away.may_call(now) {
            return;
        }
        if self.exchange.is_none() && !self.unsettled.is_empty() {
            self.settle();
        }
        let wants = self.phase == Phase::Working && !(self.settings.until_empty && self.seen_empty);
        if wants && self.poll.is_none() && self.poll_at <= now {
            let free = self.free().min(MAX_ITEMS);
            // The first is answered at once, so that whoever looks sees that the server is there.
            let wait_ms = if self.away.has_met() { self.settings.wait_ms } else { 0 };
            if let Some(claim) = self.claim(free, wait_ms) {
                self.poll_places = free;
                self.poll = calls::poll(self.api.clone(), claim);
            }
        }
        if self.renewal.is_none() && self.renew_at <= now {
            self.renew_at = now + self.settings.lease / 3;
            let held = self.running.iter().filter(|(_, run)| run.stopped != Some(Why::Lost));
            let leases: Vec<_> =
                held.map(|(number, run)| (*number, run.about.id, run.about.lease.clone())).collect();
            if !leases.is_empty() {
                self.renewal = calls::renew(self.api.clone(), leases, ms(self.settings.lease));
            }
        }
    }

    /// Sends what has ended, and asks for as many jobs as there will be places.
    fn settle(&mut self) {
        let most = if self.careful > 0 { 1 } else { MAX_ITEMS };
        let mut items = Vec::new();
        let mut bytes = 0;
        self.exchanged.clear();
        while items.len() < most {
            // A long one goes alone, so that others do not make it too long.
            let fits = |next: &&Unsettled| items.is_empty() || bytes + size(&next.outcome) <= MAX_BYTES;
            if self.unsettled.front().filter(fits).is_none() {
                break;
            }
            let Some(Unsettled { about, outcome }) = self.unsettled.pop_front() else { break };
            bytes += size(&outcome);
            items.push(SettleItem { id: about.id, lease: about.lease.clone(), outcome });
            self.exchanged.push(about);
        }
        let claim = match self.phase {
            Phase::Working if self.careful == 0 => self.claim(self.free(), 0),
            _ => None,
        };
        let asked = claim.as_ref().map_or(0, |claim| claim.max as usize);
        self.exchange_places = asked.max(items.len());
        self.exchange = calls::exchange(self.api.clone(), items, claim);
    }

    fn exchanged(&mut self, exchange: Exchange) {
        self.exchange_places = 0;
        let abouts = std::mem::take(&mut self.exchanged);
        let alone = exchange.items.len() == 1 && exchange.asked == 0;
        let mut items = abouts
            .into_iter()
            .zip(exchange.items)
            .map(|(about, item)| Unsettled { about, outcome: item.outcome });
        let error = match exchange.answer {
            Ok(answer) => {
                self.answered();
                self.careful = self.careful.saturating_sub(items.len());
                let mut results = answer.results.iter();
                for item in items {
                    match results.next() {
                        Some(result) => self.settled(item, result),
                        // No answer to it is no end of it.
                        None => self.unsettled.push_back(item),
                    }
                }
                if exchange.asked > 0 {
                    self.arrived(answer.jobs);
                }
                return;
            }
            Err(error) => error,
        };
        match error.code() {
            Some(Code::ValidationFailed | Code::PayloadTooLarge | Code::MalformedBody) if !alone => {
                // One of them is at fault: alone, it shows.
                let refused: Vec<_> = items.collect();
                self.careful = refused.len();
                refused.into_iter().rev().for_each(|item| self.unsettled.push_front(item));
            }
            Some(Code::ValidationFailed | Code::PayloadTooLarge | Code::MalformedBody) => {
                self.careful = self.careful.saturating_sub(1);
                if let Some(Unsettled { about, outcome }) = items.next() {
                    match refused(&outcome, error.code(), &error.to_string()) {
                        Some(outcome) => self.unsettled.push_front(Unsettled { about, outcome }),
                        None => self.lost(&about, &error.to_string()),
                    }
                }
            }
            _ => {
                let back: Vec<_> = items.collect();
                back.into_iter().rev().for_each(|item| self.unsettled.push_front(item));
                self.failed(&error);
            }
        }
    }

    /// The server knows of a run's end, or does not want to.
    fn settled(&mut self, item: Unsettled, result: &SettleResult) {
        let Unsettled { about, outcome } = item;
        if let Some(error) = &result.error {
            if error.code.is_retryable() {
                self.unsettled.push_back(Unsettled { about, outcome });
            } else {
                self.lost(&about, &error.detail);
            }
            return;
        }
        match (&outcome, result.state) {
            (_, Some(JobState::Cancelled)) | (SettleOutcome::Cancel { .. }, _) => {
                self.tally.cancelled += 1;
                log(&format!("{about} was cancelled"));
            }
            (SettleOutcome::Complete { .. }, _) => self.tally.done += 1,
            (SettleOutcome::Fail { error, .. }, state) => {
                self.tally.failed += 1;
                let then = match (state, result.run_at) {
                    (Some(JobState::Dead), _) => "it is dead".to_owned(),
                    (_, Some(at)) => format!("again {}", when(at, wall())),
                    _ => "it will be tried again".to_owned(),
                };
                let kind = error.kind.as_deref().unwrap_or("error");
                log(&format!("{about} failed: {kind}: {}; {then}", brief(&clean(&error.message), 200)));
            }
            _ => self.tally.released += 1,
        }
    }

    fn lost(&mut self, about: &About, why: &str) {
        self.tally.lost += 1;
        log(&format!("{about} is lost: {}", clean(why)));
    }

    fn polled(&mut self, polled: Polled) {
        self.poll_places = 0;
        match polled.answer {
            Ok(claimed) => {
                self.answered();
                if claimed.jobs.is_empty() && polled.hasty {
                    self.poll_at = Instant::now() + HASTY;
                }
                self.arrived(claimed.jobs);
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Starts the command for each job; gives them back when it is too late for that.
    fn arrived(&mut self, jobs: Vec<ClaimedJob>) {
        self.seen_empty = jobs.is_empty();
        for job in jobs {
            let about =
                About { id: job.id, lease: job.lease.clone(), kind: job.kind.clone(), attempt: job.attempt };
            if self.phase != Phase::Working {
                self.unsettled
                    .push_back(Unsettled { about, outcome: SettleOutcome::Release { delay_ms: 0 } });
                continue;
            }
            let number = self.next;
            self.next += 1;
            let (order, orders) = watch::channel(Order::Run);
            let settings = self.settings.clone();
            let task = self.tasks.spawn("job", async move { child::run(&settings, &job, orders).await });
            self.children.push(Box::pin(async move { (number, task.await) }));
            self.running.insert(number, Running { about, order, stopped: None });
        }
    }

    fn ended(&mut self, number: u64, ended: Result<Ended, TaskError>) {
        let Some(Running { about, stopped, .. }) = self.running.remove(&number) else { return };
        let verdict = match &ended {
            Ok(ended) => verdict(&self.settings, stopped, ended),
            Err(_) => Verdict::Settle(SettleOutcome::Release { delay_ms: 1_000 }),
        };
        match verdict {
            Verdict::Settle(outcome) => {
                if stopped == Some(Why::Drain) && matches!(outcome, SettleOutcome::Release { .. }) {
                    self.cut += 1;
                }
                self.unsettled.push_back(Unsettled { about, outcome });
            }
            Verdict::Nothing => self.lost(&about, "its lease ran out, or somebody else has it"),
            Verdict::Unusable(why) => {
                self.unsettled
                    .push_back(Unsettled { about, outcome: SettleOutcome::Release { delay_ms: 0 } });
                self.fail(Failure::new(why).tip("what stands behind -- is the command and its arguments"));
            }
        }
    }

    fn renewed(&mut self, renewed: Renewed) {
        match &renewed.error {
            None => self.answered(),
            Some(error) => {
                self.failed(error);
                // Soon after the server is back, not a third of a lease later.
                self.renew_at = self.away.until().unwrap_or(self.renew_at);
            }
        }
        for number in renewed.lost {
            self.stop(number, Why::Lost);
        }
        for number in renewed.cancelled {
            self.stop(number, Why::Cancelled);
        }
    }

    fn stop(&mut self, number: u64, why: Why) {
        if let Some(run) = self.running.get_mut(&number) {
            run.stopped = if why == Why::Lost { Some(why) } else { run.stopped.or(Some(why)) };
            run.order.send_if_modified(|order| advance(order, Order::Stop));
        }
    }

    fn answered(&mut self) {
        let first = !self.away.has_met();
        if self.away.is_back() && !first {
            log("the server is back");
        }
        if first {
            let Settings { queues, concurrency, name, .. } = &*self.settings;
            log(&format!(
                "{name} takes jobs of {} from {}, {concurrency} at a time",
                queues.join(", "),
                self.api.url()
            ));
        }
    }

    /// A call failed as a whole.
    fn failed(&mut self, error: &ApiError) {
        let failure = Failure::of_call(error, self.api.url());
        let is_news = self.away.failed(Instant::now(), error, SystemClock.entropy());
        if !is_passing(error) || (self.settings.until_empty && !self.away.has_met()) {
            return self.fail(failure);
        }
        if is_news {
            let tip = failure.next_step().filter(|_| !self.away.has_met());
            let tip = tip.map(|tip| format!(" ({tip})")).unwrap_or_default();
            log(&format!("{}; trying again{tip}", failure.title()));
        }
    }

    /// Something that waiting does not mend: what runs may end.
    fn fail(&mut self, failure: Failure) {
        if self.failure.is_none() {
            // It is told at the end; what still runs may put that off.
            if !self.running.is_empty() {
                log(failure.title());
            }
            self.failure = Some(failure);
        }
        self.drain();
    }

    fn drain(&mut self) {
        if self.phase == Phase::Working {
            self.phase = Phase::Draining(Instant::now() + self.settings.drain);
            // The server sees the connection go, and grants nothing to it.
            self.poll = None;
            self.poll_places = 0;
        }
    }

    /// Ends the commands that still run.
    fn cut_short(&mut self) {
        let left =
            if self.running.is_empty() { Duration::ZERO } else { self.settings.kill_after + LAST_WORDS };
        self.phase = Phase::Cutting(Instant::now() + left);
        let numbers: Vec<u64> = self.running.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.stop(number, Why::Drain));
    }

    /// The exit code, when it ends at once.
    fn signalled(&mut self, number: u8) -> Option<u8> {
        match self.phase {
            Phase::Working => {
                self.drain();
                if !self.running.is_empty() {
                    log(&format!(
                        "waiting for {}; a second signal hurries",
                        count(self.running.len() as u64, "command")
                    ));
                }
                None
            }
            Phase::Draining(_) => {
                self.cut_short();
                None
            }
            Phase::Cutting(_) => {
                for run in self.running.values() {
                    run.order.send_if_modified(|order| advance(order, Order::Kill));
                }
                Some(128 + number)
            }
        }
    }

    fn tick(&mut self) {
        if let Phase::Draining(until) = self.phase
            && until <= Instant::now()
        {
            self.cut_short();
        }
    }
}

/// Orders only go on.
fn advance(order: &mut Order, to: Order) -> bool {
    let on = *order < to;
    *order = (*order).max(to);
    on
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// About how long an outcome is in a body.
fn size(outcome: &SettleOutcome) -> usize {
    const REST: usize = 256;
    REST + match outcome {
        SettleOutcome::Complete { result: Some(result) } => result.as_bytes().len(),
        // Escapes make a message longer, at worst six times.
        SettleOutcome::Fail { error, .. } => 6 * error.message.len(),
        _ => 0,
    }
}

impl std::fmt::Display for About {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "job {} ({}, attempt {})", self.id, clean(&self.kind), self.attempt)
    }
}

//! A named target: its policy and the state that all its callers share.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::breaker::{Breaker, Pass, Told};
use super::budget::Budget;
use super::bulkhead::Bulkhead;
use super::call::Call;
use super::chance::Chance;
use super::event::Meters;
use super::rate::Pace;
use super::{
    Attempt, BreakerState, BulkheadRules, ByError, Classified, Event, Policy, PolicyError, Refusal, Retry,
};
use crate::millis;

pub(super) type Watcher = Box<dyn Fn(&str, Event) + Send + Sync>;

/// Something that is called: its policy, and the budget, breaker, rate and bulkhead that all its callers share. Cheap
/// to clone; all clones are one target.
#[derive(Clone)]
pub struct Target {
    pub(super) shared: Arc<Shared>,
    /// Called by a job or a delivery of the log: a long wait is theirs, not the handler's.
    pub(crate) in_job: bool,
}

pub(super) struct Shared {
    pub name: Arc<str>,
    state: Mutex<State>,
    pub bulkhead: Bulkhead,
    pub chance: Chance,
    meters: Meters,
    watcher: Arc<OnceLock<Watcher>>,
}

struct State {
    policy: Policy,
    budget: Budget,
    breaker: Breaker,
    pace: Pace,
    /// What the policy makes of an attempt, worked out once.
    terms: Terms,
    total: Option<Duration>,
}

/// What one attempt goes by: read once under the lock, so that new rules hold from the next attempt on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub pass: Option<Pass>,
    pub limit: Option<Duration>,
    pub hedge: Option<Duration>,
    pub max_attempts: u32,
    pub slow: Option<Duration>,
    pub bulkhead: Option<BulkheadRules>,
    pub dry_run: bool,
}

/// What a call goes by, and its first attempt.
pub(super) struct Begun {
    pub total: Option<Duration>,
    pub idempotent: bool,
    pub terms: Terms,
}

impl Terms {
    fn of(policy: &Policy) -> Self {
        Self {
            pass: None,
            limit: policy.attempt(),
            hedge: policy.hedge.map(|hedge| millis(hedge.after_ms)),
            max_attempts: policy.retry.max_attempts,
            slow: (policy.breaker.slow_ms > 0).then(|| millis(policy.breaker.slow_ms)),
            bulkhead: policy.bulkhead,
            dry_run: policy.dry_run,
        }
    }
}

/// What happened under the lock, to be told after it: a watcher may call the target.
#[derive(Default)]
struct Notes {
    refused: Option<Refusal>,
    also: Option<Refusal>,
    breaker: Option<BreakerState>,
}

impl Notes {
    fn would_refuse(&mut self, by: Refusal) {
        self.also = self.refused.replace(by);
    }
}

impl State {
    fn begin(&mut self, now: Instant, notes: &mut Notes) -> Result<Begun, Refused> {
        if let Some(rate) = self.policy.rate
            && let Err(wait) = self.pace.admit(&rate, now)
        {
            if !self.policy.dry_run {
                return Err((Refusal::Rate, wait));
            }
            notes.would_refuse(Refusal::Rate);
        }
        if self.policy.budget.enabled {
            self.budget.pay_in(now);
        }
        let terms = self.admit(now, notes)?;
        Ok(Begun { total: self.total, idempotent: self.policy.idempotent, terms })
    }

    fn admit(&mut self, now: Instant, notes: &mut Notes) -> Result<Terms, Refused> {
        let pass = match self.pass(now, notes) {
            Ok(pass) => pass,
            Err(wait) if !self.policy.dry_run => return Err((Refusal::Breaker, wait)),
            Err(_) => {
                notes.would_refuse(Refusal::Breaker);
                None
            }
        };
        Ok(Terms { pass, ..self.terms })
    }

    fn pass(&mut self, now: Instant, notes: &mut Notes) -> Result<Option<Pass>, Duration> {
        let rules = &self.policy.breaker;
        if !rules.enabled {
            return Ok(None);
        }
        let before = self.breaker.state();
        let admitted = self.breaker.admit(rules, now);
        let to = self.breaker.state();
        if before != to {
            notes.breaker = Some(to);
        }
        admitted.map(Some)
    }
}

/// Why an attempt may not begin, and when to ask again.
pub(super) type Refused = (Refusal, Duration);

impl Target {
    /// A target of its own, beside every registry.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`], with everything that is wrong with the policy.
    pub fn new(name: impl Into<Arc<str>>, policy: Policy) -> crate::Result<Target> {
        policy.check()?;
        Ok(Self::build(name.into(), policy, Chance::from_system(), Arc::default()))
    }

    /// The same with known random numbers, for tests that want to see the same waits every time.
    ///
    /// # Errors
    /// As [`Target::new`].
    pub fn seeded(name: impl Into<Arc<str>>, policy: Policy, seed: u64) -> crate::Result<Target> {
        policy.check()?;
        Ok(Self::build(name.into(), policy, Chance::from_seed(seed), Arc::default()))
    }

    pub(super) fn build(
        name: Arc<str>,
        policy: Policy,
        chance: Chance,
        watcher: Arc<OnceLock<Watcher>>,
    ) -> Target {
        let now = Instant::now();
        let shared = Shared {
            meters: Meters::new(&name),
            name,
            bulkhead: Bulkhead::new(policy.bulkhead),
            chance,
            watcher,
            state: Mutex::new(State {
                budget: Budget::new(&policy.budget, now),
                breaker: Breaker::new(&policy.breaker, now),
                pace: Pace::new(now),
                terms: Terms::of(&policy),
                total: policy.total(),
                policy,
            }),
        };
        Target { shared: Arc::new(shared), in_job: false }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The policy it goes by now.
    pub fn policy(&self) -> Policy {
        self.shared.lock().policy.clone()
    }

    /// What its breaker does now.
    pub fn breaker(&self) -> BreakerState {
        self.shared.lock().breaker.state()
    }

    /// How many extra attempts its budget has now.
    pub fn budget_left(&self) -> f64 {
        self.shared.lock().budget.left(Instant::now()) as f64 / 1_000.0
    }

    /// Changes the policy. State stays: the breaker stays open unless it is turned off, what the budget lacks it still
    /// lacks, running attempts keep their places. Who waits for a place of a bulkhead that is taken away gets one.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`], with everything that is wrong; then the old one stays.
    pub fn reload(&self, policy: Policy) -> crate::Result<()> {
        policy.check()?;
        self.shared.change(policy).tell();
        Ok(())
    }

    /// Calls the target under its policy: `op` makes the call once for each attempt.
    ///
    /// ```
    /// # use mainstay::policy::{Policy, Target};
    /// # use std::io;
    /// # async fn send(to: &str) -> io::Result<u32> { Ok(to.len() as u32) }
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let smtp = Target::new("smtp", Policy::default())?;
    /// let sent = smtp.run(|_| send("ada@example.org")).await?;
    /// # assert_eq!(sent, 15);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// See [`PolicyError`].
    ///
    /// # Cancel safety
    /// Dropping the future drops the attempt where it awaits, and gives back its places; it counts neither for nor
    /// against the target.
    pub async fn run<T, E, F, Fut>(&self, op: F) -> Result<T, PolicyError<E>>
    where
        E: Classified,
        F: FnMut(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.call().run(op).await
    }

    /// A call with options.
    pub fn call(&self) -> Call<'_, ByError> {
        Call::new(self)
    }
}

impl Shared {
    /// A call begins: asks the rate, pays into the budget, asks the breaker. One lock for all of it.
    pub fn begin(&self, now: Instant) -> Result<Begun, Refused> {
        let mut notes = Notes::default();
        let begun = self.lock().begin(now, &mut notes);
        self.tell_all(notes);
        begun
    }

    /// A further attempt begins.
    pub fn admit(&self, now: Instant) -> Result<Terms, Refused> {
        let mut notes = Notes::default();
        let admitted = self.lock().admit(now, &mut notes);
        self.tell_all(notes);
        admitted
    }

    /// Goes by a valid policy from now on. What that did is told by the caller, who may hold a lock that a watcher
    /// wants.
    pub fn change(&self, policy: Policy) -> Changed<'_> {
        let now = Instant::now();
        let mut state = self.lock();
        let before = state.breaker.state();
        state.budget.reload(&policy.budget, now);
        state.breaker.reload(&policy.breaker, now);
        self.bulkhead.reload(policy.bulkhead);
        (state.terms, state.total) = (Terms::of(&policy), policy.total());
        state.policy = policy;
        Changed { shared: self, before, after: state.breaker.state() }
    }

    /// What an attempt told about the target.
    pub fn settle(&self, pass: Pass, told: Told, now: Instant) {
        let mut state = self.lock();
        let State { breaker, policy, .. } = &mut *state;
        let before = breaker.state();
        // Only an opening needs chance, and only a failure opens.
        let entropy = if matches!(told, Told::Works { slow: false }) { 0 } else { self.chance.draw() };
        breaker.settle(pass, told, &policy.breaker, now, entropy);
        let after = breaker.state();
        drop(state);
        self.tell_breaker(before, after);
    }

    /// An extra attempt, if the budget has it.
    pub fn take(&self, cost: u64, now: Instant) -> bool {
        let mut state = self.lock();
        if !state.policy.budget.enabled {
            return true;
        }
        let taken = state.budget.take(cost, now);
        let left = state.budget.left(now);
        drop(state);
        self.meters.budget(left);
        taken
    }

    pub fn retry(&self) -> Retry {
        self.lock().policy.retry
    }

    pub fn attempt_is_good(&self, number: u32) {
        self.meters.ok();
        if let Some(watcher) = self.watcher.get() {
            watcher(&self.name, Event::Attempt { number, verdict: super::Verdict::Ok });
        }
    }

    pub fn tell(&self, event: Event) {
        self.meters.count(event);
        self.meters.log(event);
        if let Some(watcher) = self.watcher.get() {
            watcher(&self.name, event);
        }
    }

    fn tell_all(&self, notes: Notes) {
        for by in notes.also.into_iter().chain(notes.refused) {
            self.tell(Event::WouldRefuse { by });
        }
        if let Some(to) = notes.breaker {
            self.tell(Event::Breaker { to });
        }
    }

    fn tell_breaker(&self, before: BreakerState, after: BreakerState) {
        if before != after {
            self.tell(Event::Breaker { to: after });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a change of the policy did to the breaker.
#[must_use = "it is to be told"]
pub(super) struct Changed<'a> {
    shared: &'a Shared,
    before: BreakerState,
    after: BreakerState,
}

impl Changed<'_> {
    pub fn tell(self) {
        self.shared.tell_breaker(self.before, self.after);
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("name", &self.name()).field("breaker", &self.breaker()).finish()
    }
}

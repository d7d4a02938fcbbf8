//! One call: attempts until it has worked or there is a reason to stop.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::{Instant, sleep};

use super::breaker::{Pass, Told};
use super::budget::{AFTER_TIMEOUT, ATTEMPT};
use super::target::{Begun, Refused, Shared, Target, Terms};
use super::within::Within;
use super::{ByError, Classify, Event, GaveUp, Later, Limit, PolicyError, Refusal, Verdict};
use crate::millis;

/// A call with options; made by [`Target::call`].
#[must_use = "a call is made by `run`"]
pub struct Call<'t, C> {
    target: &'t Target,
    judge: C,
    deadline: Option<Instant>,
    idempotent: Option<bool>,
    upstream: u32,
}

/// What an operation is told about the attempt it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    number: u32,
    deadline: Option<Instant>,
}

impl Attempt {
    /// Which attempt it is, from 1, hedges included. What a request says of itself in `x-retry-attempt` is one less.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// When the attempt will be cut.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How much time is left for it.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|at| at.saturating_duration_since(Instant::now()))
    }
}

/// How an attempt ended.
enum Ended<T, E> {
    With(Result<T, E>, Verdict),
    TimedOut(Limit),
    Refused(Refused),
}

impl<T, E> Ended<T, E> {
    /// Whether it is the outcome, whatever comes of an attempt beside it: it worked, or nothing can change it.
    fn is_final(&self) -> bool {
        matches!(self, Ended::With(_, Verdict::Ok | Verdict::Permanent | Verdict::Ignored))
    }
}

impl<'t> Call<'t, ByError> {
    pub(super) fn new(target: &'t Target) -> Self {
        let (deadline, upstream) = super::ambient::deadline_and_retries();
        Self { target, judge: ByError, deadline, idempotent: None, upstream }
    }
}

impl<'t, C> Call<'t, C> {
    /// Judges outcomes with this instead of by what errors say of themselves.
    pub fn judge<D>(self, judge: D) -> Call<'t, D> {
        let Call { target, deadline, idempotent, upstream, .. } = self;
        Call { target, judge, deadline, idempotent, upstream }
    }

    /// Judges errors with this; values are fine.
    pub fn errors<T, E>(self, judge: impl Fn(&E) -> Verdict) -> Call<'t, impl Classify<T, E>> {
        self.judge(move |outcome: Result<&T, &E>| outcome.map_or_else(&judge, |_| Verdict::Ok))
    }

    /// Ends the call at this instant, or at the context's deadline if that is earlier.
    pub fn deadline(mut self, at: Instant) -> Self {
        self.deadline = Some(self.deadline.map_or(at, |own| own.min(at)));
        self
    }

    /// Whether this call may be made twice. Defaults to what the policy says.
    pub fn idempotent(mut self, may_repeat: bool) -> Self {
        self.idempotent = Some(may_repeat);
        self
    }

    /// How many retries whoever called us has made already: if any, none are made here. Defaults to the context's.
    pub fn upstream_retries(mut self, retries: u32) -> Self {
        self.upstream = retries;
        self
    }

    #[cfg(feature = "http")]
    pub(super) fn upstream(&self) -> u32 {
        self.upstream
    }

    /// Makes the call; see [`Target::run`].
    ///
    /// # Errors
    /// See [`PolicyError`]. A value that was judged a failure is answered as it is when no more attempts are made.
    pub async fn run<T, E, F, Fut>(self, mut op: F) -> Result<T, PolicyError<E>>
    where
        C: Classify<T, E>,
        F: FnMut(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let shared = &*self.target.shared;
        let mut now = Instant::now();
        if self.deadline.is_some_and(|at| at <= now) {
            return Err(refused(shared, (Refusal::Deadline, Duration::ZERO)));
        }
        let Begun { total, idempotent, mut terms } = match shared.begin(now) {
            Ok(begun) => begun,
            Err(refusal) => return Err(refused(shared, refusal)),
        };
        let may_repeat = self.idempotent.unwrap_or(idempotent);
        let own = total.map(|total| now + total);
        let until = own.into_iter().chain(self.deadline).min();
        let by_caller = until != own;
        // Atomic only because futures are sent about: nobody shares it.
        let made = AtomicU32::new(0);
        let mut previous = Duration::ZERO;
        // The last attempt that was made: what is answered when the next one is refused.
        let mut last: Option<Failure<T, E>> = None;
        loop {
            let trial = Trial { shared, until, by_caller, made: &made, judge: &self.judge };
            // The attempt that begins now and its hedge are two of those that there may be.
            let room = made.load(Ordering::Relaxed) + 1 < terms.max_attempts;
            let hedge = terms.hedge.filter(|_| may_repeat && self.upstream == 0 && room);
            let ended = {
                let (attempt, limit) = trial.attempt(&terms, now);
                // Before `op` is called, which may panic.
                let ticket = Ticket { shared, pass: terms.pass };
                let mut first = pin!(trial.single(&terms, ticket, attempt, limit, now, op(attempt)));
                match hedge {
                    None => first.await,
                    Some(after) => match Within::new(first.as_mut(), Some(now + after)).await {
                        Some(ended) => ended,
                        None => trial.hedge(first, attempt, &mut op).await,
                    },
                }
            };
            let failure = match ended {
                Ended::With(Ok(value), Verdict::Ok) => return Ok(value),
                Ended::With(outcome, verdict) => Failure::Of(outcome, verdict),
                Ended::TimedOut(limit) => Failure::TimedOut(limit),
                Ended::Refused((by, wait)) => {
                    let Some(last) = last else { return Err(refused(shared, (by, wait))) };
                    shared.tell(Event::Refused { by });
                    return self.give_up(last, made.load(Ordering::Relaxed), GaveUp::Refused(by), Some(wait));
                }
            };
            now = Instant::now();
            let delay =
                match self.again(&failure, may_repeat, made.load(Ordering::Relaxed), previous, until, now) {
                    Ok(delay) => delay,
                    Err((why, later)) => {
                        return self.give_up(failure, made.load(Ordering::Relaxed), why, later);
                    }
                };
            shared.tell(Event::Retry { number: made.load(Ordering::Relaxed) + 1, delay });
            previous = delay;
            last = Some(failure);
            if !delay.is_zero() {
                sleep(delay).await;
                now = Instant::now();
            }
            terms = match (shared.admit(now), last.take()) {
                (Ok(terms), failure) => {
                    last = failure;
                    terms
                }
                (Err((by, wait)), Some(failure)) => {
                    shared.tell(Event::Refused { by });
                    return self.give_up(
                        failure,
                        made.load(Ordering::Relaxed),
                        GaveUp::Refused(by),
                        Some(wait),
                    );
                }
                (Err(refusal), None) => return Err(refused(shared, refusal)),
            };
        }
    }

    fn give_up<T, E>(
        &self,
        failure: Failure<T, E>,
        attempts: u32,
        why: GaveUp,
        later: Option<Duration>,
    ) -> Result<T, PolicyError<E>> {
        self.target.shared.tell(Event::GaveUp { attempts, why });
        let later = later.map(|after| Later { after, attempted: true });
        match failure {
            Failure::Of(Ok(value), _) => Ok(value),
            Failure::Of(Err(error), _) => Err(PolicyError::Failed { error, attempts, why, later }),
            Failure::TimedOut(limit) => Err(PolicyError::TimedOut { limit, attempts, why, later }),
        }
    }

    /// Whether to try again, after which wait; or why not.
    fn again<T, E>(
        &self,
        failure: &Failure<T, E>,
        may_repeat: bool,
        made: u32,
        previous: Duration,
        until: Option<Instant>,
        now: Instant,
    ) -> Result<Duration, (GaveUp, Option<Duration>)> {
        let shared = &*self.target.shared;
        let rules = shared.retry();
        let stop = |why| Err((why, None));
        let (floor, cost) = match failure {
            Failure::Of(_, Verdict::Permanent | Verdict::Ignored | Verdict::Ok) => {
                return stop(GaveUp::Permanent);
            }
            Failure::Of(_, Verdict::Overloaded) => return stop(GaveUp::Overloaded),
            Failure::TimedOut(Limit::Total) => return stop(GaveUp::Time),
            Failure::Of(_, Verdict::Retry) => (None, ATTEMPT),
            Failure::Of(_, Verdict::RetryAfter(after)) => (Some(*after), ATTEMPT),
            Failure::TimedOut(Limit::Attempt) => (None, AFTER_TIMEOUT),
        };
        if !may_repeat {
            return Err((GaveUp::NotIdempotent, floor));
        } else if self.upstream > 0 {
            return Err((GaveUp::RetryOfRetry, floor));
        } else if made >= rules.max_attempts {
            return Err((GaveUp::Attempts, floor));
        }
        let Some(delay) = rules.delay_from(floor, made, previous, shared.chance.draw()) else {
            return Err((GaveUp::TooLong, floor));
        };
        if self.target.in_job && delay > millis(rules.reschedule_above_ms) {
            return Err((GaveUp::TooLong, Some(delay)));
        } else if until.is_some_and(|until| now + delay >= until) {
            return Err((GaveUp::Time, floor));
        }
        // The budget last: what is not tried for another reason costs nothing.
        if shared.take(cost, now) { Ok(delay) } else { Err((GaveUp::Budget, floor)) }
    }
}

/// What all attempts of a call have in common.
struct Trial<'c, C> {
    shared: &'c Shared,
    until: Option<Instant>,
    /// Whether `until` is the caller's deadline, and not the policy's own limit.
    by_caller: bool,
    made: &'c AtomicU32,
    judge: &'c C,
}

impl<C> Trial<'_, C> {
    /// The attempt that begins now, and what its end is the end of.
    fn attempt(&self, terms: &Terms, now: Instant) -> (Attempt, Limit) {
        let number = self.made.load(Ordering::Relaxed) + 1;
        let (deadline, limit) = self.end(terms, now);
        (Attempt { number, deadline }, limit)
    }

    fn end(&self, terms: &Terms, now: Instant) -> (Option<Instant>, Limit) {
        match (terms.limit.map(|limit| now + limit), self.until) {
            (Some(own), Some(until)) if own >= until => (Some(until), Limit::Total),
            (Some(own), _) => (Some(own), Limit::Attempt),
            (None, until) => (until, Limit::Total),
        }
    }

    /// An attempt that was cut after `ran`. A caller in a hurry says nothing about the target, else its deadlines would
    /// open the breaker for everybody; unless the target took as long as the policy itself is patient.
    fn told_by_silence(&self, terms: &Terms, limit: Limit, ran: Duration) -> Told {
        let patience = terms.limit.into_iter().chain(terms.slow).min();
        let hurried = self.by_caller && limit == Limit::Total;
        if hurried && patience.is_none_or(|patience| ran < patience) {
            Told::Nothing
        } else {
            Told::Fails { slow: true }
        }
    }

    /// Breaker's pass in hand: bulkhead, time limit, operation.
    async fn single<T, E, Fut>(
        &self,
        terms: &Terms,
        mut ticket: Ticket<'_>,
        Attempt { number, deadline: mut at }: Attempt,
        mut limit: Limit,
        mut now: Instant,
        operation: Fut,
    ) -> Ended<T, E>
    where
        C: Classify<T, E>,
        Fut: Future<Output = Result<T, E>>,
    {
        let mut _place = None;
        if let Some(rules) = &terms.bulkhead {
            let bulkhead = &self.shared.bulkhead;
            _place = bulkhead.try_enter();
            if _place.is_none() && rules.wait_ms > 0 {
                _place = bulkhead.enter(rules, now, self.until).await;
                // Its own time begins in its place.
                now = Instant::now();
                (at, limit) = self.end(terms, now);
            }
            if _place.is_none() {
                let by = Refusal::Bulkhead;
                if !terms.dry_run {
                    // A place is free again after about as long as an attempt takes; nobody knows that better.
                    return Ended::Refused((by, millis(100)));
                }
                self.shared.tell(Event::WouldRefuse { by });
            }
        }
        self.made.fetch_add(1, Ordering::Relaxed);
        match Within::new(operation, at).await {
            Some(outcome) => {
                let verdict = self.judge.classify(outcome.as_ref());
                // Time is read again only if somebody wants to know, or it was not the usual case.
                let ended = match (terms.slow, verdict) {
                    (None, Verdict::Ok) => now,
                    _ => Instant::now(),
                };
                let slow = terms.slow.is_some_and(|slow| ended - now >= slow);
                ticket.settle(
                    match verdict {
                        Verdict::Ok | Verdict::Permanent => Told::Works { slow },
                        Verdict::Ignored => Told::Nothing,
                        // What the operation makes of the end of its time: it looked at the clock before we did.
                        _ if at.is_some_and(|at| at <= ended) => {
                            self.told_by_silence(terms, limit, ended - now)
                        }
                        Verdict::Retry | Verdict::RetryAfter(_) | Verdict::Overloaded => Told::Fails { slow },
                    },
                    ended,
                );
                match verdict {
                    Verdict::Ok => self.shared.attempt_is_good(number),
                    verdict => self.shared.tell(Event::Attempt { number, verdict }),
                }
                Ended::With(outcome, verdict)
            }
            None => {
                let ended = Instant::now();
                ticket.settle(self.told_by_silence(terms, limit, ended - now), ended);
                self.shared.tell(Event::TimedOut { number, limit });
                Ended::TimedOut(limit)
            }
        }
    }

    /// The first attempt is slow: a second one beside it, if the budget has one.
    async fn hedge<T, E, F, Fut>(
        &self,
        first: Pin<&mut impl Future<Output = Ended<T, E>>>,
        attempt: Attempt,
        op: &mut F,
    ) -> Ended<T, E>
    where
        C: Classify<T, E>,
        F: FnMut(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let now = Instant::now();
        // Waiting in the bulkhead is no slowness of the target; a second place would make it worse.
        let begun = self.made.load(Ordering::Relaxed) >= attempt.number;
        let admitted = if begun { self.shared.admit(now).ok() } else { None };
        let admitted = admitted.map(|terms| (terms, Ticket { shared: self.shared, pass: terms.pass }));
        // The budget last: a hedge that is not sent for another reason costs nothing.
        let Some((terms, ticket)) = admitted.filter(|_| self.shared.take(ATTEMPT, now)) else {
            self.shared.tell(Event::HedgeRefused);
            return first.await;
        };
        let (attempt, limit) = self.attempt(&terms, now);
        self.shared.tell(Event::Hedge { number: attempt.number });
        let second = pin!(self.single(&terms, ticket, attempt, limit, now, op(attempt)));
        // The first outcome that nothing can change counts; a failure that may pass waits for the other.
        match select(first, second).await {
            Either::Left((ended, second)) if !ended.is_final() => better(ended, second.await),
            Either::Right((ended, first)) if !ended.is_final() => better(ended, first.await),
            Either::Left((ended, _)) | Either::Right((ended, _)) => ended,
        }
    }
}

/// Of an outcome that may pass and the one after it: the final one; else the one that forbids another attempt; else
/// the later, unless that was only refused.
fn better<T, E>(earlier: Ended<T, E>, later: Ended<T, E>) -> Ended<T, E> {
    let sheds = matches!(earlier, Ended::With(_, Verdict::Overloaded));
    if matches!(later, Ended::Refused(_)) || (sheds && !later.is_final()) { earlier } else { later }
}

/// A breaker's pass; dropped with the attempt, it tells nothing and gives its place back.
struct Ticket<'c> {
    shared: &'c Shared,
    pass: Option<Pass>,
}

impl Ticket<'_> {
    fn settle(&mut self, told: Told, now: Instant) {
        if let Some(pass) = self.pass.take() {
            self.shared.settle(pass, told, now);
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.pass.is_some() {
            self.settle(Told::Nothing, Instant::now());
        }
    }
}

/// An attempt that did not work.
enum Failure<T, E> {
    Of(Result<T, E>, Verdict),
    TimedOut(Limit),
}

fn refused<E>(shared: &Shared, (by, wait): Refused) -> PolicyError<E> {
    shared.tell(Event::Refused { by });
    let later = (!wait.is_zero()).then_some(Later { after: wait, attempted: false });
    PolicyError::Refused { by, later }
}

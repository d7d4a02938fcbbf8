//! Fetching and settling: one loop, one batch at a time.
//!
//! What has ended since the last batch and what there is room for go to the store together, so that a busy worker costs
//! one durable write a round, not two a job. While a batch is under way the next one fills by itself.

use std::{sync::Arc, time::Duration};

use mainstay_core::{
    Error as StoreError, ErrorKind,
    job::{Grant, Outcome, Retry},
    op::{Claim, Commit, Failure, Op, Reason, Reply, Settle},
    store::{Batch, Interest, Wake},
};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    ahead::Ahead,
    outbox::Ended,
    run::{Pool, failed as failure},
    running::{Key, Stuck, Why as StuckWhy},
    turns::Turns,
};
use crate::{
    job::ms,
    millis,
    scale::{Look, Reason as Why, Scale},
    secs,
    tasks::TaskSet,
    time::human,
};

/// How long one wait for work takes at most.
const WAIT: Duration = secs(30);
/// One turn of the loop, waiting included; one that takes longer hangs.
const TURN_LIMIT: Duration = secs(90);
/// Between tries when the store does not answer.
const STORE_PAUSE: Duration = millis(500);
/// A settle that was tried this often gets a word in the log; it is tried as long as its lease may live.
const WORD_AFTER: u32 = 5;
/// Settles in one batch. With as many grants it is what a remote store takes in one call.
const BATCH: usize = 1_000;
/// A job of a kind that nobody here handles goes back for this long, so that another worker can have it.
const UNKNOWN_KIND_DELAY: Duration = secs(15);

pub(super) struct Desk<S> {
    pool: Arc<Pool<S>>,
    attempts: TaskSet,
    ahead: Ahead<S>,
    turns: Turns,
    scale: Scale,
    began: Instant,
    /// Since when claims have come back full and no slot has been free: then more wait, for at least so long.
    full_since: Option<Instant>,
    /// The last claim found less than it was asked for: ask again when the store says so.
    empty: bool,
    counted: (u64, u64),
    most_running: usize,
}

impl<S: Clone + Send + Sync + 'static> Desk<S> {
    pub fn new(pool: Arc<Pool<S>>, attempts: TaskSet) -> Self {
        let turns = Turns::new(pool.queues.clone(), pool.weights.clone());
        let scale = Scale::new(pool.rules);
        Self {
            ahead: Ahead::new(pool.clone()),
            pool,
            attempts,
            turns,
            scale,
            began: Instant::now(),
            full_since: None,
            empty: false,
            counted: (0, 0),
            most_running: 0,
        }
    }

    /// Until no new work should be begun and everything in hand has been settled.
    pub async fn run(mut self) {
        let pool = self.pool.clone();
        let heartbeat = pool.health.heartbeat(format!("fetch {}", pool.label()), TURN_LIMIT);
        // Held until the claim it woke has been answered: then it is passed on.
        let mut woken: Option<Wake> = None;
        loop {
            heartbeat.beat();
            let draining = pool.shutdown.is_draining();
            let look_at = self.look();
            // The store knows best whether their leases are gone: if not, others can have the jobs now.
            for key in pool.running.take_overdue() {
                pool.outbox.put(Ended { settle: release(key, Duration::ZERO), slip: None, tries: 0 });
            }
            match draining {
                true => self.ahead.give_back(),
                false => self.begin_some(),
            }
            let stale_at = self.ahead.stale_at();
            let ended = pool.outbox.take(BATCH);
            // What ends leaves its slot with the same batch.
            let attempts = ended.iter().filter(|ended| ended.slip.is_some()).count();
            let busy = pool.running.len() - attempts;
            if draining && ended.is_empty() && busy == 0 {
                return;
            }
            let free = match draining {
                true => 0,
                false => (self.slots() + self.ahead.room(attempts))
                    .saturating_sub(busy + self.ahead.len())
                    .min(BATCH),
            };
            if !ended.is_empty() || (free > 0 && !self.empty) {
                self.ahead.exchanged(attempts);
                self.exchange(ended, free).await;
                woken = None;
                continue;
            }
            drop(woken.take());
            let interests: Vec<_> = pool.queues.iter().cloned().map(Interest::Queue).collect();
            tokio::select! {
                biased;
                () = pool.outbox.filled() => {}
                () = pool.running.gone() => {}
                () = pool.shutdown.draining(), if !draining => {}
                wake = pool.client.store().wait(&interests, WAIT), if free > 0 => match wake {
                    Ok(wake) => {
                        self.empty = false;
                        woken = Some(wake);
                    }
                    Err(error) => {
                        self.trouble(&error);
                        pool.shutdown.unless_draining(sleep(STORE_PAUSE)).await;
                        self.empty = false;
                    }
                },
                () = sleep_until(look_at.min(stale_at).min(Instant::now() + WAIT)) => {}
            }
        }
    }

    fn slots(&self) -> usize {
        // However many attempts hold their threads, there are never more than twice as many as were allowed.
        let most = (2 * self.scale.rules().ceiling).saturating_sub(self.pool.running.stuck_len());
        self.scale.workers().min(most)
    }

    /// Settles, claims for the free slots, and begins what was granted.
    async fn exchange(&mut self, ended: Vec<Ended>, free: usize) {
        let pool = self.pool.clone();
        let mut hand = InHand { pool: &pool, ended };
        let settles = hand.ended.iter().map(|ended| Op::Settle(ended.settle.clone()));
        let shares = if free > 0 { self.turns.share(free) } else { Vec::new() };
        let claims = shares.into_iter().map(|(queues, max)| {
            Op::Claim(Claim {
                queues,
                max: max as u32,
                max_bytes: 16 << 20,
                lease_ms: ms(pool.lease),
                worker: Some(pool.worker.clone()),
            })
        });
        let commits = settles.chain(claims).map(|op| Commit::of(op, pool.client.entropy())).collect();
        let sent = Instant::now();
        let answers = {
            let mut submit = std::pin::pin!(pool.client.submit(Batch { commits, within: None }));
            loop {
                tokio::select! {
                    biased;
                    answers = &mut submit => break answers,
                    // Meanwhile what is there already takes the slots that become free.
                    () = pool.outbox.filled(), if self.ahead.len() > 0 => self.begin_some(),
                }
            }
        };
        let mut answers = match answers {
            Ok(answers) => answers.into_iter(),
            Err(error) => {
                self.trouble(&error);
                hand.take().into_iter().for_each(|ended| self.unsettled(ended, &error));
                // What is in hand goes on; in the drain, too, the store is worth another try.
                sleep(STORE_PAUSE).await;
                return;
            }
        };
        let mut hungry = false;
        for ended in hand.take() {
            match answers.next() {
                Some(Ok(_)) => settled(ended),
                Some(Err(Failure::Rejected(rejection))) => {
                    match &rejection.reason {
                        Reason::LeaseLost | Reason::NotFound(_) => {
                            metrics::counter!("mainstay.workers.leases_lost").increment(1);
                            let (id, _) = ended.key();
                            tracing::warn!(job = %id, "the lease was lost before the attempt ended; its outcome is void");
                        }
                        Reason::Invalid { .. } if is_result(&ended) => {
                            self.bad_result(ended, &rejection.reason);
                            continue;
                        }
                        reason => {
                            tracing::error!(job = %ended.settle.id, %reason, "cannot settle; the job will be offered again");
                        }
                    }
                    settled(ended);
                }
                Some(Err(Failure::Failed(error))) => {
                    hungry = true;
                    self.unsettled(ended, &error);
                }
                None => {
                    hungry = true;
                    let error = StoreError::unknown(ErrorKind::Unavailable, "the store did not answer to it");
                    self.unsettled(ended, &error);
                }
            }
        }
        let (mut granted, mut failed) = (0, false);
        for answer in answers {
            match answer {
                Ok(committed) => {
                    for reply in committed.replies {
                        let Reply::Claimed(grants) = reply else { continue };
                        granted += grants.len();
                        grants.into_iter().for_each(|grant| self.take(grant, sent));
                    }
                }
                Err(failure) => {
                    self.trouble(&failure);
                    failed = true;
                }
            }
        }
        self.begin_some();
        if free > 0 {
            self.empty = granted < free && !failed;
            match granted == free {
                true => _ = self.full_since.get_or_insert_with(Instant::now),
                false => self.full_since = None,
            }
        }
        self.most_running = self.most_running.max(pool.running.len());
        if failed || hungry {
            sleep(STORE_PAUSE).await;
        }
    }

    /// Begins as many as there are slots free.
    fn begin_some(&mut self) {
        if self.pool.shutdown.is_draining() {
            return;
        }
        while self.pool.running.working() < self.slots()
            && let Some((grant, sent)) = self.ahead.next()
        {
            self.pool.begin(grant, sent, &self.attempts);
        }
    }

    fn take(&mut self, grant: Grant, sent: Instant) {
        let pool = &self.pool;
        let known = grant.body.as_ref().is_some_and(|body| pool.handlers.contains_key(&*body.kind));
        // A claim that was under way when the drain began: its jobs are the next worker's, at once.
        let delay = match (pool.shutdown.is_draining(), known) {
            (true, _) => Duration::ZERO,
            (false, true) => return self.ahead.push(grant, sent),
            (false, false) => {
                let kind = grant.body.as_ref().map_or("?", |body| &*body.kind);
                metrics::counter!("mainstay.workers.unknown_kinds").increment(1);
                tracing::warn!(job = %grant.id, kind, queue = %grant.queue, "no handler for this kind; given back");
                UNKNOWN_KIND_DELAY
            }
        };
        let settle = release((grant.id, grant.lease), delay);
        pool.outbox.put(Ended { settle, slip: None, tries: 0 });
    }

    /// Gives up on attempts that hold their thread, and looks at how many slots there should be; answers when to look
    /// again.
    fn look(&mut self) -> Instant {
        let now = Instant::now();
        let (stuck, next_stuck) = self.pool.running.take_stuck(now, self.pool.grace);
        stuck.into_iter().for_each(|stuck| self.give_up(stuck));
        let rules = *self.scale.rules();
        let far = now + secs(86_400);
        let next_stuck = next_stuck.unwrap_or(far);
        if rules.floor == rules.ceiling {
            return next_stuck;
        }
        let counted = self.pool.tally.read();
        let (finished, took_us) = (counted.0 - self.counted.0, counted.1 - self.counted.1);
        self.counted = counted;
        let running = self.pool.running.len();
        let busy = std::mem::replace(&mut self.most_running, running).max(running);
        let full_since = self.full_since.filter(|_| running >= self.scale.workers());
        let look = Look {
            busy: busy.min(self.scale.workers()),
            // Nobody counts for us what waits: at least one, and as a guess as many as run.
            waiting: if full_since.is_some() { self.scale.workers() } else { 0 },
            oldest: full_since.map_or(Duration::ZERO, |since| now - since),
            finished: finished as usize,
            latency: (finished > 0).then(|| Duration::from_micros(took_us / finished)),
        };
        let decision = self.scale.decide(now - self.began, &look);
        if decision.is_change() {
            let (queues, from, to, reason) =
                (self.pool.label(), decision.before, decision.workers, decision.reason);
            metrics::counter!("mainstay.workers.scaled", "queues" => queues.clone(), "reason" => reason.as_str())
                .increment(1);
            tracing::info!(queues, from, to, %reason, "workers scale");
            if to > from {
                // The new slots have asked for nothing yet.
                self.empty = false;
            }
        }
        metrics::gauge!("mainstay.workers.slots", "queues" => self.pool.label()).set(decision.workers as f64);
        let next = match decision.reason {
            _ if look.waiting > 0 && decision.workers < rules.ceiling => rules.pause,
            Why::Ceiling => secs(1),
            _ if decision.workers > rules.floor => secs(1),
            _ => secs(86_400),
        };
        (now + next).min(next_stuck)
    }

    /// Settles an attempt that cannot be cut as if it had been: the job is fenced off by the token of its next attempt.
    fn give_up(&self, stuck: Stuck) {
        let Stuck { key, kind, age, why } = stuck;
        metrics::counter!("mainstay.workers.slots_lost").increment(1);
        let age_ms = age.as_millis() as u64;
        tracing::error!(
            job = %key.0, %kind, age_ms,
            "a handler holds its thread although it was to stop; its slot is given to another job"
        );
        let outcome = match why {
            StuckWhy::Limit(limit) => {
                let message =
                    format!("the attempt did not end within {}, and holds its thread still", human(limit));
                failure(Some("stuck"), message, Retry::Auto)
            }
            StuckWhy::Cancelled => Outcome::Cancel { error: None },
            StuckWhy::Lost => return,
        };
        let settle = Settle { id: key.0, lease: key.1, outcome, repeat_is_ok: true };
        self.pool.outbox.put(Ended { settle, slip: None, tries: 0 });
    }

    /// The store did not judge it: its work is done, and worth another try as long as the lease may live. When that is
    /// over, the store says so.
    fn unsettled(&self, mut ended: Ended, error: &StoreError) {
        // What was asked is wrong, or nobody will answer any more: asking again changes nothing.
        if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotSupported | ErrorKind::Closed) {
            tracing::error!(job = %ended.settle.id, %error, "cannot settle; the job will be offered again");
            return settled(ended);
        }
        ended.tries += 1;
        if ended.tries == WORD_AFTER {
            tracing::error!(job = %ended.settle.id, %error, "cannot settle yet; trying on while the lease may live");
        }
        self.pool.outbox.put_back([ended]);
    }

    /// The store will not take what a handler made: the job says so, instead of running again and again.
    fn bad_result(&self, mut ended: Ended, why: &Reason) {
        let message = format!("the store does not take the result: {why}");
        tracing::error!(job = %ended.settle.id, error = %message, "job failed");
        ended.settle.outcome = failure(Some("result"), message, Retry::Never);
        self.pool.outbox.put(ended);
    }

    fn trouble(&self, error: &dyn std::fmt::Display) {
        tracing::warn!(queues = ?self.pool.queues, %error, "the store does not answer the workers; trying again");
        metrics::counter!("mainstay.workers.claim_errors").increment(1);
    }
}

/// What is on its way to the store. Cut there, it waits for another try: whoever stops the workers makes it.
struct InHand<'a, S> {
    pool: &'a Pool<S>,
    ended: Vec<Ended>,
}

impl<S> InHand<'_, S> {
    fn take(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }
}

impl<S> Drop for InHand<'_, S> {
    fn drop(&mut self) {
        self.pool.outbox.put_back(std::mem::take(&mut self.ended));
    }
}

impl Ended {
    fn key(&self) -> Key {
        (self.settle.id, self.settle.lease)
    }
}

fn is_result(ended: &Ended) -> bool {
    matches!(ended.settle.outcome, Outcome::Complete { result: Some(_) })
}

fn settled(ended: Ended) {
    if let Some(slip) = ended.slip {
        slip.settled();
    }
}

/// The job goes back without spending an attempt.
pub(super) fn release((id, lease): Key, delay: Duration) -> Settle {
    Settle { id, lease, outcome: Outcome::Release { delay_ms: ms(delay) }, repeat_is_ok: true }
}

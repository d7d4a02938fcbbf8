//! What must hold of places, rates and turns: never more at once than there are places, never more in a span than the
//! rate, within a key the order of the contract, nothing that can run waits while there is a place, and keys that take
//! turns get their shares.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mainstay_core::{
    JobId, QueueName, StoreTime, Timestamp, Token,
    job::{JobRecord, JobState},
    op::{Claim, Commit, Committed, Op, Rejection, Reply},
    queue::{QueueConfig, QueueRecord, Rate, USUAL_WEIGHT},
};

use super::{check::View, play::Outcomes};

/// What is remembered from step to step.
#[derive(Default)]
pub(super) struct Ledger {
    /// Of queues with a rate: the rate, and what was handed out under it.
    handed: BTreeMap<QueueName, (Rate, Vec<StoreTime>)>,
    /// Hand-outs of each key of a queue with fairness, since the same keys have had something to hand out.
    turns: BTreeMap<QueueName, BTreeMap<Option<Arc<str>>, u64>>,
    /// What ran when it was last looked at.
    running: BTreeSet<(JobId, Token)>,
}

impl Ledger {
    /// Notes what commits did at `now`, and whether a rate let too much through.
    pub(super) fn note(
        &mut self,
        commits: &[Commit],
        answers: &[Result<Committed, Rejection>],
        now: StoreTime,
    ) -> Outcomes {
        let claims = |op: &Op| matches!(op, Op::Claim(_));
        if commits.len() > 1
            || commits.iter().any(|commit| commit.ops.len() > 1 && commit.ops.iter().any(claims))
        {
            self.turns.clear(); // nobody saw what could be handed out before each
        }
        for (commit, answer) in commits.iter().zip(answers) {
            let Ok(Committed { replies, repeated: false }) = answer else { continue };
            for (op, reply) in commit.ops.iter().zip(replies) {
                match (op, reply) {
                    (Op::PutQueue { queue, config }, _) => self.configured(queue, config, now),
                    (Op::DeleteQueue { queue }, _) => drop(self.handed.remove(queue)),
                    (Op::Claim(_), Reply::Claimed(grants)) => {
                        for grant in grants {
                            self.handed_out(&grant.queue, now)?;
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn configured(&mut self, queue: &QueueName, config: &QueueConfig, now: StoreTime) {
        self.turns.remove(queue);
        let Some(rate) = config.rate else {
            self.handed.remove(queue);
            return;
        };
        let (old, handed) = self.handed.entry(queue.clone()).or_insert((rate, vec![]));
        // A store need not remember longer than the rate asked it to.
        handed.retain(|at| at.plus_ms(old.per_ms) > now);
        *old = rate;
    }

    fn handed_out(&mut self, queue: &QueueName, now: StoreTime) -> Outcomes {
        let Some((rate, handed)) = self.handed.get_mut(queue) else { return Ok(()) };
        let rate = *rate;
        if left(rate, handed, now) == 0 {
            return Err(format!("queue {queue} handed out more than {rate:?} at {now:?}"));
        }
        handed.push(now);
        Ok(())
    }

    /// `job` was handed out when each of `heads` could have been. While the same keys have something, no two are
    /// further apart than two hand-outs of the slowest: one that each may be ahead by when they begin, and one since.
    fn turn(&mut self, queue: &QueueRecord, heads: &[&JobRecord], job: &JobRecord) -> Outcomes {
        let Some(fairness) = &queue.config.fairness else { return Ok(()) };
        let keys: BTreeSet<_> = heads.iter().map(|head| head.keys.fairness.clone()).collect();
        let counts = self.turns.entry(queue.name.clone()).or_default();
        if !counts.keys().eq(&keys) {
            *counts = keys.into_iter().map(|key| (key, 0)).collect();
        }
        *counts.entry(job.keys.fairness.clone()).or_default() += 1;
        let weight = |key: &Option<Arc<str>>| {
            let named = key.as_ref().and_then(|key| fairness.weights.get(key));
            f64::from(named.copied().unwrap_or(USUAL_WEIGHT)) / f64::from(USUAL_WEIGHT)
        };
        let served = counts.iter().map(|(key, count)| *count as f64 / weight(key));
        let (least, most) =
            served.fold((f64::MAX, 0.0_f64), |(least, most), one| (least.min(one), most.max(one)));
        let slowest = counts.keys().map(weight).fold(f64::MAX, f64::min);
        if most - least > 2.0 / slowest + 1e-3 {
            return Err(format!("keys of {} are not served by their weights: {counts:?}", queue.name));
        }
        Ok(())
    }

    fn room(&self, queue: &QueueName, now: StoreTime) -> u64 {
        self.handed.get(queue).map_or(u64::MAX, |(rate, handed)| left(*rate, handed, now))
    }

    /// What began to run since the last look had a place; not asked after a step that may have changed limits.
    pub(super) fn never_exceeded(&mut self, view: &View, same_limits: bool) -> Outcomes {
        let running: Vec<&JobRecord> = view.jobs.iter().filter(|job| job.token.is_some()).collect();
        let mut outcome = Ok(());
        for new in running.iter().filter(|job| same_limits && !self.ran(job)) {
            let places = Places::of(view, &view.queues[&new.queue]);
            if places.running > places.most || places.of_key(new) > places.most_of_key {
                outcome = Err(format!("more jobs run than there are places: {new:?}"));
            }
        }
        self.running = running.iter().filter_map(|job| Some((job.id, job.token?))).collect();
        outcome
    }

    fn ran(&self, job: &JobRecord) -> bool {
        job.token.is_some_and(|token| self.running.contains(&(job.id, token)))
    }

    /// Token numbers begin anew.
    pub(super) fn restarted(&mut self, view: &View) {
        let running = view.jobs.iter().filter_map(|job| Some((job.id, job.token?)));
        self.running = running.collect();
    }
}

fn left(rate: Rate, handed: &[StoreTime], now: StoreTime) -> u64 {
    let used = handed.iter().filter(|at| at.plus_ms(rate.per_ms) > now).count() as u64;
    rate.count.saturating_sub(used)
}

/// The places of a queue, and who has one.
struct Places {
    most: u64,
    running: u64,
    most_of_key: u64,
    running_of_key: BTreeMap<Arc<str>, u64>,
}

impl Places {
    fn of(view: &View, queue: &QueueRecord) -> Places {
        let mut places = Places {
            most: queue.config.concurrency.map_or(u64::MAX, u64::from),
            running: 0,
            most_of_key: u64::from(queue.config.key_concurrency.unwrap_or(1)),
            running_of_key: BTreeMap::new(),
        };
        let of_queue = view.jobs.iter().filter(|job| job.queue == queue.name);
        of_queue.filter(|job| job.state == JobState::Running).for_each(|job| places.take(job));
        places
    }

    fn take(&mut self, job: &JobRecord) {
        self.running += 1;
        if let Some(key) = &job.keys.concurrency {
            *self.running_of_key.entry(key.clone()).or_default() += 1;
        }
    }

    fn of_key(&self, job: &JobRecord) -> u64 {
        let key = job.keys.concurrency.as_ref();
        key.and_then(|key| self.running_of_key.get(key)).copied().unwrap_or(0)
    }

    fn is_free_for(&self, job: &JobRecord) -> bool {
        self.running < self.most && (job.keys.concurrency.is_none() || self.of_key(job) < self.most_of_key)
    }
}

/// A claim takes what the lists before it said was runnable, in the order of the contract: exactly, or where keys take
/// turns, the first of some key each time.
pub(super) fn claim_was_right(
    before: &View,
    ledger: &mut Ledger,
    claim: &Claim,
    reply: &Reply,
    now: StoreTime,
) -> Outcomes {
    let Reply::Claimed(grants) = reply else { return Err(format!("a claim was answered with {reply:?}")) };
    let mut granted = grants.iter().map(|grant| grant.id).peekable();
    let mut taken: BTreeSet<JobId> = BTreeSet::new();
    let mut bytes = 0;
    'queues: for name in &claim.queues {
        let Some(queue) = before.queues.get(name).filter(|queue| !queue.paused) else { continue };
        let mut places = Places::of(before, queue);
        before
            .jobs
            .iter()
            .filter(|job| taken.contains(&job.id) && job.queue == *name)
            .for_each(|job| places.take(job));
        let before_here =
            taken.iter().filter(|id| before.jobs.iter().any(|j| j.id == **id && j.queue == *name));
        let mut room = ledger.room(name, now).saturating_sub(before_here.count() as u64);
        loop {
            let heads = heads(before, queue, &places, &taken);
            if room == 0 || heads.is_empty() {
                continue 'queues;
            }
            if taken.len() as u64 >= u64::from(claim.max) {
                break 'queues;
            }
            let too_large =
                |job: &JobRecord| bytes + job.body.size() as u64 > claim.max_bytes && !taken.is_empty();
            match granted.peek().and_then(|id| heads.iter().find(|job| job.id == *id)) {
                Some(job) if !too_large(job) => {
                    ledger.turn(queue, &heads, job)?;
                    granted.next();
                    bytes += job.body.size() as u64;
                    taken.insert(job.id);
                    places.take(job);
                    room -= 1;
                }
                _ if heads.iter().any(|job| too_large(job)) => break 'queues,
                _ => {
                    let heads: Vec<_> = heads.iter().map(|job| job.id).collect();
                    let got: Vec<_> = grants.iter().map(|grant| grant.id).collect();
                    return Err(format!(
                        "{got:?} were handed out; after {} of them, by the lists, it was the turn of one of {heads:?}",
                        taken.len()
                    ));
                }
            }
        }
    }
    match granted.next() {
        None => Ok(()),
        Some(id) => Err(format!("{id} was handed out; by the lists, nothing more could be")),
    }
}

/// The first job that can run, of the queue or of each key that takes turns.
fn heads<'v>(
    view: &'v View,
    queue: &QueueRecord,
    places: &Places,
    taken: &BTreeSet<JobId>,
) -> Vec<&'v JobRecord> {
    let runnable = |job: &&JobRecord| {
        job.queue == queue.name
            && job.state == JobState::Available
            && job.expires_at.is_none_or(|at| at > view.now)
            && !taken.contains(&job.id)
            && places.is_free_for(job)
    };
    let mut jobs: Vec<&JobRecord> = view.jobs.iter().filter(runnable).collect();
    jobs.sort_by_key(|job| rank(queue, job));
    let mut seen = BTreeSet::new();
    let fair = queue.config.fairness.is_some();
    jobs.retain(|job| seen.insert(job.keys.fairness.clone().filter(|_| fair)));
    jobs
}

fn rank(queue: &QueueRecord, job: &JobRecord) -> (i64, u8, Timestamp, JobId) {
    // One that ages stands where one of priority 0 would that came so much later.
    let aged = queue.config.ageing_ms.map_or(0, |step| job.run_at.0 + i64::from(job.priority) * step as i64);
    (aged, job.priority, job.run_at, job.id)
}

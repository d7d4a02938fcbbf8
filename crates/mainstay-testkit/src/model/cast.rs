//! Who appears in a sequence, and what its steps mean in terms of them: the same words for both sides, but for the
//! leases, of which each side has its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mainstay_core::{
    JobId, LeaseId, QueueName, Timestamp, Token,
    access::{AccessToken, AuditRecord},
    after::After,
    id::JobIds,
    job::{Backoff, JobBody, JobFailure, JobKeys, JobPolicy, NewJob, Outcome, Retry, Unique, When},
    name::Name,
    op::{Claim, Commit, IdempotencyKey, Op, Require, Settle},
    queue::{Fairness, Overflow, QueueConfig, Rate, Retention},
    rules::mix,
    schedule::{CatchUp, Fire, Schedule, ScheduleOp},
    store::{DeadFilter, JobFilter, Query},
};

use super::{
    locks::Grants,
    step::{Asked, Config, Do, Due, How, Look, Named, Pick, Plan, Work},
};
use crate::{clock::START, world::name};

/// One grant, as each side named it.
pub(super) struct Granted {
    pub id: JobId,
    pub tested: LeaseId,
    pub reference: LeaseId,
}

#[derive(Clone, Copy)]
enum Side {
    Tested,
    Reference,
}

/// The jobs and leases of a sequence so far.
pub(super) struct Cast {
    ids: JobIds,
    known_ids: Vec<JobId>,
    /// Every id that was ever enqueued, in that order.
    pub jobs: Vec<JobId>,
    /// Every grant, in that order.
    pub leases: Vec<Granted>,
    /// Every grant of a lock.
    pub grants: Grants,
    /// The next tick of each schedule that has one.
    pub ticks: [Option<Timestamp>; SCHEDULES],
    /// The store was closed and opened: nothing is promised of an order that nobody is to rely on.
    pub restarted: bool,
    draws: u64,
}

/// So many schedules may be there.
pub(super) const SCHEDULES: usize = 2;

impl Cast {
    pub(super) fn new() -> Cast {
        Cast {
            ids: JobIds::default(),
            known_ids: known_ids(),
            jobs: vec![],
            leases: vec![],
            grants: Grants::default(),
            ticks: [None; SCHEDULES],
            restarted: false,
            draws: 0,
        }
    }

    /// The same commit for both sides: they differ in the leases they know.
    pub(super) fn commit(&mut self, now: Timestamp, asked: &Asked) -> (Commit, Commit) {
        self.draws += 1;
        let entropy = mix(0x6d61_696e_7374_6179, self.draws);
        let key = asked.key.map(|(scope, fingerprint)| IdempotencyKey {
            scope: [scope; 16],
            fingerprint: [fingerprint; 16],
        });
        let ops: Vec<(Op, Op)> = asked.ops.iter().map(|op| self.op(now, op)).collect();
        let require = |side| asked.require.iter().map(|pick| self.require(*pick, side)).collect();
        let (mut require_tested, mut require_reference): (Vec<_>, Vec<_>) =
            (require(Side::Tested), require(Side::Reference));
        if let Some(pick) = asked.require_lock {
            let (tested, reference) = self.grants.require(pick);
            require_tested.push(tested);
            require_reference.push(reference);
        }
        let (tested, reference) = ops.into_iter().unzip();
        (
            Commit { key, require: require_tested, ops: tested, entropy },
            Commit { key, require: require_reference, ops: reference, entropy },
        )
    }

    fn require(&self, pick: Pick, side: Side) -> Require {
        let (id, lease) = self.lease(pick, side);
        Require::Job { id, lease }
    }

    fn op(&mut self, now: Timestamp, op: &Do) -> (Op, Op) {
        let both = |op: Op| (op.clone(), op);
        let sides = |make: &dyn Fn(JobId, LeaseId) -> Op, cast: &Cast, pick: Pick| {
            let op = |side| {
                let (id, lease) = cast.lease(pick, side);
                make(id, lease)
            };
            (op(Side::Tested), op(Side::Reference))
        };
        match op {
            Do::Enqueue(work) => both(Op::Enqueue(Box::new(self.work(now, work)))),
            Do::Claim { queues, max, max_bytes, lease_ms, worker } => both(Op::Claim(Claim {
                queues: queues.iter().map(|queue| queue_name(*queue)).collect(),
                max: *max,
                max_bytes: *max_bytes,
                lease_ms: *lease_ms,
                worker: worker.map(|n| name(&format!("w{n}"))),
            })),
            Do::Settle { lease, how, once } => {
                let outcome = outcome(*how);
                let repeat_is_ok = !once;
                let make =
                    |id, lease| Op::Settle(Settle { id, lease, outcome: outcome.clone(), repeat_is_ok });
                sides(&make, self, *lease)
            }
            Do::Extend { lease, extend_ms, progress } => {
                let progress = progress.then(|| format!("{{\"at\":{}}}", self.draws).into());
                let extend_ms = *extend_ms;
                let make = |id, lease| Op::Extend { id, lease, extend_ms, progress: Clone::clone(&progress) };
                sides(&make, self, *lease)
            }
            Do::Cancel(pick) => both(Op::Cancel { id: self.job(*pick) }),
            Do::Retry(pick) => both(Op::Retry { id: self.job(*pick) }),
            Do::Delete(pick) => both(Op::Delete { id: self.job(*pick) }),
            Do::RequeueDead { queue, jobs } => {
                both(Op::RequeueDead { queue: queue_name(*queue), ids: self.distinct(jobs) })
            }
            Do::DeleteDead { queue, jobs } => {
                both(Op::DeleteDead { queue: queue_name(*queue), ids: self.distinct(jobs) })
            }
            Do::Purge { queue, limit } => {
                // Which of them go is no promise, and follows from what a restart forgets.
                let limit = if self.restarted { 1_000 } else { *limit };
                both(Op::Purge { queue: queue_name(*queue), limit })
            }
            Do::Configure { queue, config } => {
                both(Op::PutQueue { queue: queue_name(*queue), config: queue_config(*config) })
            }
            Do::Pause { queue, paused } => both(Op::SetPaused { queue: queue_name(*queue), paused: *paused }),
            Do::DeleteQueue { queue } => both(Op::DeleteQueue { queue: queue_name(*queue) }),
            Do::Grant { token } => both(Op::PutAccessToken(AccessToken {
                name: name(&format!("t{token}")),
                hash: [*token; 32],
                scopes: vec![],
                created_at: now,
            })),
            Do::Revoke { token } => both(Op::RevokeAccessToken { name: name(&format!("t{token}")) }),
            Do::Audit(n) => both(Op::Audit(AuditRecord {
                at: now,
                actor: "model".into(),
                action: "audit".into(),
                subject: n.to_string(),
                detail: String::new(),
            })),
            Do::Lock(op) => self.grants.op(op, self.restarted),
            Do::Schedule { name, what } => both(Op::Schedule(self.schedule(now, usize::from(*name), *what))),
        }
    }

    fn schedule(&mut self, now: Timestamp, which: usize, what: Plan) -> ScheduleOp {
        let name = schedule_name(which);
        let at = |ms: i64| Timestamp(now.0 + ms);
        let job = |cast: &mut Cast, queue| {
            let queue = queue_name(queue);
            let id = cast.ids.next(now.0, &queue, mix(2, cast.draws));
            NewJob::new(id, queue, JobBody::new("tick", "null"))
        };
        match what {
            Plan::Put { times, all, next } => {
                let catch_up = if all { CatchUp::All } else { CatchUp::Skip };
                let (cron, timezone) = (format!("{times} * * * *").into(), "UTC".into());
                let job = job(self, 0);
                let schedule = Arc::new(Schedule { name, cron, timezone, catch_up, job });
                ScheduleOp::Put { schedule, next: at(next) }
            }
            Plan::Delete => ScheduleOp::Delete { name },
            Plan::Pause => ScheduleOp::Pause { name },
            Plan::Fire { tick, queue, next } => {
                let expected = self.ticks[which].unwrap_or(now);
                let job = tick.then(|| Box::new(job(self, queue)));
                if let Some(job) = &job {
                    self.jobs.push(job.id);
                }
                let (tick, next) = (tick.then_some(expected), next.map(at));
                ScheduleOp::Fire(Box::new(Fire {
                    name,
                    revision: None,
                    expected,
                    tick,
                    job,
                    next,
                    missed: 1,
                }))
            }
        }
    }

    fn work(&mut self, now: Timestamp, work: &Work) -> NewJob {
        let queue = queue_name(work.queue);
        // Before its own id is among those to pick from.
        let after = work.after.iter().map(|named| match named {
            Named::Job(pick) => After::Job(self.job(*pick)),
            Named::Op(index) => After::Op(*index),
        });
        let after = after.collect();
        let new_id = self.ids.next(now.0, &queue, mix(1, self.draws));
        let id = work.known_id.map_or(new_id, |known| self.known_ids[usize::from(known)]);
        if !self.jobs.contains(&id) {
            self.jobs.push(id);
        }
        let body = JobBody {
            tags: work.tag.iter().map(|tag| format!("tag{tag}").into()).collect(),
            ..JobBody::new(&kind(work.kind), &format!("\"{}\"", "x".repeat(work.payload)))
        };
        NewJob {
            id,
            caller_id: work.known_id.is_some(),
            queue,
            body: Arc::new(body),
            priority: work.priority,
            run_at: match work.due {
                Due::Now => None,
                Due::Past(ms) => Some(When::At(Timestamp(now.0 - ms))),
                Due::In(ms) => Some(When::In(ms)),
            },
            expires: work.expires_in.map(When::In),
            policy: JobPolicy {
                max_attempts: work.max_attempts,
                max_crashes: work.max_crashes,
                backoff: Backoff { jitter: work.jitter, ..Backoff::default() },
                timeout_ms: work.timeout_ms,
                retain_ms: work.retain_ms,
            },
            unique: work.unique.map(|(key, for_ms)| Unique { key: format!("u{key}").into(), for_ms }),
            after,
            after_failure: work.after_failure,
            keys: JobKeys {
                concurrency: work.concurrency_key.map(|key| format!("c{key}").into()),
                fairness: work.fairness_key.map(|key| format!("f{key}").into()),
            },
        }
    }

    fn job(&self, pick: Pick) -> JobId {
        let position = self.jobs.len().checked_sub(pick.0 + 1);
        position.map_or_else(unknown_id, |position| self.jobs[position])
    }

    fn distinct(&self, picks: &[Pick]) -> Vec<JobId> {
        picks.iter().map(|pick| self.job(*pick)).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn lease(&self, pick: Pick, side: Side) -> (JobId, LeaseId) {
        match self.leases.len().checked_sub(pick.0 + 1).map(|position| &self.leases[position]) {
            Some(granted) => match side {
                Side::Tested => (granted.id, granted.tested),
                Side::Reference => (granted.id, granted.reference),
            },
            None => (self.job(pick), LeaseId { token: Token(1), nonce: 1 }),
        }
    }
}

pub(super) fn queue_name(queue: u8) -> QueueName {
    name(["a", "b", "c:d"][usize::from(queue)])
}

pub(super) fn schedule_name(which: usize) -> Name {
    name(&format!("s{which}"))
}

fn kind(kind: u8) -> String {
    format!("kind{kind}")
}

/// Ids that callers make themselves, and make again.
fn known_ids() -> Vec<JobId> {
    let mut ids = JobIds::default();
    (0..4).map(|n| ids.next(START.0 - 1_000, &queue_name(0), n)).collect()
}

fn unknown_id() -> JobId {
    JobIds::default().next(START.0 - 2_000, &queue_name(0), 0)
}

fn outcome(how: How) -> Outcome {
    let fail = |retry, kind: &str| {
        let kind = Some(kind.into());
        Outcome::Fail { error: JobFailure { kind, message: "it failed".into(), backtrace: None }, retry }
    };
    match how {
        How::Complete { result } => Outcome::Complete { result: result.then(|| "[1]".into()) },
        How::Fail => fail(Retry::Auto, "Boom"),
        How::FailAfter(ms) => fail(Retry::After(ms), "Later"),
        How::FailForGood => fail(Retry::Never, "Boom"),
        How::Release(delay_ms) => Outcome::Release { delay_ms },
        How::Cancel => Outcome::Cancel { error: None },
    }
}

fn queue_config(config: Config) -> QueueConfig {
    QueueConfig {
        max_depth: config.max_depth,
        max_age_ms: config.max_age_ms,
        overflow: if config.drop_oldest { Overflow::DropOldest } else { Overflow::Reject },
        max_crashes: config.max_crashes,
        retention: Retention {
            completed_ms: config.completed_ms,
            completed_count: config.completed_count,
            dead_ms: config.dead_ms,
        },
        concurrency: config.limits.concurrency,
        key_concurrency: config.limits.key_concurrency,
        rate: config.limits.rate.map(|(per_ms, count)| Rate { per_ms, count }),
        fairness: config.limits.fairness.map(|weighted| {
            let weights = [("f0".into(), 3_000), ("f1".into(), 700)];
            let weights: BTreeMap<_, _> = weights.into_iter().filter(|_| weighted).collect();
            Fairness { weights: weights.into() }
        }),
        ageing_ms: config.limits.ageing_ms,
    }
}

pub(super) fn query(look: &Look) -> (Query, u32) {
    match look {
        Look::Jobs { queue, state, kind: of_kind, tag, limit } => {
            let filter = JobFilter {
                queue: queue.map(queue_name),
                state: *state,
                kind: of_kind.map(kind),
                tag: tag.map(|tag| format!("tag{tag}")),
            };
            (Query::Jobs(filter), *limit)
        }
        Look::Dead { queue, kind: of_kind, boom, limit } => {
            let error_type = boom.map(|boom| if boom { "Boom" } else { "Later" }.to_owned());
            let filter = DeadFilter { queue: queue_name(*queue), kind: of_kind.map(kind), error_type };
            (Query::Dead(filter), *limit)
        }
        Look::Queues { limit } => (Query::Queues, *limit),
        Look::Locks { prefix, limit } => (Query::Locks { prefix: prefix.then(|| "l:".to_owned()) }, *limit),
    }
}

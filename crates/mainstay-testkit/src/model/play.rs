//! Plays a sequence on the store under test and on the reference, and compares.

use std::{collections::BTreeSet, sync::Arc};

use mainstay_core::{
    JobId, LeaseId, Store, Token,
    access::{AccessToken, AuditRecord},
    id::JobIds,
    job::{Backoff, JobBody, JobFailure, JobPolicy, JobRecord, NewJob, Outcome, Retry, Unique, When},
    memory::MemoryStore,
    op::{Claim, Commit, Committed, Failure, IdempotencyKey, Op, Reply, Require, Settle},
    queue::{Overflow, QueueConfig, Retention},
    rules::mix,
    store::{DeadFilter, JobFilter, Query, Record, TokenOrder},
};

use super::{
    check::{self, View},
    step::{Asked, Config, Do, Due, How, Look, Pick, Step, Work},
};
use crate::{
    clock::{ManualClock, START},
    harness::Harness,
    world::{World, name},
};

/// What is said when a sequence fails.
pub(super) type Outcomes = Result<(), String>;

type Answers = Vec<Result<Committed, Failure>>;

/// Everything is compared after so many steps, and at the end.
const FULL_LOOK_EVERY: usize = 16;

/// Plays `steps` on `world`, whose store is fresh.
pub(super) async fn play(world: &mut World, steps: &[Step]) -> Outcomes {
    let clock = world.harness().clock().clone();
    let reference = World::open(Box::new(Reference(clock))).await;
    let mut play = Play {
        reference,
        ids: JobIds::default(),
        known_ids: known_ids(),
        jobs: vec![],
        leases: vec![],
        last_token: Token(0),
        draws: 0,
        restarted: false,
    };
    for (n, step) in steps.iter().enumerate() {
        let at = |what: String| format!("step {n}, {step:?}: {what}");
        play.step(world, step).await.map_err(at)?;
        if n % FULL_LOOK_EVERY == FULL_LOOK_EVERY - 1 || n == steps.len() - 1 {
            play.look_at_everything(world).await.map_err(at)?;
        }
    }
    Ok(())
}

/// The engine in RAM, on the clock of the store under test.
struct Reference(Arc<ManualClock>);

#[async_trait::async_trait]
impl Harness for Reference {
    fn clock(&self) -> &Arc<ManualClock> {
        &self.0
    }
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(MemoryStore::new(self.0.clone()))
    }
}

/// One grant, as each side named it.
struct Granted {
    id: JobId,
    tested: LeaseId,
    reference: LeaseId,
}

#[derive(Clone, Copy)]
enum Side {
    Tested,
    Reference,
}

struct Play {
    reference: World,
    ids: JobIds,
    known_ids: Vec<JobId>,
    /// Every id that was ever enqueued, in that order.
    jobs: Vec<JobId>,
    leases: Vec<Granted>,
    last_token: Token,
    draws: u64,
    /// Token numbers and body numbers are the store's own business since.
    restarted: bool,
}

impl Play {
    async fn step(&mut self, world: &mut World, step: &Step) -> Outcomes {
        match step {
            Step::Submit(commits) => self.submit(world, commits).await?,
            Step::Advance(ms) => {
                world.advance(*ms);
                if !world.harness().keeps_house() {
                    return Ok(()); // so that the next step meets what is overdue
                }
            }
            Step::StepWall(ms) => world.clock().step_wall(*ms),
            Step::Look(look) => {
                self.maintain(world).await;
                return self.look(world, look).await;
            }
            Step::Restart => {
                if world.harness().durable() {
                    self.restart(world).await?;
                }
            }
        }
        self.maintain(world).await;
        check::invariants(&View::of(world).await)
    }

    async fn submit(&mut self, world: &World, commits: &[Asked]) -> Outcomes {
        let runnable = match commits {
            [Asked { key: None, ops, .. }] if matches!(ops[..], [Do::Claim { .. }]) => {
                Some(View::of(world).await)
            }
            _ => None,
        };
        let (mut tested, mut reference) = (vec![], vec![]);
        for asked in commits {
            let (a, b) = self.commit(world, asked);
            tested.push(a);
            reference.push(b);
        }
        let claim = tested.first().and_then(|commit| match commit.ops.first() {
            Some(Op::Claim(claim)) => Some(claim.clone()),
            _ => None,
        });
        let answers = world.submit(tested).await;
        let expected = self.reference.submit(reference).await;
        self.compare_answers(&answers, &expected)?;
        if let (Some(view), Some(claim), [Ok(done)]) = (runnable, claim, &answers[..]) {
            check::claim_was_right(&view, &claim, &done.replies[0])?;
        }
        self.note_grants(world, &answers, &expected)
    }

    /// The same commit for both sides: they differ in the leases they know.
    fn commit(&mut self, world: &World, asked: &Asked) -> (Commit, Commit) {
        self.draws += 1;
        let entropy = mix(0x6d61_696e_7374_6179, self.draws);
        let key = asked.key.map(|(scope, fingerprint)| IdempotencyKey {
            scope: [scope; 16],
            fingerprint: [fingerprint; 16],
        });
        let ops: Vec<(Op, Op)> = asked.ops.iter().map(|op| self.op(world, op)).collect();
        let require = |side| asked.require.iter().map(|pick| self.require(*pick, side)).collect();
        let (require_tested, require_reference) = (require(Side::Tested), require(Side::Reference));
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

    fn op(&mut self, world: &World, op: &Do) -> (Op, Op) {
        let both = |op: Op| (op.clone(), op);
        let sides = |make: &dyn Fn(JobId, LeaseId) -> Op, play: &Play, pick: Pick| {
            let op = |side| {
                let (id, lease) = play.lease(pick, side);
                make(id, lease)
            };
            (op(Side::Tested), op(Side::Reference))
        };
        match op {
            Do::Enqueue(work) => both(Op::Enqueue(Box::new(self.work(world, work)))),
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
            Do::Purge { queue, limit } => both(Op::Purge { queue: queue_name(*queue), limit: *limit }),
            Do::Configure { queue, config } => {
                both(Op::PutQueue { queue: queue_name(*queue), config: queue_config(*config) })
            }
            Do::Pause { queue, paused } => both(Op::SetPaused { queue: queue_name(*queue), paused: *paused }),
            Do::DeleteQueue { queue } => both(Op::DeleteQueue { queue: queue_name(*queue) }),
            Do::Grant { token } => both(Op::PutAccessToken(AccessToken {
                name: name(&format!("t{token}")),
                hash: [*token; 32],
                scopes: vec![],
                created_at: world.now(),
            })),
            Do::Revoke { token } => both(Op::RevokeAccessToken { name: name(&format!("t{token}")) }),
            Do::Audit(n) => both(Op::Audit(AuditRecord {
                at: world.now(),
                actor: "model".into(),
                action: "audit".into(),
                subject: n.to_string(),
                detail: String::new(),
            })),
        }
    }

    fn work(&mut self, world: &World, work: &Work) -> NewJob {
        let queue = queue_name(work.queue);
        let new_id = self.ids.next(world.now().0, &queue, mix(1, self.draws));
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
                Due::Past(ms) => Some(When::At(mainstay_core::Timestamp(world.now().0 - ms))),
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

    fn compare_answers(&self, answers: &Answers, expected: &Answers) -> Outcomes {
        for (n, (answer, expected)) in answers.iter().zip(expected).enumerate() {
            let plain = |answer: &Result<Committed, Failure>| {
                let mut answer = answer.clone();
                if let (true, Ok(done)) = (self.restarted, &mut answer) {
                    done.replies.iter_mut().for_each(forget_numbers);
                }
                answer
            };
            same(&format!("the answer to commit {n}"), &plain(answer), &plain(expected))?;
        }
        Ok(())
    }

    /// The one place where a choice of the tested store (its lease) meets the reference's.
    fn note_grants(&mut self, world: &World, answers: &Answers, expected: &Answers) -> Outcomes {
        let over_store = world.store().capabilities().token_order == TokenOrder::Store;
        for (answer, expected) in answers.iter().zip(expected) {
            let (Ok(answer), Ok(expected)) = (answer, expected) else { continue };
            for (reply, expected) in answer.replies.iter().zip(&expected.replies) {
                let (Reply::Claimed(grants), Reply::Claimed(expected)) = (reply, expected) else { continue };
                for (grant, expected) in grants.iter().zip(expected) {
                    if answer.repeated {
                        continue; // noted when it was granted
                    }
                    let token = grant.lease.token;
                    if token.0 >= Token::LIMIT || over_store && token <= self.last_token {
                        return Err(format!("token {token:?} was granted after {:?}", self.last_token));
                    }
                    self.last_token = token;
                    let (tested, reference) = (grant.lease, expected.lease);
                    self.leases.push(Granted { id: grant.id, tested, reference });
                }
            }
        }
        Ok(())
    }

    async fn maintain(&self, world: &World) {
        world.maintain().await;
        self.reference.maintain().await;
    }

    async fn look(&self, world: &World, look: &Look) -> Outcomes {
        let (query, limit) = query(look);
        self.compare_lists(world, &query, limit).await
    }

    async fn compare_lists(&self, world: &World, query: &Query, limit: u32) -> Outcomes {
        let plain = |records: Vec<Record>| -> Vec<Record> {
            records.into_iter().map(|record| self.plain_record(record)).collect()
        };
        let tested = plain(world.list_by(query, limit).await);
        let expected = plain(self.reference.list_by(query, 1_000).await);
        same(&format!("{query:?}"), &tested, &expected)
    }

    async fn look_at_everything(&self, world: &World) -> Outcomes {
        self.maintain(world).await;
        self.compare_lists(world, &Query::Jobs(JobFilter::default()), 7).await?;
        self.compare_lists(world, &Query::Queues, 1_000).await?;
        self.compare_lists(world, &Query::AccessTokens, 1_000).await?;
        self.compare_lists(world, &Query::Audit, 1_000).await?;
        for queue in 0..3 {
            let dead = DeadFilter { queue: queue_name(queue), kind: None, error_type: None };
            self.compare_lists(world, &Query::Dead(dead), 3).await?;
        }
        for id in self.jobs.iter().rev().take(40) {
            let plain = |job: Option<JobRecord>| job.map(|job| self.plain_job(job));
            let (tested, expected) = (world.try_get(*id).await, self.reference.try_get(*id).await);
            same(&format!("job {id}"), &plain(tested), &plain(expected))?;
        }
        Ok(())
    }

    fn plain_record(&self, record: Record) -> Record {
        match record {
            Record::Job(job) => Record::Job(Box::new(self.plain_job(*job))),
            other => other,
        }
    }

    fn plain_job(&self, mut job: JobRecord) -> JobRecord {
        if self.restarted {
            job.token = job.token.map(|_| Token(0));
        }
        job
    }

    /// A restart gives live leases their last granted time again, which the reference cannot do. So they are given
    /// it just before, by an extend on both sides: then both end at the same instant.
    async fn restart(&mut self, world: &mut World) -> Outcomes {
        self.maintain(world).await;
        let running: BTreeSet<_> =
            View::of(world).await.jobs.iter().filter_map(|job| Some((job.id, job.token?))).collect();
        for (id, token) in running {
            let granted = self.leases.iter().find(|granted| granted.tested.token == token);
            let granted = granted.ok_or_else(|| format!("job {id} runs under a token nobody was given"))?;
            let extend = |lease| Op::Extend { id, lease, extend_ms: 20_000, progress: None };
            let tested = world.try_op(extend(granted.tested)).await;
            let expected = self.reference.try_op(extend(granted.reference)).await;
            same("an extend before a restart", &tested, &expected)?;
        }
        world.reopen().await;
        self.restarted = true;
        self.look_at_everything(world).await
    }
}

/// Leaves out what a restarted store numbers in its own way.
fn forget_numbers(reply: &mut Reply) {
    match reply {
        Reply::Enqueued(answer) => answer.n = 0,
        Reply::Claimed(grants) => grants.iter_mut().for_each(|grant| {
            grant.n = 0;
            grant.lease = LeaseId { token: Token(0), nonce: 0 };
        }),
        _ => {}
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, tested: &T, expected: &T) -> Outcomes {
    if tested == expected {
        return Ok(());
    }
    Err(format!("{what} differs\n     tested: {tested:?}\n  reference: {expected:?}"))
}

fn queue_name(queue: u8) -> mainstay_core::QueueName {
    name(["a", "b", "c:d"][usize::from(queue)])
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
        How::Cancel => Outcome::Cancel,
    }
}

fn queue_config(config: Config) -> QueueConfig {
    QueueConfig {
        max_depth: config.max_depth,
        overflow: if config.drop_oldest { Overflow::DropOldest } else { Overflow::Reject },
        max_crashes: config.max_crashes,
        retention: Retention {
            completed_ms: config.completed_ms,
            completed_count: config.completed_count,
            dead_ms: config.dead_ms,
        },
    }
}

fn query(look: &Look) -> (Query, u32) {
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
    }
}

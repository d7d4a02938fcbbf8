//! Plays a sequence on the store under test and on the reference, and compares.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use mainstay_core::{
    JobId, LeaseId, Store, Timestamp, Token,
    clock::Clock,
    job::{JobPolicy, JobRecord, Outcome},
    lock::LockOp,
    memory::MemoryStore,
    op::{Commit, Committed, Enqueued, Op, Rejection, Reply, Settle},
    schedule::ScheduleOrder,
    store::{DeadFilter, JobFilter, Key, Query, Record, TokenOrder},
};

use super::{
    cast::{Cast, Granted, SCHEDULES, query, queue_name, schedule_name},
    check::{self, View},
    limits::{self, Ledger},
    locks::{self, DoLock, LOCKS, TICKETS, release_was_right},
    step::{Asked, Do, Look, Step, alone},
};
use crate::{
    clock::ManualClock,
    harness::Harness,
    world::{World, timeless},
};

/// What is said when a sequence fails.
pub(super) type Outcomes = Result<(), String>;

type Answers = Vec<Result<Committed, Rejection>>;

/// Everything is compared after so many steps, and at the end.
const FULL_LOOK_EVERY: usize = 16;

/// Plays `steps` on `world`, whose store is fresh.
pub(super) async fn play(world: &mut World, steps: &[Step]) -> Outcomes {
    let clock = world.harness().clock().clone();
    let reference = World::open(Box::new(Reference(clock))).await;
    let ledger = Ledger::default();
    let (last_token, rules) = (Token(0), HashMap::new());
    let mut play = Play { reference, cast: Cast::new(), ledger, last_token, restarted: false, rules };
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
        Arc::new(MemoryStore::new(self.0.clone()).without_housekeeping())
    }
}

struct Play {
    reference: World,
    cast: Cast,
    ledger: Ledger,
    last_token: Token,
    /// Token numbers and body numbers are the store's own business since.
    restarted: bool,
    /// The rules each job came with.
    rules: HashMap<JobId, JobPolicy>,
}

impl Play {
    async fn step(&mut self, world: &mut World, step: &Step) -> Outcomes {
        match step {
            Step::Submit(commits) => self.submit(world, commits).await?,
            Step::Advance(ms) => {
                world.advance(*ms);
                if !world.harness().acts_between_calls() {
                    return Ok(()); // so that the next step meets what is overdue
                }
            }
            Step::SetWall(ms) => world.clock().step_wall(*ms),
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
        let view = View::of(world).await;
        self.cast.grants.hold(&view.locks, view.now)?;
        let configures = |asked: &Asked| asked.ops.iter().any(|op| matches!(op, Do::Configure { .. }));
        let same_limits = !matches!(step, Step::Submit(commits) if commits.iter().any(configures));
        self.ledger.never_exceeded(&view, same_limits)?;
        let strange = |job: &&JobRecord| self.rules.get(&job.id).is_some_and(|rules| *rules != job.policy);
        if let Some(job) = view.jobs.iter().find(strange) {
            return Err(format!("a job came with {:?}: {job:?}", self.rules[&job.id]));
        }
        check::invariants(&view)
    }

    async fn submit(&mut self, world: &World, commits: &[Asked]) -> Outcomes {
        let runnable = match commits {
            [Asked { key: None, ops, .. }] if matches!(ops[..], [Do::Claim { .. }]) => {
                Some(View::of(world).await)
            }
            _ => None,
        };
        let released = match commits {
            [Asked { key: None, require_lock: None, require: None, ops }] => match &ops[..] {
                [Do::Lock(DoLock::Release { .. })] => {
                    self.maintain(world).await;
                    Some(world.locks(None, 1_000).await)
                }
                _ => None,
            },
            _ => None,
        };
        self.cast.ticks = self.ticks().await;
        let (mut tested, mut reference) = (vec![], vec![]);
        for asked in commits {
            let (a, b) = self.cast.commit(world.now(), asked);
            tested.push(a);
            reference.push(b);
        }
        let claim = tested.first().and_then(|commit| match commit.ops.first() {
            Some(Op::Claim(claim)) => Some(claim.clone()),
            _ => None,
        });
        let release = tested.first().and_then(|commit| match commit.ops.first() {
            Some(Op::Lock(LockOp::Release { name, lease })) => Some((name.clone(), lease.token)),
            _ => None,
        });
        let (asked, now) = (tested.clone(), world.clock().now().store);
        let answers = world.submit(tested).await;
        let expected = self.reference.submit(reference).await;
        self.compare_answers(&answers, &expected)?;
        check::answers(&asked, &answers, world.now())?;
        self.note_rules(&asked, &answers);
        if let (Some(view), Some(claim), [Ok(done)]) = (runnable, claim, &answers[..]) {
            limits::claim_was_right(&view, &mut self.ledger, &claim, &done.replies[0], now)?;
        }
        if let (Some(before), Some((name, token)), [Ok(_)]) = (released, release, &answers[..]) {
            let before = before.iter().find(|lock| lock.name == name);
            let before = before.ok_or_else(|| format!("{name} was released, but was not held"))?;
            let after = world.show_lock(name.as_str()).await;
            release_was_right(before, token, after.as_ref())?;
        }
        self.ledger.note(&asked, &answers, now)?;
        self.note_grants(world, &answers, &expected)
    }

    fn note_rules(&mut self, asked: &[Commit], answers: &Answers) {
        for (commit, answer) in asked.iter().zip(answers) {
            let Ok(Committed { replies, repeated: false }) = answer else { continue };
            for (op, reply) in commit.ops.iter().zip(replies) {
                if let (Op::Enqueue(job), Reply::Enqueued(Enqueued { deduplicated: false, .. })) = (op, reply)
                {
                    self.rules.insert(job.id, job.policy);
                }
            }
        }
    }

    /// What each schedule waits for, so that firing is not always in vain.
    async fn ticks(&self) -> [Option<Timestamp>; SCHEDULES] {
        let mut ticks = [None; SCHEDULES];
        for (which, tick) in ticks.iter_mut().enumerate() {
            let key = Key::Schedule(schedule_name(which));
            if let Some(Record::Schedule(record)) = self.reference.store().get(&key).await.expect("get") {
                *tick = record.state.next;
            }
        }
        ticks
    }

    fn compare_answers(&self, answers: &Answers, expected: &Answers) -> Outcomes {
        for (n, (answer, expected)) in answers.iter().zip(expected).enumerate() {
            let plain = |answer: &Result<Committed, Rejection>| {
                let mut answer = answer.clone();
                if let (true, Ok(done)) = (self.restarted, &mut answer) {
                    done.replies.iter_mut().for_each(forget_numbers);
                }
                // An estimate, by what a store has seen.
                answer.map_err(|refused| Rejection { reason: timeless(refused.reason), ..refused })
            };
            let (mut tested, mut reference) = (plain(answer), plain(expected));
            if let (Ok(tested), Ok(reference)) = (&mut tested, &mut reference) {
                let both = tested.replies.iter_mut().zip(&mut reference.replies);
                both.for_each(|(tested, reference)| forget_unknown_kind(tested, reference));
            }
            same(&format!("the answer to commit {n}"), &tested, &reference)?;
        }
        Ok(())
    }

    /// The one place where a choice of the tested store (its lease) meets the reference's.
    fn note_grants(&mut self, world: &World, answers: &Answers, expected: &Answers) -> Outcomes {
        let over_store = world.store().capabilities().token_order == TokenOrder::Store;
        for (answer, expected) in answers.iter().zip(expected) {
            let (Ok(answer), Ok(expected)) = (answer, expected) else { continue };
            for (reply, expected) in answer.replies.iter().zip(&expected.replies) {
                self.cast.grants.note(reply, expected);
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
                    self.cast.leases.push(Granted { id: grant.id, tested, reference });
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
        self.compare_lists(world, &Query::Locks { prefix: None }, 1).await?;
        self.compare_lists(world, &Query::Schedules(ScheduleOrder::Name), 1).await?;
        // After a restart they are known by what they have, and seen anew.
        if !self.restarted {
            self.compare_lists(world, &Query::Workers, 1).await?;
        }
        self.compare_lists(world, &Query::Schedules(ScheduleOrder::Next), 1).await?;
        for queue in 0..3 {
            let dead = DeadFilter { queue: queue_name(queue), kind: None, error_type: None };
            self.compare_lists(world, &Query::Dead(dead), 3).await?;
        }
        for id in self.cast.jobs.iter().rev().take(40) {
            let plain = |job: Option<JobRecord>| job.map(|job| self.plain_job(job));
            let (tested, expected) = (world.try_get(*id).await, self.reference.try_get(*id).await);
            same(&format!("job {id}"), &plain(tested), &plain(expected))?;
        }
        Ok(())
    }

    fn plain_record(&self, record: Record) -> Record {
        match record {
            Record::Job(job) => Record::Job(Box::new(self.plain_job(*job))),
            Record::Lock(mut lock) if self.restarted => {
                lock.holders.iter_mut().for_each(|holder| holder.token = Token(0));
                Record::Lock(lock)
            }
            // Counted from the start of each.
            Record::Queue(mut queue) if self.restarted => {
                queue.totals = None;
                Record::Queue(queue)
            }
            Record::Schedule(mut schedule) if self.restarted => {
                schedule.state.revision = 0;
                Record::Schedule(schedule)
            }
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
            let granted = self.cast.leases.iter().find(|granted| granted.tested.token == token);
            let granted = granted.ok_or_else(|| format!("job {id} runs under a token nobody was given"))?;
            let extend = |lease| Op::Extend { id, lease, extend_ms: 20_000, progress: None };
            let tested = world.try_op(extend(granted.tested)).await;
            let expected = self.reference.try_op(extend(granted.reference)).await;
            same("an extend before a restart", &tested, &expected)?;
            if tested.is_err() {
                // Its attempt is over, its lease is not: that cannot be given a time on both sides.
                let cancel = Outcome::Cancel { error: None };
                let end =
                    |lease| Op::Settle(Settle { id, lease, outcome: cancel.clone(), repeat_is_ok: false });
                let ended = world.try_op(end(granted.tested)).await;
                same(
                    "an end before a restart",
                    &ended,
                    &self.reference.try_op(end(granted.reference)).await,
                )?;
            }
        }
        self.quiet_locks(world).await?;
        world.reopen().await;
        (self.restarted, self.cast.restarted) = (true, true);
        self.ledger.restarted(&View::of(world).await);
        self.look_at_everything(world).await
    }

    /// A restart makes every ticket absent, drops those that would not come again, counts every grant as collected,
    /// and gives it its last time again. So all that is done just before, on both sides.
    async fn quiet_locks(&mut self, world: &World) -> Outcomes {
        for ((lock, ticket, body), visit) in (0..LOCKS)
            .flat_map(|lock| (0..TICKETS).map(move |ticket| (lock, ticket)))
            .flat_map(|(lock, ticket)| (0..2).map(move |body| (lock, ticket, body)))
            .flat_map(|asked| [false, true].map(|visit| (asked, visit)))
        {
            let last_look = DoLock::Acquire {
                lock,
                mode: 0,
                ttl_ms: 5_000,
                delay_ms: 0,
                ticket: Some(ticket),
                body,
                wait_ms: 0,
                visit,
                again: false,
                keep: false,
            };
            self.submit_alone(world, last_look).await?;
        }
        for grant in self.cast.grants.picks() {
            self.submit_alone(world, DoLock::Renew { grant, ttl_ms: Some(20_000) }).await?;
        }
        Ok(())
    }

    async fn submit_alone(&mut self, world: &World, op: DoLock) -> Outcomes {
        Box::pin(self.submit(world, &[alone(Do::Lock(op))])).await
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
        Reply::Lock(reply) => locks::forget_numbers(reply),
        _ => {}
    }
}

/// What a duplicate's first job was of kind is known as long as something has its body: a store may have forgotten it with
/// the job, which the same commit may take away, or have it at hand still.
fn forget_unknown_kind(tested: &mut Reply, reference: &mut Reply) {
    if let (Reply::Enqueued(tested), Reply::Enqueued(reference)) = (tested, reference)
        && tested.deduplicated
        && (tested.kind.is_none() || reference.kind.is_none())
    {
        (tested.kind, reference.kind) = (None, None);
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, tested: &T, expected: &T) -> Outcomes {
    if tested == expected {
        return Ok(());
    }
    Err(format!("{what} differs\n     tested: {tested:?}\n  reference: {expected:?}"))
}

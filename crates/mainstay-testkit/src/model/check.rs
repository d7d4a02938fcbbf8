//! What must hold of any store, whatever was done to it: judged by what it shows, without a reference.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mainstay_core::{
    JobId, QueueName, Timestamp,
    after::AfterFailure,
    job::{JobRecord, JobState, Outcome},
    lock::LockRecord,
    op::{Commit, Committed, Op, Rejection, Reply},
    queue::{Depth, QueueRecord},
    store::{JobFilter, Query, Record},
};

use super::play::Outcomes;
use crate::world::World;

/// All that a store shows at one moment.
pub(super) struct View {
    pub now: Timestamp,
    /// Newest first.
    pub jobs: Vec<JobRecord>,
    pub queues: BTreeMap<QueueName, QueueRecord>,
    pub locks: Vec<LockRecord>,
}

impl View {
    pub(super) async fn of(world: &World) -> View {
        let queue = |record| match record {
            Record::Queue(queue) => (queue.name.clone(), queue),
            other => panic!("a list of queues held {other:?}"),
        };
        let queues = world.list_by(&Query::Queues, 1_000).await.into_iter().map(queue).collect();
        let locks = world.locks(None, 1_000).await;
        View { now: world.now(), jobs: world.jobs(JobFilter::default()).await, queues, locks }
    }
}

pub(super) fn invariants(view: &View) -> Outcomes {
    if !view.jobs.is_sorted_by(|newer, older| newer.id > older.id) {
        return Err("a list shows every job once, newest first".into());
    }
    let mut tokens = BTreeSet::new();
    for job in &view.jobs {
        well_formed(job, view.now).map_err(|what| format!("{what}: {job:?}"))?;
        if job.token.is_some_and(|token| !tokens.insert(token)) {
            return Err(format!("two jobs run under one token: {job:?}"));
        }
        if !view.queues.contains_key(&job.queue) {
            return Err(format!("the queue of a job is unknown: {job:?}"));
        }
    }
    waits_are_right(view)?;
    view.queues.values().try_for_each(|queue| counts_are_right(view, queue))
}

/// What a claim's end or prolongation may answer.
pub(super) fn answers(
    commits: &[Commit],
    answers: &[Result<Committed, Rejection>],
    now: Timestamp,
) -> Outcomes {
    for (commit, answer) in commits.iter().zip(answers) {
        let Ok(Committed { replies, repeated: false }) = answer else { continue };
        for (op, reply) in commit.ops.iter().zip(replies) {
            let holds = match (op, reply) {
                (Op::Settle(settle), Reply::Settled { state, .. }) => may_become(&settle.outcome, *state),
                (Op::Extend { .. }, Reply::Extended { expires_at, .. }) => *expires_at > now,
                _ => true,
            };
            if !holds {
                return Err(format!("{reply:?} is no answer to {op:?}"));
            }
        }
    }
    Ok(())
}

fn may_become(outcome: &Outcome, state: JobState) -> bool {
    use JobState::{Available, Cancelled, Completed, Dead, Retryable, Scheduled};
    match outcome {
        Outcome::Complete { .. } => state == Completed,
        Outcome::Fail { .. } => matches!(state, Retryable | Dead | Cancelled),
        Outcome::Release { .. } => matches!(state, Available | Scheduled | Cancelled),
        Outcome::Cancel { .. } => state == Cancelled,
    }
}

/// No wake-up is lost: what a job still waits for can still end.
fn waits_are_right(view: &View) -> Outcomes {
    let states: HashMap<_, _> = view.jobs.iter().map(|job| (job.id, job.state)).collect();
    for job in view.jobs.iter().filter(|job| job.state == JobState::Blocked) {
        let Some(after) = &job.body.after else {
            return Err(format!("it names nothing to wait for: {job:?}"));
        };
        let can_end = |id: &&JobId| match states.get(id) {
            Some(JobState::Dead) => after.failure == AfterFailure::Wait,
            Some(state) => !state.is_finished(),
            None => false,
        };
        let open = after.jobs.iter().filter(can_end).collect::<BTreeSet<_>>();
        if open.len() < job.waiting_for as usize {
            return Err(format!("only {open:?} of what it waits for can still end: {job:?}"));
        }
    }
    Ok(())
}

fn well_formed(job: &JobRecord, now: Timestamp) -> Outcomes {
    let running = job.state == JobState::Running;
    let rules = [
        (running == job.token.is_some(), "a job has a token while it runs"),
        (running == job.lease_expires_at.is_some(), "a job has a lease while it runs"),
        (running || job.worker.is_none(), "a job has a worker only while it runs"),
        (job.lease_expires_at.is_none_or(|at| at > now), "a lease that ran out is not a lease"),
        (job.state.is_finished() == job.finished_at.is_some(), "what has finished says when"),
        ((job.state == JobState::Dead) == job.reason.is_some(), "what is dead says why"),
        (job.state != JobState::Available || job.run_at <= now, "what is available is due"),
        (job.state != JobState::Scheduled || job.run_at > now, "what is scheduled is not due"),
        (job.state != JobState::Retryable || job.run_at > now, "what waits for its back-off is not due"),
        ((job.state == JobState::Blocked) == (job.waiting_for > 0), "what is blocked waits for something"),
        (!running || job.attempt >= 1, "what runs is at its first attempt at least"),
        (job.attempt <= job.policy.max_attempts, "no attempt is beyond the last"),
        (
            job.failures.is_sorted_by_key(|failure| failure.at) || now < job.created_at,
            "failures are in order",
        ),
    ];
    rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, what)| Err(what.to_owned()))
}

fn counts_are_right(view: &View, queue: &QueueRecord) -> Outcomes {
    let mut depth = Depth::default();
    let mut oldest: Option<Timestamp> = None;
    for job in view.jobs.iter().filter(|job| job.queue == queue.name) {
        match job.state {
            JobState::Scheduled => depth.scheduled += 1,
            JobState::Blocked => depth.blocked += 1,
            JobState::Available => {
                depth.available += 1;
                oldest = Some(oldest.map_or(job.run_at, |oldest| oldest.min(job.run_at)));
            }
            JobState::Running => depth.running += 1,
            JobState::Retryable => depth.retryable += 1,
            JobState::Dead => depth.dead += 1,
            JobState::Completed | JobState::Cancelled => {}
        }
    }
    if queue.depth != depth {
        return Err(format!("queue {} shows {:?}, its jobs say {depth:?}", queue.name, queue.depth));
    }
    let age = oldest.map(|oldest| view.now.ms_since(oldest));
    if queue.oldest_available_age_ms != age {
        let shown = queue.oldest_available_age_ms;
        return Err(format!("queue {}'s oldest job is {age:?} ms old, not {shown:?}", queue.name));
    }
    Ok(())
}

//! A store under test, with short names for what tests do to it.

mod events;
pub mod locks;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use mainstay_core::{
    ErrorKind, JobId, QueueName, Store, Timestamp,
    clock::Clock,
    id::JobIds,
    job::{Grant, JobBody, JobFailure, JobPolicy, JobRecord, JobState, NewJob, Outcome, Retry},
    op::{Claim, Commit, Committed, Enqueued, Failure, Op, Reason, Rejection, Reply, Settle},
    queue::{QueueConfig, QueueRecord},
    store::{Batch, Budget, DeadFilter, JobFilter, Key, Maintained, Page, Query, Record},
};

use crate::{clock::ManualClock, harness::Harness};
pub use events::{
    ACK_WAIT_MS, ack_all, boom, count, dead_events, fetch_op, fetched, filter, plain_group, publish_op,
    published, seqs_of, settle_nothing, topic_name,
};

/// The lease of [`World::claim`], in milliseconds.
pub const LEASE_MS: u64 = 30_000;

/// An open store with its clock. Its helpers panic when the store does not do the ordinary thing.
pub struct World {
    harness: Box<dyn Harness>,
    store: Arc<dyn Store>,
    ids: Mutex<JobIds>,
}

impl World {
    /// Opens the store of a harness.
    pub async fn open(harness: Box<dyn Harness>) -> World {
        let store = harness.open().await;
        World { harness, store, ids: Mutex::default() }
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Its clock.
    pub fn clock(&self) -> &ManualClock {
        self.harness.clock()
    }

    /// Where it lives.
    pub fn harness(&self) -> &dyn Harness {
        self.harness.as_ref()
    }

    /// The wall clock now.
    pub fn now(&self) -> Timestamp {
        self.clock().now().wall
    }

    /// Lets time pass.
    pub fn advance(&self, ms: u64) {
        self.clock().advance(ms);
    }

    /// Closes the store; a closed one stays closed.
    pub async fn close(&self) {
        match self.store.close(Duration::from_secs(60)).await {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::Closed, "{error}"),
        }
    }

    /// Closes the store and opens it again.
    pub async fn reopen(&mut self) {
        self.close().await;
        self.store = self.harness.open().await;
    }

    /// A new id for a job of `queue`, greater than all before.
    pub fn id(&self, queue: &str) -> JobId {
        let mut ids = self.ids.lock().expect("no test panics while it holds the ids");
        ids.next(self.now().0, &name(queue), self.clock().entropy())
    }

    /// A job with every default, not enqueued yet.
    pub fn job(&self, queue: &str) -> NewJob {
        NewJob::new(self.id(queue), name(queue), JobBody::new("work", "{}"))
    }

    /// A job with a policy that differs from the default.
    pub fn job_with(&self, queue: &str, change: impl FnOnce(&mut JobPolicy)) -> NewJob {
        let mut job = self.job(queue);
        change(&mut job.policy);
        job
    }

    /// Hands a batch over.
    pub async fn submit(&self, commits: Vec<Commit>) -> Vec<Result<Committed, Rejection>> {
        let asked = commits.len();
        let answers = self.store.submit(Batch { commits, within: None }).await.expect("submit");
        assert_eq!(answers.len(), asked, "one answer a commit");
        let judged = |failure| match failure {
            Failure::Rejected(rejection) => rejection,
            Failure::Failed(error) => panic!("a healthy store judges every commit: {error}"),
        };
        answers.into_iter().map(|answer| answer.map_err(judged)).collect()
    }

    /// Hands one commit over.
    pub async fn commit(&self, commit: Commit) -> Result<Committed, Rejection> {
        self.submit(vec![commit]).await.remove(0)
    }

    /// A commit of these ops.
    pub fn ops(&self, ops: impl IntoIterator<Item = Op>) -> Commit {
        Commit { ops: ops.into_iter().collect(), entropy: self.clock().entropy(), ..Commit::default() }
    }

    /// Does one op, which may be refused.
    pub async fn try_op(&self, op: Op) -> Result<Reply, Reason> {
        let commit = self.ops([op]);
        let mut done = self.commit(commit).await.map_err(|refused| refused.reason)?;
        assert_eq!(done.replies.len(), 1, "one reply an op");
        Ok(done.replies.remove(0))
    }

    /// Does one op, which must not be refused.
    pub async fn op(&self, op: Op) -> Reply {
        let shown = format!("{op:?}");
        self.try_op(op).await.unwrap_or_else(|reason| panic!("{shown} was refused: {reason:?}"))
    }

    /// Does one op, which must be refused.
    pub async fn refused(&self, op: Op) -> Reason {
        let shown = format!("{op:?}");
        self.try_op(op).await.expect_err(&shown)
    }

    /// Enqueues a job, which must be new.
    pub async fn enqueue(&self, job: NewJob) -> JobId {
        let answer = self.enqueued(job).await;
        assert!(!answer.deduplicated, "{answer:?} was to be new");
        answer.id
    }

    /// Enqueues a job, new or not.
    pub async fn enqueued(&self, job: NewJob) -> Enqueued {
        enqueued(self.op(Op::Enqueue(Box::new(job))).await)
    }

    /// Claims one job of the queue, which must have one.
    pub async fn claim(&self, queue: &str) -> Grant {
        self.try_claim(queue).await.unwrap_or_else(|| panic!("`{queue}` has a job to hand out"))
    }

    /// Claims one job of the queue if there is one.
    pub async fn try_claim(&self, queue: &str) -> Option<Grant> {
        self.claims(claim_of(&[queue], 1)).await.pop()
    }

    /// Claims as said.
    pub async fn claims(&self, claim: Claim) -> Vec<Grant> {
        claimed(self.op(Op::Claim(claim)).await)
    }

    /// Claims all of the queue, one after the other, and says which came.
    pub async fn drain(&self, queue: &str) -> Vec<JobId> {
        let mut ids = vec![];
        while let Some(grant) = self.try_claim(queue).await {
            ids.push(grant.id);
        }
        ids
    }

    /// Ends a claim, or is refused. Answers the job's state, and when it is due again.
    pub async fn settle(
        &self,
        grant: &Grant,
        outcome: Outcome,
    ) -> Result<(JobState, Option<Timestamp>), Reason> {
        self.try_op(settle_op(grant, outcome)).await.map(|reply| match reply {
            Reply::Settled { id, state, run_at } => {
                assert_eq!(id, grant.id, "the reply is about the job that was settled");
                (state, run_at)
            }
            other => panic!("a settle was answered with {other:?}"),
        })
    }

    /// Completes, which must succeed.
    pub async fn complete(&self, grant: &Grant) {
        let (state, run_at) = self.settle(grant, COMPLETE).await.expect("complete");
        assert_eq!((state, run_at), (JobState::Completed, None));
    }

    /// Fails by the job's policy, which must be accepted. Answers the job's state, and when it is due again.
    pub async fn fail(&self, grant: &Grant) -> (JobState, Option<Timestamp>) {
        self.settle(grant, fail(Retry::Auto)).await.expect("fail")
    }

    /// Releases, which must be accepted. Answers the job's state.
    pub async fn release(&self, grant: &Grant, delay_ms: u64) -> JobState {
        self.settle(grant, Outcome::Release { delay_ms }).await.expect("release").0
    }

    /// Enqueues a job and fails it for good.
    pub async fn dead(&self, queue: &str) -> JobId {
        let id = self.enqueue(NewJob { priority: 0, ..self.job(queue) }).await;
        let grant = self.claim(queue).await;
        assert_eq!(grant.id, id, "the only urgent job of the queue comes first");
        self.settle(&grant, fail(Retry::Never)).await.expect("fail");
        id
    }

    /// Lets the lease of a claim run out, and the second in which a store must notice.
    pub async fn lose(&self, lease_ms: u64) {
        self.advance(lease_ms + 1_000);
        self.maintain().await;
    }

    /// Reads a job, which may be unknown.
    pub async fn try_get(&self, id: JobId) -> Option<JobRecord> {
        match self.store.get(&Key::Job(id)).await.expect("get") {
            Some(Record::Job(job)) => Some(*job),
            None => None,
            other => panic!("a job was asked for, and came {other:?}"),
        }
    }

    /// Reads a job, which must be there.
    pub async fn get(&self, id: JobId) -> JobRecord {
        self.try_get(id).await.unwrap_or_else(|| panic!("job {id} is known"))
    }

    /// The state of a job, which must be there.
    pub async fn state(&self, id: JobId) -> JobState {
        self.get(id).await.state
    }

    /// Reads a queue, which may be unknown.
    pub async fn try_queue(&self, queue: &str) -> Option<QueueRecord> {
        match self.store.get(&Key::Queue(name(queue))).await.expect("get") {
            Some(Record::Queue(queue)) => Some(queue),
            None => None,
            other => panic!("a queue was asked for, and came {other:?}"),
        }
    }

    /// Reads a queue, which must be there.
    pub async fn queue(&self, queue: &str) -> QueueRecord {
        self.try_queue(queue).await.unwrap_or_else(|| panic!("queue `{queue}` is known"))
    }

    /// Replaces the configuration of a queue.
    pub async fn configure(&self, queue: &str, config: QueueConfig) {
        assert_eq!(self.op(Op::PutQueue { queue: name(queue), config }).await, Reply::Done);
    }

    /// Pauses or resumes a queue.
    pub async fn set_paused(&self, queue: &str, paused: bool) {
        assert_eq!(self.op(Op::SetPaused { queue: name(queue), paused }).await, Reply::Done);
    }

    /// Reads a whole list, in pages of `limit`.
    pub async fn list_by(&self, query: &Query, limit: u32) -> Vec<Record> {
        let mut items = vec![];
        let mut page = Page { limit, cursor: None };
        loop {
            let slice = self.store.list(query, &page).await.expect("list");
            assert!(slice.items.len() <= limit as usize, "a page keeps its limit");
            items.extend(slice.items);
            match slice.next {
                Some(cursor) => page.cursor = Some(cursor),
                None => return items,
            }
        }
    }

    /// Reads a whole list of jobs.
    pub async fn jobs(&self, filter: JobFilter) -> Vec<JobRecord> {
        jobs(self.list_by(&Query::Jobs(filter), 1_000).await)
    }

    /// The dead letters of a queue.
    pub async fn dead_letters(&self, queue: &str) -> Vec<JobRecord> {
        let filter = DeadFilter { queue: name(queue), kind: None, error_type: None };
        jobs(self.list_by(&Query::Dead(filter), 1_000).await)
    }

    /// Does all the housekeeping there is.
    pub async fn maintain(&self) -> Maintained {
        let mut sum = Maintained::default();
        loop {
            let done = self.store.maintain(Budget::default()).await.expect("maintain");
            sum.crashed += done.crashed;
            sum.expired += done.expired;
            sum.forgotten += done.forgotten;
            if !done.more {
                return sum;
            }
        }
    }
}

/// [`Outcome::Complete`] without a result.
pub const COMPLETE: Outcome = Outcome::Complete { result: None };

/// A failure with the message `boom` and the type `Boom`.
pub fn fail(retry: Retry) -> Outcome {
    let error = JobFailure { kind: Some("Boom".into()), message: "boom".into(), backtrace: None };
    Outcome::Fail { error, retry }
}

/// A name that is known to be one.
pub fn name(text: &str) -> QueueName {
    QueueName::new(text).expect("a test names things by the rules")
}

/// A claim of up to `max` jobs with the lease [`LEASE_MS`].
pub fn claim_of(queues: &[&str], max: u32) -> Claim {
    let queues = queues.iter().copied().map(name).collect();
    Claim { queues, max, max_bytes: 16 << 20, lease_ms: LEASE_MS, worker: None }
}

/// The settle of a single call, which may be repeated.
pub fn settle_op(grant: &Grant, outcome: Outcome) -> Op {
    Op::Settle(Settle { id: grant.id, lease: grant.lease, outcome, repeat_is_ok: true })
}

/// An extend without progress.
pub fn extend_op(grant: &Grant, extend_ms: u64) -> Op {
    Op::Extend { id: grant.id, lease: grant.lease, extend_ms, progress: None }
}

/// The answer of a claim.
pub fn claimed(reply: Reply) -> Vec<Grant> {
    match reply {
        Reply::Claimed(grants) => grants,
        other => panic!("a claim was answered with {other:?}"),
    }
}

/// A refusal without the estimate of when to come back, which depends on what a store has seen.
pub fn timeless(mut reason: Reason) -> Reason {
    if let Reason::QueueFull { retry_ms, .. } | Reason::QueueBehind { retry_ms, .. } = &mut reason {
        *retry_ms = 0;
    }
    reason
}

/// The answer of an enqueue.
pub fn enqueued(reply: Reply) -> Enqueued {
    match reply {
        Reply::Enqueued(answer) => answer,
        other => panic!("an enqueue was answered with {other:?}"),
    }
}

/// The ids of grants.
pub fn ids(grants: &[Grant]) -> Vec<JobId> {
    grants.iter().map(|grant| grant.id).collect()
}

/// Records that must be jobs.
pub fn jobs(records: Vec<Record>) -> Vec<JobRecord> {
    let job = |record| match record {
        Record::Job(job) => *job,
        other => panic!("a list of jobs held {other:?}"),
    };
    records.into_iter().map(job).collect()
}

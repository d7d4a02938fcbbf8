//! The store opened by this very process, through the seam every store has.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstay::{
    Client,
    core::{
        JobId, QueueName,
        job::{Grant, JobBody, JobState, NewJob, Outcome},
        op::{Claim, Commit, Op, Reply, Settle},
        queue::{QueueConfig, Retention},
        store::Interest,
    },
};

use super::{
    Error, Result,
    cell::Spec,
    drive::{Lap, Subject},
    payload::{Random, write_json},
    site::Site,
};

pub(super) const KIND: &str = "bench";
/// Long enough that none runs out in a cell.
pub(super) const LEASE_MS: u64 = 600_000;
/// How long a place may take to come free.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a store may take to close.
const CLOSE: Duration = Duration::from_secs(30);

pub(super) struct InProcess {
    client: Client,
    queues: Vec<QueueName>,
    payload_bytes: usize,
    keys: u64,
    /// Jobs that were given a key.
    keyed: AtomicU64,
}

/// One caller: its queue, its source of payloads, and the last job it completed.
pub(super) struct Caller {
    queue: QueueName,
    random: Random,
    text: String,
    pub(super) last: Option<JobId>,
}

/// Opens the store; blocks another thread than the callers'.
pub(super) async fn open(site: &Site) -> Result<Client> {
    let url = site.url();
    let opened = tokio::task::spawn_blocking(move || mainstay::store::open(&url)).await;
    opened.map_err(Error::doing("opening the store"))?.map_err(Error::doing("cannot open the store"))
}

pub(super) async fn close(client: &Client) -> Result<()> {
    client.store().close(CLOSE).await.map_err(Error::doing("cannot close the store"))
}

/// The names of the queues that the callers share.
pub(super) fn queues(count: usize) -> Result<Vec<QueueName>> {
    let name = |i| QueueName::new(&format!("bench-{i}")).map_err(Error::doing("the name of a queue"));
    (0..count).map(name).collect()
}

/// What all queues together have, as the store counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Depth {
    pub(super) available: u64,
    pub(super) running: u64,
}

pub(super) async fn depth(client: &Client, queues: &[QueueName]) -> Result<Depth> {
    let mut sum = Depth::default();
    for queue in queues {
        let found = client.queue(queue).await.map_err(Error::doing("cannot read a queue"))?;
        if let Some(queue) = found {
            sum.available += queue.depth.available;
            sum.running += queue.depth.running;
        }
    }
    Ok(sum)
}

/// Makes the queues, each keeping its share of the finished jobs.
pub(super) async fn make_queues(client: &Client, queues: &[QueueName], keep_finished: u64) -> Result<()> {
    let completed_count = keep_finished.div_ceil(queues.len().max(1) as u64);
    let config = QueueConfig {
        retention: Retention { completed_count, ..Retention::default() },
        ..QueueConfig::default()
    };
    for queue in queues {
        client.put_queue(queue.clone(), config.clone()).await.map_err(Error::doing("cannot make a queue"))?;
    }
    Ok(())
}

/// The concurrency key of the `n`-th job, of so many; 0: none.
pub(super) fn key(keys: u64, n: u64) -> Option<Arc<str>> {
    (keys > 0).then(|| format!("key-{}", n % keys).into())
}

/// A job with a payload that does not compress.
pub(super) fn new_job(
    client: &Client,
    queue: &QueueName,
    random: &mut Random,
    bytes: usize,
    text: &mut String,
) -> NewJob {
    text.clear();
    write_json(random, bytes, text);
    NewJob::new(client.new_id(queue), queue.clone(), JobBody::new(KIND, text))
}

impl InProcess {
    pub(super) fn new(client: Client, spec: &Spec) -> Result<Arc<InProcess>> {
        let (queues, keyed) = (queues(spec.queues)?, AtomicU64::new(client.entropy() % spec.keys.max(1)));
        let (payload_bytes, keys) = (spec.payload_bytes, spec.keys);
        Ok(Arc::new(InProcess { client, queues, payload_bytes, keys, keyed }))
    }

    async fn op(&self, op: Op) -> Result<Reply> {
        let mut committed = self
            .client
            .submit_one(Commit::of(op, self.client.entropy()))
            .await
            .map_err(Error::doing("the store refused"))?;
        committed.replies.pop().ok_or_else(|| Error::new("the store answered nothing"))
    }

    /// Only where jobs have keys may there be none to claim for a moment: when all that wait have the key of one that
    /// runs.
    async fn claim(&self, queue: &QueueName) -> Result<Grant> {
        loop {
            if let Some(grant) = self.try_claim(queue).await? {
                return Ok(grant);
            }
            if self.keys == 0 {
                return Err(Error::new("a job was lost: there was none to claim"));
            }
            let wait = self.client.store().wait(&[Interest::Queue(queue.clone())], PATIENCE).await;
            if !wait.map_err(Error::doing("the store refused"))?.is_woken() {
                return Err(Error::new("a job was lost: there was none to claim"));
            }
        }
    }

    async fn try_claim(&self, queue: &QueueName) -> Result<Option<Grant>> {
        let claim = Claim {
            queues: vec![queue.clone()],
            max: 1,
            max_bytes: 16 << 20,
            lease_ms: LEASE_MS,
            worker: None,
        };
        match self.op(Op::Claim(claim)).await? {
            Reply::Claimed(mut grants) if grants.iter().all(|grant| grant.body.is_some()) => Ok(grants.pop()),
            _ => Err(Error::new("a claim was answered with something else")),
        }
    }
}

impl Subject for InProcess {
    type Caller = Caller;

    fn steps(&self) -> &'static [&'static str] {
        &["enqueue", "claim", "complete"]
    }

    async fn caller(&self, number: usize) -> Result<Caller> {
        let queue = self.queues[number % self.queues.len()].clone();
        Ok(Caller { queue, random: Random::new(self.client.entropy()), text: String::new(), last: None })
    }

    async fn cycle(&self, caller: &mut Caller, lap: &Lap) -> Result<u64> {
        let Caller { queue, random, text, last } = caller;
        let mut job = new_job(&self.client, queue, random, self.payload_bytes, text);
        if self.keys > 0 {
            job.keys.concurrency = key(self.keys, self.keyed.fetch_add(1, Ordering::Relaxed));
        }
        lap.step(0, self.op(Op::Enqueue(Box::new(job)))).await?;
        let grant = lap.step(1, self.claim(queue)).await?;
        let outcome = Outcome::Complete { result: None };
        let settle = Settle { id: grant.id, lease: grant.lease, outcome, repeat_is_ok: true };
        match lap.step(2, self.op(Op::Settle(settle))).await? {
            Reply::Settled { state: JobState::Completed, .. } => {}
            other => return Err(Error::new(format!("a complete was answered with {other:?}"))),
        }
        *last = Some(grant.id);
        Ok(1)
    }

    async fn finish(&self, caller: &mut Caller) -> Result<u64> {
        // What was answered as completed must be found completed, though the store keeps only the newest.
        let Some(id) = caller.last else { return Ok(0) };
        let found = self.client.job(id).await.map_err(Error::doing("cannot read a job"))?;
        match found.map(|job| job.state) {
            Some(JobState::Completed) => Ok(0),
            other => Err(Error::new(format!("a completed job was found as {other:?}"))),
        }
    }
}

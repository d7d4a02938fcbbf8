//! The embedded store in this very process, through the seam every store has.

use std::{path::Path, sync::Arc, time::Duration};

use mainstay::{
    Client,
    core::{
        JobId, QueueName,
        job::{JobBody, JobState, NewJob, Outcome},
        op::{Claim, Commit, Op, Reply, Settle},
        queue::{QueueConfig, Retention},
    },
};

use super::{
    Error, Result,
    cell::Spec,
    drive::{Lap, Subject},
    payload::{Random, write_json},
};

pub(super) const KIND: &str = "bench";
/// Long enough that none runs out in a cell.
pub(super) const LEASE_MS: u64 = 600_000;
/// How long a store may take to close.
const CLOSE: Duration = Duration::from_secs(30);

pub(super) struct InProcess {
    client: Client,
    queues: Vec<QueueName>,
    payload_bytes: usize,
}

/// One caller: its queue, its source of payloads, and the last job it completed.
pub(super) struct Caller {
    queue: QueueName,
    random: Random,
    text: String,
    pub(super) last: Option<JobId>,
}

/// Opens the store; blocks another thread than the callers'.
pub(super) async fn open(path: &Path) -> Result<Client> {
    let url = format!("sqlite:{}", path.display());
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
        client.put_queue(queue.clone(), config).await.map_err(Error::doing("cannot make a queue"))?;
    }
    Ok(())
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
        Ok(Arc::new(InProcess { client, queues: queues(spec.queues)?, payload_bytes: spec.payload_bytes }))
    }

    async fn op(&self, op: Op) -> Result<Reply> {
        let mut committed = self
            .client
            .submit_one(Commit::of(op, self.client.entropy()))
            .await
            .map_err(Error::doing("the store refused"))?;
        committed.replies.pop().ok_or_else(|| Error::new("the store answered nothing"))
    }

    async fn claim(&self, queue: &QueueName) -> Result<mainstay::core::job::Grant> {
        let claim = Claim {
            queues: vec![queue.clone()],
            max: 1,
            max_bytes: 16 << 20,
            lease_ms: LEASE_MS,
            worker: None,
        };
        match self.op(Op::Claim(claim)).await? {
            Reply::Claimed(mut grants) if grants.len() == 1 && grants[0].body.is_some() => {
                Ok(grants.remove(0))
            }
            _ => Err(Error::new("a job was lost: there was none to claim")),
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
        let job = new_job(&self.client, queue, random, self.payload_bytes, text);
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

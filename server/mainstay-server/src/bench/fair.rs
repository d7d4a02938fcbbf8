//! How long a small tenant waits behind a large one, in a queue with fairness.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstay::{
    Client, TaskSet,
    core::{
        JobId, QueueName,
        job::{JobKeys, NewJob, Outcome},
        op::{Claim, Commit, Op, Reply, Settle},
        queue::{Fairness, QueueConfig},
        store::Batch,
    },
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{
    Error, Result,
    cell::Spec,
    drive::within,
    payload::Random,
    store::{LEASE_MS, close, new_job, open},
};

/// Jobs of the small tenant.
const SMALL: usize = 10;
/// Jobs of one commit.
const BATCH: u64 = 2_000;
/// The large tenant's jobs are being drained this long before the small one comes.
const BEFORE: Duration = Duration::from_secs(1);

/// What was measured.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct FairWait {
    /// Jobs of the large tenant that waited when the small one came.
    pub(super) large: u64,
    pub(super) small: usize,
    /// Jobs a second that were handed out and completed meanwhile, of both.
    pub(super) drained_per_second: f64,
    /// From the answer to the enqueue to the hand-out: of the first, and of the last of the small tenant's jobs.
    pub(super) first_ms: f64,
    pub(super) last_ms: f64,
}

struct Fair {
    client: Client,
    queue: QueueName,
    drained: AtomicU64,
    over: AtomicBool,
}

/// Fills a queue with the large tenant's jobs, drains it with the cell's callers, and lets the small tenant come.
pub(super) async fn measure(spec: &Spec) -> Result<FairWait> {
    let client = within(open(&spec.site)).await?;
    let queue = QueueName::new("bench-fair").map_err(Error::doing("the name of a queue"))?;
    let config = QueueConfig { fairness: Some(Fairness::default()), ..QueueConfig::default() };
    client.put_queue(queue.clone(), config).await.map_err(Error::doing("cannot make a queue"))?;
    let (mut random, mut text) = (Random::new(client.entropy()), String::new());
    let mut jobs = |tenant: &str, count: u64| -> Vec<NewJob> {
        let keys = JobKeys { fairness: Some(tenant.into()), ..JobKeys::default() };
        let mut job = || new_job(&client, &queue, &mut random, spec.payload_bytes, &mut text);
        (0..count).map(|_| NewJob { keys: keys.clone(), ..job() }).collect()
    };
    let mut filled = 0;
    while filled < spec.backlog {
        let count = BATCH.min(spec.backlog - filled);
        enqueue(&client, jobs("large", count)).await?;
        filled += count;
    }
    let small = jobs("small", SMALL as u64);
    let drained = AtomicU64::new(0);
    let fair = Arc::new(Fair { client: client.clone(), queue, drained, over: AtomicBool::new(false) });
    let tasks = TaskSet::current().ok_or_else(|| Error::new("no runtime"))?;
    let (handed, mut seen) = mpsc::channel(SMALL);
    let wanted: Arc<Vec<JobId>> = Arc::new(small.iter().map(|job| job.id).collect());
    let running: Vec<_> = (0..spec.callers)
        .map(|_| tasks.spawn("drain", drain(fair.clone(), wanted.clone(), handed.clone())))
        .collect();
    drop(handed);
    sleep(BEFORE).await;
    let (before, began) = (fair.drained.load(Ordering::Relaxed), Instant::now());
    enqueue(&client, small).await?;
    let came = Instant::now();
    let mut waits = Vec::new();
    while waits.len() < SMALL {
        let at: Instant =
            within(async { seen.recv().await.ok_or_else(|| Error::new("the drain has ended")) }).await?;
        waits.push(at.saturating_duration_since(came).as_secs_f64() * 1e3);
    }
    let seconds = began.elapsed().as_secs_f64();
    let drained = fair.drained.load(Ordering::Relaxed) - before;
    fair.over.store(true, Ordering::Relaxed);
    for task in running {
        within(async { task.await.map_err(Error::doing("a caller"))? }).await?;
    }
    close(&client).await?;
    Ok(FairWait {
        large: spec.backlog.saturating_sub(before),
        small: SMALL,
        drained_per_second: drained as f64 / seconds,
        first_ms: waits[0],
        last_ms: waits[SMALL - 1],
    })
}

async fn enqueue(client: &Client, jobs: Vec<NewJob>) -> Result<()> {
    let ops = jobs.into_iter().map(|job| Op::Enqueue(Box::new(job))).collect();
    let commit = Commit { ops, entropy: client.entropy(), ..Commit::default() };
    let answers = client.store().submit(Batch::one(commit)).await.map_err(Error::doing("cannot fill"))?;
    answers.into_iter().try_for_each(|answer| answer.map(drop).map_err(Error::doing("cannot fill")))
}

/// Claims and completes until it is over; says when one of `wanted` comes.
async fn drain(fair: Arc<Fair>, wanted: Arc<Vec<JobId>>, handed: mpsc::Sender<Instant>) -> Result<()> {
    let refused = || Error::doing("the store refused");
    while !fair.over.load(Ordering::Relaxed) {
        let claim = Claim {
            queues: vec![fair.queue.clone()],
            max: 1,
            max_bytes: 16 << 20,
            lease_ms: LEASE_MS,
            worker: None,
        };
        let Reply::Claimed(grants) = fair.client.apply(Op::Claim(claim)).await.map_err(refused())? else {
            return Err(Error::new("a claim was answered with something else"));
        };
        for grant in grants {
            if wanted.contains(&grant.id) {
                // The channel has room for all of them.
                let _ = handed.try_send(Instant::now());
            }
            let outcome = Outcome::Complete { result: None };
            let settle = Settle { id: grant.id, lease: grant.lease, outcome, repeat_is_ok: true };
            fair.client.apply(Op::Settle(settle)).await.map_err(refused())?;
            fair.drained.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

//! What an application does, in this process: producers enqueue, and the library's `Workers` run what comes.
//!
//! `enqueue` has producers alone. `work` has both, at full speed: producers wait while too many jobs are on their way.
//! `pickup` has a steady trickle, and clocks from before the enqueue to the beginning of the handler.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstay::{
    App, Boot, Client, Job, JobContext, JobError, Workers,
    config::Loader,
    core::{
        QueueName,
        job::{JobBody, NewJob},
        op::{Commit, Op, Reply},
    },
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, sleep_until},
};

use super::{
    Error, Result,
    cell::{Measured, Spec, measure},
    drive::{Lap, Subject, within},
    payload::{Random, write_json},
    plan::Variant,
    store::{close, make_queues, open},
};

/// Its own, so that what waits elsewhere is left alone.
const QUEUE: &str = "bench-work";
/// Jobs that may be on their way, enqueued and not handled, with one a call and in batches.
const ON_THEIR_WAY: [usize; 2] = [1_000, 2_000];
/// Producers in batches: each has many jobs in a call.
const PRODUCERS_OF_BATCHES: usize = 4;
/// Jobs a second of `pickup`, and who enqueues them.
const TRICKLE: u64 = 200;
const TRICKLERS: usize = 10;

/// How long the workers may take to end.
const END: Duration = Duration::from_secs(10);

/// The job: which producer made it, and some text.
#[derive(Serialize, Deserialize)]
struct Piece {
    by: usize,
    text: String,
}

impl Job for Piece {
    const KIND: &'static str = "bench-work";
    const QUEUE: &'static str = QUEUE;
}

pub(super) struct Work {
    client: Client,
    queue: QueueName,
    variant: Variant,
    payload_bytes: usize,
    batch: usize,
    /// Room for jobs on their way.
    room: Semaphore,
    /// Jobs that were handled, and not counted yet.
    handled: AtomicU64,
    /// Told that a job of a producer has begun.
    begun: Vec<Notify>,
}

/// A producer.
pub(super) struct Producer {
    number: usize,
    random: Random,
    text: String,
    next: Instant,
}

/// How many producers there are, with this many callers.
pub(super) fn producers(variant: Variant, callers: usize) -> usize {
    match variant {
        Variant::EnqueueBatch | Variant::WorkBatch => PRODUCERS_OF_BATCHES.min(callers),
        Variant::Pickup => TRICKLERS,
        _ => callers,
    }
}

/// Measures one of these variants.
pub(super) async fn perform(spec: &Spec, variant: Variant) -> Result<Measured> {
    let client = within(open(&spec.site)).await?;
    let queue = QueueName::new(QUEUE).map_err(Error::doing("the name of a queue"))?;
    make_queues(&client, std::slice::from_ref(&queue), spec.keep_finished).await?;
    let producers = producers(variant, spec.callers);
    let work = Arc::new(Work {
        client: client.clone(),
        queue: queue.clone(),
        variant,
        payload_bytes: spec.payload_bytes,
        batch: if variant.is_in_batches() { spec.batch } else { 1 },
        room: Semaphore::new(ON_THEIR_WAY[usize::from(variant.is_in_batches())]),
        handled: AtomicU64::new(0),
        begun: (0..producers).map(|_| Notify::new()).collect(),
    });
    let found = std::sync::Mutex::new(None);
    let until = async {
        let groups = super::cell::groups(&client);
        let measured = measure(work.clone(), spec, producers, None, groups).await;
        *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(measured);
    };
    if matches!(variant, Variant::Enqueue | Variant::EnqueueBatch) {
        until.await;
        purge(&client, &queue).await?;
    } else {
        let workers =
            Workers::new(QUEUE, work.clone()).on(handle).concurrency(spec.callers).prefetch(spec.prefetch);
        let workers = workers.from(client.clone());
        let boot = async |b: &mut Boot<()>| -> mainstay::Result<()> {
            b.workers(workers);
            Ok(())
        };
        let loader =
            Loader::new("bench").variables::<String, String>([]).flag("admin_listen", "off", "bench");
        let loader = loader.flag("lame_duck_ms", 0, "bench").flag("log_level", "error", "bench");
        let loader = loader.flag("grace_ms", END.as_millis() as u64, "bench");
        let ended = App::new("bench").config(loader).run_until(boot, until).await;
        if let Some(error) = ended.error {
            return Err(Error::new(format!("the workers: {error}")));
        }
    }
    let (measured, jobs) = found
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .unwrap_or_else(|| Err(Error::new("the workers ended before anything was measured")))?;
    let left = client.queue(&queue).await.map_err(Error::doing("cannot read the queue"))?;
    let depth = left.map(|queue| queue.depth).unwrap_or_default();
    if depth.available + depth.running > 0 {
        return Err(Error::new(format!(
            "{jobs} jobs were handled, {} wait and {} run all the same",
            depth.available, depth.running
        )));
    }
    close(&client).await?;
    Ok(measured)
}

async fn handle(job: Piece, cx: JobContext<Arc<Work>>) -> std::result::Result<(), JobError> {
    let work = cx.state();
    work.handled.fetch_add(1, Ordering::Relaxed);
    if work.variant == Variant::Pickup
        && let Some(begun) = work.begun.get(job.by)
    {
        begun.notify_one();
    }
    work.room.add_permits(1);
    Ok(())
}

/// Forgets what was enqueued for nobody.
async fn purge(client: &Client, queue: &QueueName) -> Result<()> {
    loop {
        let purge = Op::Purge { queue: queue.clone(), limit: 1_000 };
        match client.apply(purge).await.map_err(Error::doing("cannot purge the queue"))? {
            Reply::Count(count) if count < 1_000 => return Ok(()),
            Reply::Count(_) | Reply::CountSoFar(_) => {}
            other => return Err(Error::new(format!("a purge was answered with {other:?}"))),
        }
    }
}

impl Work {
    fn job(&self, producer: &mut Producer) -> Result<NewJob> {
        let Producer { number, random, text, .. } = producer;
        text.clear();
        write_json(random, self.payload_bytes.saturating_sub(18), text);
        let json = format!(r#"{{"by":{number},"text":{text}}}"#);
        Ok(NewJob::new(self.client.new_id(&self.queue), self.queue.clone(), JobBody::new(Piece::KIND, &json)))
    }

    async fn enqueue(&self, producer: &mut Producer) -> Result<()> {
        let jobs = (0..self.batch).map(|_| Ok(Op::Enqueue(Box::new(self.job(producer)?))));
        let ops = jobs.collect::<Result<Vec<_>>>()?;
        let commit = Commit { ops, entropy: self.client.entropy(), ..Commit::default() };
        self.client.submit_one(commit).await.map(drop).map_err(Error::doing("an enqueue was refused"))
    }

    async fn trickle(&self, producer: &mut Producer, lap: &Lap) -> Result<()> {
        sleep_until(producer.next).await;
        producer.next += Duration::from_secs(1) * TRICKLERS as u32 / TRICKLE as u32;
        let begun = &self.begun[producer.number];
        lap.step(1, async {
            lap.step(0, self.enqueue(producer)).await?;
            within(async {
                begun.notified().await;
                Ok(())
            })
            .await
        })
        .await
    }
}

impl Subject for Work {
    type Caller = Producer;

    fn steps(&self) -> &'static [&'static str] {
        if self.variant == Variant::Pickup { &["enqueue", "pick-up"] } else { &["enqueue"] }
    }

    async fn caller(&self, number: usize) -> Result<Producer> {
        let apart = Duration::from_secs(1) / TRICKLE as u32 * number as u32;
        let random = Random::new(self.client.entropy());
        Ok(Producer { number, random, text: String::new(), next: Instant::now() + apart })
    }

    async fn cycle(&self, producer: &mut Producer, lap: &Lap) -> Result<u64> {
        match self.variant {
            Variant::Pickup => self.trickle(producer, lap).await?,
            Variant::Enqueue | Variant::EnqueueBatch => {
                lap.step(0, self.enqueue(producer)).await?;
                return Ok(self.batch as u64);
            }
            _ => {
                let room = within(async {
                    let room = self.room.acquire_many(self.batch as u32).await;
                    room.map_err(|_| Error::new("the room is closed"))
                });
                // The handler makes it again.
                room.await?.forget();
                lap.step(0, self.enqueue(producer)).await?;
            }
        }
        Ok(self.handled.swap(0, Ordering::Relaxed))
    }

    async fn finish(&self, _producer: &mut Producer) -> Result<u64> {
        // Room for all is there again when the last job on its way was handled.
        let all = ON_THEIR_WAY[usize::from(self.variant.is_in_batches())];
        if !matches!(self.variant, Variant::Enqueue | Variant::EnqueueBatch | Variant::Pickup) {
            let room = within(async {
                let room = self.room.acquire_many(all as u32).await;
                room.map_err(|_| Error::new("the room is closed"))
            });
            drop(room.await?);
        }
        Ok(self.handled.swap(0, Ordering::Relaxed))
    }
}

//! Jobs inside the process: the worker pool beside bare `tokio::spawn`, and beside a channel with workers.
//!
//! A job adds one to a number; what is measured is the way there and back. *Ask and wait*: so many callers, each of which
//! submits a job and awaits its value before the next. *Burst*: one caller submits many jobs, then awaits all.

use std::{hint::black_box, sync::Arc, time::Duration};

use mainstay::{
    JobError, TaskSet,
    pool::{PoolContext, WorkerPool},
};
use serde::Serialize;
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::Instant,
};

use super::{Error, Result, args::JobsArgs, report::note};

/// Workers of the pool, and of the channel.
const WORKERS: usize = 4;
/// Places of both queues.
const QUEUE: usize = 1_024;
/// Callers that ask and wait.
const CALLERS: u64 = 64;
/// Jobs of a burst.
const BURST: u64 = 100_000;

/// Jobs a second, by who runs them and how they are asked for.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Pools {
    pub(super) spawn: Rates,
    pub(super) channel: Rates,
    pub(super) pool: Rates,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Rates {
    pub(super) ask_and_wait: Vec<f64>,
    pub(super) burst: Vec<f64>,
}

/// Who runs a job. Cheap to clone.
trait Runs: Clone + Send + 'static {
    /// A job that was submitted.
    type Job: Future<Output = u64> + Send;

    fn submit(&self, n: u64) -> impl Future<Output = Self::Job> + Send;
}

/// Measures all of them, one after the other in every round.
pub(super) fn measure(args: &JobsArgs) -> Result<Pools> {
    let mut found = Pools::default();
    for round in 0..args.rounds {
        let time = super::args::seconds(args.cell_seconds.min(2.0));
        let runtime = || {
            tokio::runtime::Builder::new_multi_thread().worker_threads(args.threads()).enable_all().build()
        };
        let fresh = || runtime().map_err(Error::doing("cannot start"));
        fresh()?.block_on(one(Spawn, &mut found.spawn, time));
        fresh()?.block_on(async {
            one(Channel::open()?, &mut found.channel, time).await;
            Ok::<_, Error>(())
        })?;
        fresh()?.block_on(async {
            one(Pool::open()?, &mut found.pool, time).await;
            Ok::<_, Error>(())
        })?;
        let last = |rates: &[f64]| rates.last().copied().unwrap_or_default() / 1e3;
        note(&format!(
            "round {}: jobs in the process, thousands a second: spawn {:.0}/{:.0}, channel {:.0}/{:.0}, pool {:.0}/{:.0}",
            round + 1,
            last(&found.spawn.ask_and_wait),
            last(&found.spawn.burst),
            last(&found.channel.ask_and_wait),
            last(&found.channel.burst),
            last(&found.pool.ask_and_wait),
            last(&found.pool.burst),
        ));
    }
    Ok(found)
}

async fn one<R: Runs>(runs: R, rates: &mut Rates, time: Duration) {
    rates.ask_and_wait.push(ask_and_wait(&runs, time).await);
    rates.burst.push(burst(&runs).await);
}

async fn ask_and_wait<R: Runs>(runs: &R, time: Duration) -> f64 {
    let Some(tasks) = TaskSet::current() else { return 0.0 };
    let began = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let runs = runs.clone();
            tasks.spawn("caller", async move {
                let mut done = 0_u64;
                while began.elapsed() < time {
                    // The clock costs as much as a job: a look at it for every few.
                    for n in 0..64 {
                        black_box(runs.submit(caller + n).await.await);
                    }
                    done += 64;
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for caller in callers {
        done += caller.await.unwrap_or(0);
    }
    done as f64 / began.elapsed().as_secs_f64()
}

async fn burst<R: Runs>(runs: &R) -> f64 {
    let began = Instant::now();
    let mut jobs = Vec::with_capacity(BURST as usize);
    for n in 0..BURST {
        jobs.push(runs.submit(n).await);
    }
    for job in jobs {
        black_box(job.await);
    }
    BURST as f64 / began.elapsed().as_secs_f64()
}

async fn work(n: u64) -> u64 {
    black_box(n) + 1
}

#[derive(Clone)]
struct Spawn;

impl Runs for Spawn {
    type Job = std::pin::Pin<Box<dyn Future<Output = u64> + Send>>;

    #[expect(clippy::disallowed_methods, reason = "what the pool is compared with")]
    async fn submit(&self, n: u64) -> Self::Job {
        let task = tokio::spawn(work(n));
        Box::pin(async move { task.await.unwrap_or(0) })
    }
}

#[derive(Clone)]
struct Channel(mpsc::Sender<(u64, oneshot::Sender<u64>)>);

impl Channel {
    fn open() -> Result<Channel> {
        let tasks = TaskSet::current().ok_or_else(|| Error::new("no runtime"))?;
        let (sender, receiver) = mpsc::channel::<(u64, oneshot::Sender<u64>)>(QUEUE);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..WORKERS {
            let receiver = receiver.clone();
            tasks.spawn("worker", async move {
                loop {
                    let next = receiver.lock().await.recv().await;
                    let Some((n, done)) = next else { return };
                    let _ = done.send(work(n).await);
                }
            });
        }
        Ok(Channel(sender))
    }
}

impl Runs for Channel {
    type Job = std::pin::Pin<Box<dyn Future<Output = u64> + Send>>;

    async fn submit(&self, n: u64) -> Self::Job {
        let (done, ended) = oneshot::channel();
        let sent = self.0.send((n, done)).await.is_ok();
        Box::pin(async move { if sent { ended.await.unwrap_or(0) } else { 0 } })
    }
}

#[derive(Clone)]
struct Pool(WorkerPool<u64, u64>);

impl Pool {
    fn open() -> Result<Pool> {
        async fn handle(n: u64, _cx: PoolContext) -> std::result::Result<u64, JobError> {
            Ok(work(n).await)
        }
        let pool = WorkerPool::build("bench", handle).workers(WORKERS).queue(QUEUE).open();
        Ok(Pool(pool.map_err(Error::doing("cannot open a pool"))?))
    }
}

impl Runs for Pool {
    type Job = std::pin::Pin<Box<dyn Future<Output = u64> + Send>>;

    async fn submit(&self, n: u64) -> Self::Job {
        let job = self.0.submit(n).await;
        Box::pin(async move {
            match job {
                Ok(job) => job.await.unwrap_or(0),
                Err(_) => 0,
            }
        })
    }
}

//! The closed loop: so many callers, each with one call in flight, the same for every subject.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstay::TaskSet;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Error, Result,
    latency::{Latency, Quantiles},
};

/// Something that full cycles can be run on.
pub(super) trait Subject: Send + Sync + 'static {
    /// What one caller keeps: its place, its connection, its jobs.
    type Caller: Send + 'static;

    /// The names of the steps of a cycle.
    fn steps(&self) -> &'static [&'static str];

    /// Makes a caller ready. Not measured.
    fn caller(&self, number: usize) -> impl Future<Output = Result<Self::Caller>> + Send;

    /// Runs one cycle; answers how many jobs it has completed.
    fn cycle(&self, caller: &mut Self::Caller, lap: &Lap) -> impl Future<Output = Result<u64>> + Send;

    /// Leaves nothing in flight; answers how many jobs that completed. Not measured.
    fn finish(&self, caller: &mut Self::Caller) -> impl Future<Output = Result<u64>> + Send {
        let _ = caller;
        async { Ok(0) }
    }
}

/// How long to drive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) warm_up: Duration,
    pub(super) measure: Duration,
}

/// What was measured.
pub(super) struct Driven {
    /// Jobs whose completion was answered in the time that was measured.
    pub(super) jobs: u64,
    /// Jobs whose completion was answered at all.
    pub(super) all_jobs: u64,
    pub(super) seconds: f64,
    pub(super) steps: Vec<(&'static str, Quantiles)>,
}

/// Clocks the steps of cycles.
pub(super) struct Lap {
    phase: AtomicU8,
    steps: Vec<Latency>,
    jobs: AtomicU64,
    all_jobs: AtomicU64,
}

const WARM_UP: u8 = 0;
const MEASURE: u8 = 1;
const OVER: u8 = 2;

/// No call takes longer, or something is broken.
const LIMIT: Duration = Duration::from_secs(60);

impl Lap {
    /// Runs the step with this number.
    pub(super) async fn step<T>(&self, number: usize, step: impl Future<Output = Result<T>>) -> Result<T> {
        let started = Instant::now();
        let done = step.await?;
        if self.phase() == MEASURE {
            self.steps[number].record(started.elapsed());
        }
        Ok(done)
    }

    fn phase(&self) -> u8 {
        self.phase.load(Ordering::Relaxed)
    }

    fn count(&self, jobs: u64) {
        self.all_jobs.fetch_add(jobs, Ordering::Relaxed);
        if self.phase() == MEASURE {
            self.jobs.fetch_add(jobs, Ordering::Relaxed);
        }
    }
}

/// Drives `callers` callers; calls `at_start` and `at_end` when the measuring begins and ends.
pub(super) async fn drive<S: Subject>(
    subject: Arc<S>,
    callers: usize,
    span: Span,
    mut at_start: impl FnMut(),
    mut at_end: impl FnMut(),
) -> Result<Driven> {
    let tasks = TaskSet::current().ok_or_else(|| Error::new("no runtime"))?;
    let mut ready = Vec::with_capacity(callers);
    for number in 0..callers {
        ready.push(within(subject.caller(number)).await?);
    }
    let lap = Arc::new(Lap {
        phase: AtomicU8::new(WARM_UP),
        steps: subject.steps().iter().map(|_| Latency::new()).collect(),
        jobs: AtomicU64::new(0),
        all_jobs: AtomicU64::new(0),
    });
    let running: Vec<_> = ready
        .into_iter()
        .map(|caller| tasks.spawn("caller", run(subject.clone(), caller, lap.clone())))
        .collect();

    sleep(span.warm_up).await;
    at_start();
    let started = Instant::now();
    // An error of a caller has ended it already, and is found below.
    let _ = lap.phase.compare_exchange(WARM_UP, MEASURE, Ordering::Relaxed, Ordering::Relaxed);
    sleep(span.measure).await;
    lap.phase.store(OVER, Ordering::Relaxed);
    let seconds = started.elapsed().as_secs_f64();
    at_end();

    let ended = timeout(LIMIT, async {
        for task in running {
            task.await.map_err(Error::doing("a caller"))??;
        }
        Ok(())
    });
    let ended = ended.await.unwrap_or_else(|_| Err(Error::new("a call was not answered in a minute")));
    if let Err(error) = ended {
        tasks.abort();
        return Err(error);
    }
    let quantiles = lap.steps.iter().map(Latency::quantiles);
    Ok(Driven {
        jobs: lap.jobs.load(Ordering::Relaxed),
        all_jobs: lap.all_jobs.load(Ordering::Relaxed),
        seconds,
        steps: subject.steps().iter().copied().zip(quantiles).collect(),
    })
}

async fn run<S: Subject>(subject: Arc<S>, mut caller: S::Caller, lap: Arc<Lap>) -> Result<()> {
    while lap.phase() != OVER {
        match subject.cycle(&mut caller, &lap).await {
            Ok(jobs) => lap.count(jobs),
            Err(error) => {
                lap.phase.store(OVER, Ordering::Relaxed);
                return Err(error);
            }
        }
    }
    let jobs = subject.finish(&mut caller).await?;
    lap.all_jobs.fetch_add(jobs, Ordering::Relaxed);
    Ok(())
}

/// Waits for `step`, but not for ever.
pub(super) async fn within<T>(step: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(LIMIT, step).await.unwrap_or_else(|_| Err(Error::new("not done in a minute")))
}

//! Running attempts.

use std::{
    collections::HashMap,
    future::poll_fn,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use mainstay_core::{
    job::{Grant, Json, Outcome, Retry},
    name::{QueueName, WorkerName},
    op::Settle,
    store::Interest,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tower::Service;

use super::{
    Attempt, JobContext,
    attempt::Layers,
    handler::Handler,
    limit::{Limit, end_of_lease},
    outbox::{Ended, Outbox},
    running::{Entered, Key, RunningJobs, Told},
};
use crate::{
    client::Client,
    context::Context,
    health::Health,
    job::{Ending, JobError, failure, ms},
    millis, otlp,
    policy::{Policies, Target},
    scale::Rules,
    secs,
    shutdown::Shutdown,
    tasks::TaskSet,
};

/// A job that runs longer than this is watched for cancellation; shorter ones are over before anybody asks.
const WATCH_AFTER: Duration = millis(200);
/// Between looks for cancellation when the store does not answer.
const WATCH_PAUSE: Duration = millis(500);

/// Everything the workers of a service share.
pub(super) struct Pool<S> {
    pub(super) client: Client,
    pub(super) queues: Vec<QueueName>,
    /// One for each queue, if they are served by weight.
    pub(super) weights: Option<Vec<u32>>,
    pub(super) worker: WorkerName,
    pub(super) state: S,
    pub(super) handlers: HashMap<String, Arc<dyn Handler<S>>>,
    /// How many run at once.
    pub(super) rules: Rules,
    /// How many more may be in hand, claimed ahead.
    pub(super) prefetch: usize,
    pub(super) lease: Duration,
    pub(super) limit: Option<Duration>,
    /// How long a handler that was told to stop has until it is cut.
    pub(super) grace: Duration,
    pub(super) shutdown: Shutdown,
    pub(super) running: RunningJobs,
    pub(super) outbox: Outbox,
    pub(super) tally: Tally,
    pub(super) policies: Policies,
    /// What an attempt of a kind goes through, by kind.
    pub(super) guards: HashMap<String, Target>,
    /// What every attempt goes through, if there is anything.
    pub(super) layers: Option<Layers>,
    pub(super) health: Health,
}

impl<S: Clone + Send + Sync + 'static> Pool<S> {
    /// What these workers are called in logs and metrics: their queues.
    pub(super) fn label(&self) -> String {
        let queues: Vec<_> = self.queues.iter().map(|queue| queue.as_str()).collect();
        queues.join(",")
    }

    /// Begins an attempt at a job of a kind that has a handler; its claim was `sent` then.
    pub(super) fn begin(self: &Arc<Self>, grant: Grant, sent: Instant, tasks: &TaskSet) {
        let kind: Arc<str> = grant.body.as_ref().map_or_else(|| "?".into(), |body| body.kind.clone());
        let _in = attempt_context(&grant, &kind).enter();
        let now = Instant::now();
        let of_job = |ms| Limit::of_job(Duration::from_millis(ms), self.grace, self.lease, sent, now);
        let of_workers = || self.limit.map(|limit| Limit::of_workers(limit, self.grace, now));
        let limit = grant.policy.timeout_ms.map(of_job).or_else(of_workers);
        let entered = self.running.enter(&grant, kind.clone(), limit, end_of_lease(sent, self.lease));
        let key = entered.slip.key;
        let pool = self.clone();
        let name = format!("job {} {kind}", grant.id);
        let task = tasks.spawn(name, async move { pool.attempt(grant, kind, entered).await });
        self.running.can_be_cut(key, task.abort_handle());
    }

    async fn attempt(&self, grant: Grant, kind: Arc<str>, entered: Entered) {
        let Entered { slip, told, limit } = entered;
        let (id, lease) = slip.key;
        let began = Instant::now();
        let outcome = match (self.handlers.get(&*kind), &grant.body) {
            (Some(handler), Some(body)) => {
                let cx = JobContext::new(
                    self.state.clone(),
                    self.client.clone(),
                    grant.clone(),
                    told.clone(),
                    self.policies.clone(),
                    self.lease,
                    slip.own_end.clone(),
                    self.running.clone(),
                );
                // The handler's alone: the settle after it has its own time.
                let over = limit.borrow().map(|limit| limit.over.saturating_duration_since(began));
                let context = match over {
                    Some(over) => Context::current().with_time_limit(over),
                    None => Context::current(),
                };
                let (handler, target) = (handler.clone(), self.guards.get(&*kind).cloned());
                let run = move |payload: Json| async move {
                    match target {
                        Some(target) => guard(&target, || handler.call(&payload, cx)).await,
                        None => handler.call(&payload, cx).await,
                    }
                };
                let work = context.scope(async {
                    let payload = body.payload.clone();
                    let Some(layers) = &self.layers else { return run(payload).await };
                    let run = Box::new(move |payload| run(payload).boxed());
                    let attempt = Attempt::new(&grant, kind.clone(), payload, run);
                    let mut layers = layers.clone();
                    poll_fn(|cx| layers.poll_ready(cx)).await?;
                    layers.call(attempt).await
                });
                self.guarded(work, limit, slip.key, told.clone()).await
            }
            // The desk begins nothing else.
            _ => Outcome::Release { delay_ms: 0 },
        };
        let outcome = match outcome {
            // It gave up because it was told that the process is on its way out: that is no attempt.
            Outcome::Fail { retry: Retry::Auto | Retry::After(_), .. } if *told.borrow() == Told::Leave => {
                Outcome::Release { delay_ms: 0 }
            }
            outcome => outcome,
        };
        let took = began.elapsed();
        if !self.running.end(slip.key) {
            tracing::warn!(
                took_ms = took.as_millis() as u64,
                "a handler that held its thread has ended; its outcome is void"
            );
            return slip.settled();
        }
        self.tally.add(took);
        self.measure(&kind, &outcome, took);
        if let Outcome::Fail { error, .. } = &outcome {
            tracing::warn!(error = %error.message, "job failed");
        }
        self.outbox.put(Ended {
            settle: Settle { id, lease, outcome, repeat_is_ok: true },
            slip: Some(slip),
            tries: 0,
        });
    }

    /// Runs a handler so that nothing it does reaches further than its own job.
    async fn guarded(
        &self,
        work: impl Future<Output = Result<Option<Json>, JobError>>,
        mut limit: watch::Receiver<Option<Limit>>,
        key: Key,
        mut told: watch::Receiver<Told>,
    ) -> Outcome {
        let work = AssertUnwindSafe(work).catch_unwind();
        let over = async {
            loop {
                let now = *limit.borrow_and_update();
                let Some(Limit { over, said, .. }) = now else { break std::future::pending().await };
                tokio::select! {
                    biased;
                    () = sleep_until(over) => break said,
                    Ok(()) = limit.changed() => {}
                }
            }
        };
        let work = async {
            tokio::select! {
                biased;
                ended = work => Ok(ended),
                limit = over => Err(limit),
            }
        };
        let watch = async {
            sleep(WATCH_AFTER).await;
            let interest = [Interest::CancelRequested(key.0)];
            loop {
                match self.client.store().wait(&interest, secs(3_600)).await {
                    Ok(wake) if wake.is_woken() => break self.running.cancel(key),
                    Ok(_) => {}
                    Err(_) => sleep(WATCH_PAUSE).await,
                }
            }
            std::future::pending::<()>().await;
        };
        let cut = async {
            if told.wait_for(|told| *told == Told::Cancel).await.is_err() {
                std::future::pending::<()>().await;
            }
            sleep(self.grace).await;
        };
        let ended = tokio::select! {
            biased;
            ended = work => ended,
            () = cut => return Outcome::Cancel { error: None },
            () = watch => return Outcome::Cancel { error: None },
        };
        match ended {
            Ok(Ok(Ok(result))) => Outcome::Complete { result },
            Ok(Ok(Err(JobError(ending)))) => match ending {
                Ending::Retry { kind, message, after, .. } => failed(
                    kind.as_deref(),
                    message,
                    after.map_or(Retry::Auto, |after| Retry::After(ms(after))),
                ),
                Ending::Permanent { message } => failed(None, message, Retry::Never),
                Ending::Snooze(delay) => Outcome::Release { delay_ms: ms(delay) },
                Ending::Cancel => Outcome::Cancel { error: None },
            },
            Ok(Err(panic)) => failed(Some("panic"), crate::tasks::panic_message(&*panic), Retry::Auto),
            Err(limit) => {
                let message = format!("the attempt did not end within {}", crate::time::human(limit));
                failed(Some("timeout"), message, Retry::Auto)
            }
        }
    }

    fn measure(&self, kind: &str, outcome: &Outcome, took: Duration) {
        let outcome = match outcome {
            Outcome::Complete { .. } => "complete",
            Outcome::Fail { .. } => "fail",
            Outcome::Release { .. } => "release",
            Outcome::Cancel { .. } => "cancel",
        };
        // Only kinds with a handler get a label of their own: their number is bounded by the program.
        let kind = if self.handlers.contains_key(kind) { kind.to_owned() } else { String::new() };
        otlp::ended(otlp::Kind::Consumer, took, || {
            let attributes = vec![
                ("messaging.system", "mainstay".into()),
                ("messaging.operation.name", "process".into()),
                ("mainstay.job.kind", kind.as_str().into()),
                ("mainstay.outcome", outcome.into()),
            ];
            (format!("process {kind}"), outcome == "fail", attributes)
        });
        metrics::histogram!("mainstay.job.duration", "kind" => kind, "outcome" => outcome)
            .record(took.as_secs_f64());
    }
}

/// What the job carries, and which job it is: on every line of the attempt.
fn attempt_context(grant: &Grant, kind: &str) -> Context {
    let context = grant.body.as_deref().map_or_else(Context::new, Context::of_job);
    context.set("job.id", grant.id.to_string());
    context.set("job.kind", kind);
    context.delivered(grant.attempt)
}

/// One attempt under a policy. Trying again is the job's own business, so the policy never does.
pub(crate) async fn guard<T, Fut: Future<Output = Result<T, JobError>>>(
    target: &Target,
    attempt: impl FnOnce() -> Fut,
) -> Result<T, JobError> {
    let mut attempt = Some(attempt);
    let call = target.call().idempotent(false);
    let ended = call.run(|_| {
        let attempt = attempt.take();
        async move {
            match attempt {
                Some(attempt) => attempt().await,
                None => Err(JobError::retry("the policy began the attempt twice; this is a bug of mainstay")),
            }
        }
    });
    ended.await.map_err(JobError::of_policy)
}

pub(super) fn failed(kind: Option<&str>, message: String, retry: Retry) -> Outcome {
    Outcome::Fail { error: failure(kind, &message), retry }
}

/// Attempts that have ended, and how long they took, in microseconds.
#[derive(Default)]
pub(super) struct Tally {
    finished: AtomicU64,
    took_us: AtomicU64,
}

impl Tally {
    fn add(&self, took: Duration) {
        self.finished.fetch_add(1, Ordering::Relaxed);
        self.took_us.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> (u64, u64) {
        (self.finished.load(Ordering::Relaxed), self.took_us.load(Ordering::Relaxed))
    }
}

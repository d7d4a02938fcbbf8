//! Fetching jobs and running attempts.

use std::{collections::HashMap, future::poll_fn, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use mainstay_core::{
    job::{Grant, JobFailure, Json, Outcome, Retry},
    name::{QueueName, WorkerName},
    op::{Claim, Op, Reason, Settle},
    store::Interest,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tower::Service;

use super::{Attempt, JobContext, attempt::Layers, handler::Handler, running::RunningJobs, running::Slip};
use crate::{
    client::{Client, StoreError},
    context::Context,
    health::Health,
    job::{Ending, JobError, ms},
    otlp,
    policy::{Policies, PolicyError, Target},
    secs,
    shutdown::Shutdown,
    tasks::TaskSet,
    time::millis,
};

/// How long one claim waits for work.
const CLAIM_WAIT: Duration = secs(30);
/// One turn of the fetcher, waiting included; one that takes longer hangs.
const FETCH_LIMIT: Duration = secs(90);
/// Between tries when the store does not answer.
const STORE_PAUSE: Duration = millis(500);
/// A settle is tried this often before its job is left to its lease.
const SETTLE_TRIES: u32 = 5;
/// A job of a kind that nobody here handles goes back for this long, so that another worker can have it.
const UNKNOWN_KIND_DELAY: Duration = secs(15);
/// A job that runs longer than this is watched for cancellation; shorter ones are over before anybody asks.
const WATCH_AFTER: Duration = millis(200);

/// Everything the workers of a service share.
pub(super) struct Pool<S> {
    pub(super) client: Client,
    pub(super) queues: Vec<QueueName>,
    pub(super) worker: WorkerName,
    pub(super) state: S,
    pub(super) handlers: HashMap<String, Arc<dyn Handler<S>>>,
    pub(super) concurrency: usize,
    pub(super) lease: Duration,
    pub(super) limit: Option<Duration>,
    pub(super) shutdown: Shutdown,
    pub(super) running: RunningJobs,
    pub(super) policies: Policies,
    /// What an attempt of a kind goes through, by kind.
    pub(super) guards: HashMap<String, Target>,
    /// What every attempt goes through, if there is anything.
    pub(super) layers: Option<Layers>,
    pub(super) health: Health,
}

impl<S: Clone + Send + Sync + 'static> Pool<S> {
    /// Claims for free slots until no new work should be begun.
    pub(super) async fn fetch(self: Arc<Self>, tasks: TaskSet) {
        let slots = Arc::new(Semaphore::new(self.concurrency));
        let queues: Vec<_> = self.queues.iter().map(|queue| queue.as_str()).collect();
        let heartbeat = self.health.heartbeat(format!("fetch {}", queues.join(",")), FETCH_LIMIT);
        loop {
            // Handlers take what time they take.
            heartbeat.rest();
            let slot = self.shutdown.unless_draining(slots.clone().acquire_owned()).await;
            let Some(Ok(first)) = slot else { return };
            heartbeat.beat();
            let mut free = vec![first];
            while let Ok(slot) = slots.clone().try_acquire_owned() {
                free.push(slot);
            }
            let claim = Claim {
                queues: self.queues.clone(),
                max: free.len().min(1_000) as u32,
                max_bytes: 16 << 20,
                lease_ms: ms(self.lease),
                worker: Some(self.worker.clone()),
            };
            match self.client.claim(claim, None, CLAIM_WAIT, self.shutdown.draining()).await {
                Ok(grants) => {
                    for (grant, slot) in grants.into_iter().zip(free) {
                        self.begin(grant, slot, &tasks);
                    }
                }
                Err(error) => {
                    tracing::warn!(queues = ?self.queues, %error, "cannot claim jobs; trying again");
                    metrics::counter!("mainstay.workers.claim_errors").increment(1);
                    self.shutdown.unless_draining(sleep(STORE_PAUSE)).await;
                }
            }
        }
    }

    fn begin(self: &Arc<Self>, grant: Grant, slot: OwnedSemaphorePermit, tasks: &TaskSet) {
        let kind: Arc<str> = grant.body.as_ref().map_or_else(|| "?".into(), |body| body.kind.clone());
        let _in = attempt_context(&grant, &kind).enter();
        let (slip, stopped) = self.running.enter(&grant, kind.clone());
        let key = slip.key;
        let pool = self.clone();
        let name = format!("job {} {kind}", grant.id);
        let task = tasks.spawn(name, async move {
            // The slot is free again when the attempt has been settled.
            let _slot = slot;
            pool.attempt(grant, kind, slip, stopped).await;
        });
        self.running.can_be_cut(key, task.abort_handle());
    }

    async fn attempt(
        &self,
        grant: Grant,
        kind: Arc<str>,
        slip: Slip,
        stopped: tokio::sync::watch::Receiver<bool>,
    ) {
        let (id, lease) = slip.key;
        let began = tokio::time::Instant::now();
        let outcome = match (self.handlers.get(&*kind), &grant.body) {
            (Some(handler), Some(body)) => {
                let cx = JobContext::new(
                    self.state.clone(),
                    self.client.clone(),
                    grant.clone(),
                    stopped,
                    self.policies.clone(),
                );
                let limit = grant.policy.timeout_ms.map(Duration::from_millis).or(self.limit);
                // The handler's alone: the settle after it has its own time.
                let context = match limit {
                    Some(limit) => Context::current().with_time_limit(limit),
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
                self.guarded(work, limit, slip.key).await
            }
            _ => {
                tracing::warn!("no handler for this kind; given back");
                Outcome::Release { delay_ms: ms(UNKNOWN_KIND_DELAY) }
            }
        };
        self.measure(&kind, &outcome, began.elapsed());
        if let Outcome::Fail { error, .. } = &outcome {
            tracing::warn!(error = %error.message, "job failed");
        }
        self.settle(Settle { id, lease, outcome, repeat_is_ok: true }).await;
        slip.settled();
    }

    /// Runs a handler so that nothing it does reaches further than its own job.
    async fn guarded(
        &self,
        work: impl Future<Output = Result<Option<Json>, JobError>>,
        limit: Option<Duration>,
        key: (mainstay_core::JobId, mainstay_core::LeaseId),
    ) -> Outcome {
        let work = AssertUnwindSafe(work).catch_unwind();
        let work = async {
            match limit {
                Some(limit) => timeout(limit, work).await.map_err(|_| limit),
                None => Ok(work.await),
            }
        };
        let watch = async {
            sleep(WATCH_AFTER).await;
            let interest = [Interest::CancelRequested(key.0)];
            loop {
                match self.client.store().wait(&interest, secs(3_600)).await {
                    Ok(wake) if wake.is_woken() => break self.running.stop(key),
                    Ok(_) => {}
                    Err(_) => sleep(STORE_PAUSE).await,
                }
            }
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            ended = work => ended,
            () = watch => return Outcome::Cancel,
        };
        match ended {
            Ok(Ok(Ok(result))) => Outcome::Complete { result },
            Ok(Ok(Err(JobError(ending)))) => match ending {
                Ending::Retry { kind, message, after } => failed(
                    kind.as_deref(),
                    message,
                    after.map_or(Retry::Auto, |after| Retry::After(ms(after))),
                ),
                Ending::Permanent { message } => failed(None, message, Retry::Never),
                Ending::Snooze(delay) => Outcome::Release { delay_ms: ms(delay) },
                Ending::Cancel => Outcome::Cancel,
            },
            Ok(Err(panic)) => failed(Some("panic"), crate::tasks::panic_message(&*panic), Retry::Auto),
            Err(limit) => {
                let message = format!("the attempt did not end within {}", crate::time::human(limit));
                failed(Some("timeout"), message, Retry::Auto)
            }
        }
    }

    /// Settles until the store answers. A job whose settle is never answered is taken over when its lease ends.
    async fn settle(&self, settle: Settle) {
        for n in 1..=SETTLE_TRIES {
            match self.client.apply(Op::Settle(settle.clone())).await {
                Ok(_) => return,
                Err(error) if matches!(error.reason(), Some(Reason::LeaseLost | Reason::NotFound(_))) => {
                    metrics::counter!("mainstay.workers.leases_lost").increment(1);
                    tracing::warn!("the lease was lost before the attempt ended; its outcome is void");
                    return;
                }
                Err(error) if n < SETTLE_TRIES && retryable(&error) => sleep(STORE_PAUSE * n).await,
                Err(error) => {
                    tracing::error!(%error, "cannot settle; the job will be offered again");
                    return;
                }
            }
        }
    }

    fn measure(&self, kind: &str, outcome: &Outcome, took: Duration) {
        let outcome = match outcome {
            Outcome::Complete { .. } => "complete",
            Outcome::Fail { .. } => "fail",
            Outcome::Release { .. } => "release",
            Outcome::Cancel => "cancel",
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
    context.with_attempt(grant.attempt)
}

/// One attempt under a policy. Trying again is the job's own business, so the policy never does.
pub(crate) async fn guard<T, Fut: Future<Output = Result<T, JobError>>>(
    target: &Target,
    attempt: impl FnOnce() -> Fut,
) -> Result<T, JobError> {
    let mut attempt = Some(attempt);
    let call = target.call().idempotent(false).upstream_retries(0);
    let ended = call.run(|_| {
        let attempt = attempt.take();
        async move {
            match attempt {
                Some(attempt) => attempt().await,
                None => Err(JobError::retry("the policy began the attempt twice; this is a bug of mainstay")),
            }
        }
    });
    ended.await.map_err(|error| match error {
        PolicyError::Failed { error, .. } => error,
        PolicyError::Refused { later: Some(later), .. } => JobError::snooze(later.after),
        error => JobError::retry(error.told()),
    })
}

fn failed(kind: Option<&str>, message: String, retry: Retry) -> Outcome {
    let error = JobFailure { kind: kind.map(Into::into), message: message.into(), backtrace: None };
    Outcome::Fail { error, retry }
}

fn retryable(error: &StoreError) -> bool {
    error.is_retryable() || error.may_have_happened()
}

//! Between the words of the wire and those of a store.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use mainstay::core::after::{After, AfterFailure, WaitsFor};
use mainstay::core::id::JobId;
use mainstay::core::job::{
    self, DeadReason, FailureRecord, JobBody, JobFailure, JobPolicy, JobRecord, Json, When,
};
use mainstay::core::lease::{LeaseId, Token};
use mainstay::core::name::QueueName;
use mainstay::core::queue;
use mainstay::core::time::Timestamp;
use mainstay::{Client, core};
use mainstay_api::{RawJson, types as wire};

/// The id as a store knows it; `None` for one that no job can have.
pub(crate) fn job_id(id: mainstay_api::JobId) -> Option<JobId> {
    JobId::from_bytes(id.into_bytes()).ok()
}

pub(crate) fn wire_id(id: JobId) -> mainstay_api::JobId {
    mainstay_api::JobId::from_bytes(*id.as_bytes())
}

/// The lease as a store knows it. What never was one becomes one that nobody ever had, so that the store judges it like
/// any other that is lost.
pub(crate) fn lease(text: &str) -> LeaseId {
    LeaseId::parse(text).unwrap_or(LeaseId { token: Token(0), nonce: 0 })
}

pub(crate) fn wire_time(at: Timestamp) -> mainstay_api::Timestamp {
    mainstay_api::Timestamp(at.0)
}

/// Text that was checked when it was read.
pub(crate) fn json(raw: &RawJson) -> Json {
    match std::str::from_utf8(raw.as_bytes()) {
        Ok(text) => text.into(),
        Err(_) => "null".into(),
    }
}

pub(crate) fn raw(json: &Json) -> RawJson {
    RawJson::from_trusted(Bytes::copy_from_slice(json.as_bytes()))
}

pub(crate) fn state(state: job::JobState) -> wire::JobState {
    match state {
        job::JobState::Scheduled => wire::JobState::Scheduled,
        job::JobState::Blocked => wire::JobState::Blocked,
        job::JobState::Available => wire::JobState::Available,
        job::JobState::Running => wire::JobState::Running,
        job::JobState::Retryable => wire::JobState::Retryable,
        job::JobState::Completed => wire::JobState::Completed,
        job::JobState::Cancelled => wire::JobState::Cancelled,
        job::JobState::Dead => wire::JobState::Dead,
    }
}

pub(crate) fn store_state(state: wire::JobState) -> job::JobState {
    match state {
        wire::JobState::Scheduled => job::JobState::Scheduled,
        wire::JobState::Blocked => job::JobState::Blocked,
        wire::JobState::Available => job::JobState::Available,
        wire::JobState::Running => job::JobState::Running,
        wire::JobState::Retryable => job::JobState::Retryable,
        wire::JobState::Completed => job::JobState::Completed,
        wire::JobState::Cancelled => job::JobState::Cancelled,
        wire::JobState::Dead => job::JobState::Dead,
    }
}

/// A job to be made, with an id of the caller's or a new one.
pub(crate) fn new_job(
    store: &Client,
    queue: &QueueName,
    new: wire::NewJob,
    traceparent: Option<&Arc<str>>,
) -> job::NewJob {
    let given = new.id.and_then(job_id);
    let default = JobPolicy::default();
    let policy = JobPolicy {
        max_attempts: new.max_attempts.unwrap_or(default.max_attempts),
        max_crashes: new.max_crashes,
        backoff: new.backoff.as_ref().map_or(default.backoff, backoff),
        timeout_ms: new.timeout_ms,
        retain_ms: new.retain_ms,
    };
    let at = |at: mainstay_api::Timestamp| When::At(Timestamp(at.0));
    job::NewJob {
        id: given.unwrap_or_else(|| store.new_id(queue)),
        caller_id: given.is_some(),
        queue: queue.clone(),
        body: Arc::new(JobBody {
            kind: new.kind.into(),
            payload: new.payload.as_ref().map_or_else(|| "null".into(), json),
            meta: new.meta.as_ref().map(json),
            tags: new.tags.into_iter().map(Arc::from).collect(),
            traceparent: traceparent.cloned(),
            after: None,
            unique_for_ms: None,
        }),
        priority: new.priority.unwrap_or(wire::DEFAULT_PRIORITY),
        run_at: new.run_at.map(at).or(new.delay_ms.map(When::In)),
        expires: new.expires_at.map(at).or(new.expires_in_ms.map(When::In)),
        policy,
        unique: new.unique.map(|unique| job::Unique { key: unique.key.into(), for_ms: unique.for_ms }),
        after: new.after.into_iter().map(after).collect(),
        after_failure: match new.after_failure.unwrap_or_default() {
            wire::AfterFailure::Wait => AfterFailure::Wait,
            wire::AfterFailure::Cancel => AfterFailure::Cancel,
            wire::AfterFailure::Run => AfterFailure::Run,
        },
        keys: job::JobKeys {
            concurrency: new.concurrency_key.map(Arc::from),
            fairness: new.fairness_key.map(Arc::from),
        },
    }
}

fn after(named: wire::AfterRef) -> After {
    match named {
        // The store says of what can be no job's id that no job has it, and where it stands.
        wire::AfterRef::Job(id) => After::Job(job_id(id).unwrap_or(JobId::MIN)),
        wire::AfterRef::Local(index) => After::Op(index),
    }
}

fn wire_after(after: Option<&WaitsFor>) -> (Vec<wire::AfterRef>, Option<wire::AfterFailure>) {
    let Some(after) = after else { return (Vec::new(), None) };
    let failure = match after.failure {
        AfterFailure::Wait => wire::AfterFailure::Wait,
        AfterFailure::Cancel => wire::AfterFailure::Cancel,
        AfterFailure::Run => wire::AfterFailure::Run,
    };
    (after.jobs.iter().map(|id| wire::AfterRef::Job(wire_id(*id))).collect(), Some(failure))
}

/// Thousandths as a number from 0 to 1.
pub(crate) fn pressure(thousandths: Option<u16>) -> Option<f64> {
    thousandths.map(|thousandths| f64::from(thousandths) / 1_000.0)
}

/// A job to be made, as it would be asked for: what differs from the defaults.
pub(crate) fn template(job: &job::NewJob) -> wire::NewJob {
    let default = JobPolicy::default();
    let policy = &job.policy;
    let after = |when: Option<When>| match when {
        Some(When::In(ms)) => Some(ms),
        _ => None,
    };
    wire::NewJob {
        kind: job.body.kind.to_string(),
        payload: Some(raw(&job.body.payload)),
        priority: Some(job.priority),
        delay_ms: after(job.run_at),
        max_attempts: Some(policy.max_attempts),
        max_crashes: policy.max_crashes,
        backoff: (policy.backoff != default.backoff).then(|| wire_backoff(&policy.backoff)),
        timeout_ms: policy.timeout_ms,
        expires_in_ms: after(job.expires),
        unique: job
            .unique
            .as_ref()
            .map(|unique| wire::Unique { key: unique.key.to_string(), for_ms: unique.for_ms }),
        tags: job.body.tags.iter().map(ToString::to_string).collect(),
        meta: job.body.meta.as_ref().map(raw),
        retain_ms: policy.retain_ms,
        concurrency_key: job.keys.concurrency.as_deref().map(str::to_owned),
        fairness_key: job.keys.fairness.as_deref().map(str::to_owned),
        ..wire::NewJob::default()
    }
}

pub(crate) fn backoff(backoff: &wire::Backoff) -> job::Backoff {
    job::Backoff {
        base_ms: backoff.base_ms,
        factor_milli: (backoff.factor * 1_000.0).round() as u64,
        max_ms: backoff.max_ms,
        jitter: match backoff.jitter {
            wire::Jitter::Full => job::Jitter::Full,
            wire::Jitter::Equal => job::Jitter::Equal,
            wire::Jitter::None => job::Jitter::None,
        },
    }
}

pub(crate) fn wire_backoff(backoff: &job::Backoff) -> wire::Backoff {
    wire::Backoff {
        base_ms: backoff.base_ms,
        factor: backoff.factor_milli as f64 / 1_000.0,
        max_ms: backoff.max_ms,
        jitter: match backoff.jitter {
            job::Jitter::Full => wire::Jitter::Full,
            job::Jitter::Equal => wire::Jitter::Equal,
            job::Jitter::None => wire::Jitter::None,
        },
    }
}

pub(crate) fn failure(failure: wire::JobFailure) -> job::JobFailure {
    job::JobFailure {
        kind: failure.kind.map(Arc::from),
        message: failure.message.into(),
        backtrace: failure.backtrace.map(Arc::from),
    }
}

pub(crate) fn retry(retry: wire::Retry) -> job::Retry {
    match retry {
        wire::Retry::Auto => job::Retry::Auto,
        wire::Retry::Never => job::Retry::Never,
        wire::Retry::After(ms) => job::Retry::After(ms),
    }
}

pub(crate) fn attempt_error(record: &job::FailureRecord) -> wire::AttemptError {
    wire::AttemptError {
        attempt: record.attempt,
        at: wire_time(record.at),
        kind: record.failure.kind.as_deref().map(str::to_owned),
        message: record.failure.message.to_string(),
        backtrace: record.failure.backtrace.as_deref().map(str::to_owned),
    }
}

/// The last failure of a job.
/// Why a dead letter is dead, in words: the last failure, or what ended it without one.
pub(crate) fn last_error(job: &JobRecord) -> Option<wire::AttemptError> {
    let ended = |kind: &str, message: String| FailureRecord {
        attempt: job.attempt,
        at: job.finished_at.unwrap_or(job.created_at),
        failure: JobFailure { kind: Some(kind.into()), message: message.into(), backtrace: None },
    };
    match job.reason {
        Some(DeadReason::Crashed) => {
            let message = format!("its lease ran out {} times: the worker died or stalled", job.crashes);
            Some(attempt_error(&ended("crashed", message)))
        }
        Some(DeadReason::Expired) if job.failures.is_empty() => {
            let message = "it expired before it could be handed out".to_owned();
            Some(attempt_error(&ended("expired", message)))
        }
        _ => job.failures.last().map(attempt_error),
    }
}

pub(crate) fn enqueued(enqueued: &core::op::Enqueued) -> wire::Enqueued {
    wire::Enqueued {
        id: wire_id(enqueued.id),
        queue: enqueued.queue.to_string(),
        kind: enqueued.kind.as_deref().unwrap_or_default().to_owned(),
        state: state(enqueued.state),
        priority: enqueued.priority,
        run_at: wire_time(enqueued.run_at),
        created_at: wire_time(enqueued.created_at),
        deduplicated: enqueued.deduplicated,
        pressure: pressure(enqueued.pressure),
    }
}

/// The whole job. How many crashes it survives may be its queue's to say.
pub(crate) fn job_view(job: &JobRecord, max_crashes: u32) -> wire::JobView {
    let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
    let (after, after_failure) = wire_after(job.body.after.as_ref());
    wire::JobView {
        id: wire_id(job.id),
        queue: job.queue.to_string(),
        kind: job.body.kind.to_string(),
        state: state(job.state),
        payload: raw(&job.body.payload),
        priority: job.priority,
        attempt: job.attempt,
        max_attempts: job.policy.max_attempts,
        crashes: job.crashes,
        max_crashes,
        run_at: wire_time(job.run_at),
        created_at: wire_time(job.created_at),
        finished_at: job.finished_at.map(wire_time),
        backoff: wire_backoff(&job.policy.backoff),
        timeout_ms: job.policy.timeout_ms,
        expires_at: job.expires_at.map(wire_time),
        unique: text(&job.unique_key).map(|key| wire::Unique { key, for_ms: job.body.unique_for_ms }),
        concurrency_key: text(&job.keys.concurrency),
        fairness_key: text(&job.keys.fairness),
        after,
        after_failure,
        waiting_for: (job.state == job::JobState::Blocked).then_some(job.waiting_for),
        tags: job.body.tags.iter().map(ToString::to_string).collect(),
        meta: job.body.meta.as_ref().map_or(RawJson::EMPTY_OBJECT, raw),
        retain_ms: job.policy.retain_ms,
        traceparent: text(&job.body.traceparent),
        worker: job.worker.as_ref().map(ToString::to_string),
        token: job.token.map(|token| token.0),
        lease_expires_at: job.lease_expires_at.map(wire_time),
        progress: job.progress.as_ref().map_or(RawJson::NULL, raw),
        result: result(job),
        errors: job.failures.iter().map(attempt_error).collect(),
        cancel_requested: job.cancel_requested,
        reason: job.reason.map(dead_reason),
        error: None,
    }
}

pub(crate) fn dead_reason(reason: DeadReason) -> wire::DeadReason {
    match reason {
        DeadReason::Exhausted => wire::DeadReason::Exhausted,
        DeadReason::Permanent => wire::DeadReason::Permanent,
        DeadReason::Crashed => wire::DeadReason::Crashed,
        DeadReason::Expired => wire::DeadReason::Expired,
    }
}

/// What came out of a completed job; nothing else has a result.
fn result(job: &JobRecord) -> Option<RawJson> {
    let completed = job.state == job::JobState::Completed;
    completed.then(|| job.result.as_ref().map_or(RawJson::NULL, raw))
}

/// The result of a finished job, if only as `null`.
pub(crate) fn finished_result(job: &JobRecord) -> RawJson {
    result(job).unwrap_or(RawJson::NULL)
}

/// How many crashes jobs of each queue survive that do not say themselves; each queue is asked once.
#[derive(Default)]
pub(crate) struct MaxCrashes(HashMap<QueueName, u32>);

impl MaxCrashes {
    /// Of this job.
    ///
    /// # Errors
    /// The store's.
    pub async fn of(&mut self, job: &JobRecord, store: &Client) -> Result<u32, mainstay::StoreError> {
        if let Some(own) = job.policy.max_crashes {
            return Ok(own);
        }
        if let Some(known) = self.0.get(&job.queue) {
            return Ok(*known);
        }
        let of_queue = store.queue(&job.queue).await?.and_then(|queue| queue.config.max_crashes);
        let value = of_queue.unwrap_or(wire::DEFAULT_MAX_CRASHES);
        self.0.insert(job.queue.clone(), value);
        Ok(value)
    }
}

pub(crate) fn queue_config(config: &wire::QueueConfig) -> queue::QueueConfig {
    let default = queue::Retention::default();
    let retention = config.retention.unwrap_or_default();
    queue::QueueConfig {
        max_depth: config.max_depth,
        overflow: match config.overflow.unwrap_or_default() {
            wire::Overflow::Reject => queue::Overflow::Reject,
            wire::Overflow::DropOldest => queue::Overflow::DropOldest,
        },
        max_age_ms: config.max_age_ms,
        max_crashes: config.max_crashes,
        retention: queue::Retention {
            completed_ms: retention.completed_ms.unwrap_or(default.completed_ms),
            completed_count: retention.completed_count.unwrap_or(default.completed_count),
            dead_ms: retention.dead_ms.unwrap_or(default.dead_ms),
        },
        concurrency: config.concurrency,
        key_concurrency: config.key_concurrency,
        rate: config.rate.map(|wire::Rate { per_ms, count }| queue::Rate { per_ms, count }),
        fairness: config.fairness.as_ref().map(fairness),
        ageing_ms: config.ageing_ms,
    }
}

/// Weights are exact to a thousandth.
fn fairness(fairness: &wire::Fairness) -> queue::Fairness {
    let milli = |weight: f64| ((weight * 1_000.0).round() as u32).clamp(1, queue::MAX_WEIGHT);
    let weights = fairness.weights.iter().map(|(key, weight)| (Arc::from(key.as_str()), milli(*weight)));
    queue::Fairness { weights: Arc::new(weights.collect()) }
}

fn wire_fairness(fairness: &queue::Fairness) -> wire::Fairness {
    let weights = fairness.weights.iter().map(|(key, milli)| (key.to_string(), f64::from(*milli) / 1_000.0));
    wire::Fairness { by: wire::FairnessBy::FairnessKey, weights: weights.collect() }
}

pub(crate) fn queue_view(queue: &queue::QueueRecord) -> wire::QueueView {
    let (depth, config) = (queue.depth, &queue.config);
    wire::QueueView {
        name: queue.name.to_string(),
        paused: queue.paused,
        depth: wire::Depth {
            scheduled: depth.scheduled,
            blocked: depth.blocked,
            available: depth.available,
            running: depth.running,
            retryable: depth.retryable,
            dead: depth.dead,
        },
        oldest_available_age_ms: queue.oldest_available_age_ms,
        config: wire::QueueConfig {
            max_depth: config.max_depth,
            overflow: Some(match config.overflow {
                queue::Overflow::Reject => wire::Overflow::Reject,
                queue::Overflow::DropOldest => wire::Overflow::DropOldest,
            }),
            max_age_ms: config.max_age_ms,
            max_crashes: config.max_crashes,
            retention: Some(wire::Retention {
                completed_ms: Some(config.retention.completed_ms),
                completed_count: Some(config.retention.completed_count),
                dead_ms: Some(config.retention.dead_ms),
            }),
            concurrency: config.concurrency,
            key_concurrency: Some(config.key_concurrency.unwrap_or(1)),
            rate: config.rate.map(|queue::Rate { per_ms, count }| wire::Rate { per_ms, count }),
            fairness: config.fairness.as_ref().map(wire_fairness),
            ageing_ms: config.ageing_ms,
        },
        totals: queue.totals.map(|totals| wire::Totals {
            enqueued: totals.enqueued,
            completed: totals.completed,
            cancelled: totals.cancelled,
            dead: totals.dead,
        }),
    }
}

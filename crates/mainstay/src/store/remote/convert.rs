//! From the words of the wire to those of a store, and back.

use std::sync::Arc;

use bytes::Bytes;
use mainstay_api::{RawJson, types as wire};
use mainstay_core::{
    Error, ErrorKind,
    after::{After, AfterFailure, WaitsFor},
    id::JobId,
    job::{
        Backoff, DeadReason, FailureRecord, Grant, Jitter, JobBody, JobFailure, JobKeys, JobPolicy,
        JobRecord, JobState, Json, NewJob, Outcome, Retry, When,
    },
    lease::{LeaseId, Token},
    name::{Name, QueueName},
    op::Enqueued,
    queue::{Depth, Fairness, MAX_WEIGHT, Overflow, QueueConfig, QueueRecord, Rate, Retention, Totals},
    time::Timestamp,
};

type Read<T> = Result<T, Error>;

/// An answer that no server of ours gives.
pub(super) fn senseless(what: &str, got: impl std::fmt::Display) -> Error {
    let message =
        format!("the server answered a {what} that makes no sense: {got}; is it a mainstay server?");
    Error::unknown(ErrorKind::Unavailable, message)
}

pub(super) fn wire_id(id: JobId) -> mainstay_api::JobId {
    mainstay_api::JobId::from_bytes(*id.as_bytes())
}

pub(super) fn job_id(id: mainstay_api::JobId) -> Read<JobId> {
    JobId::from_bytes(id.into_bytes()).map_err(|_| senseless("job id", id))
}

pub(super) fn name(text: &str) -> Read<Name> {
    Name::new(text).map_err(|_| senseless("name", text))
}

pub(super) fn lease(text: &str) -> Read<LeaseId> {
    LeaseId::parse(text).map_err(|_| senseless("lease", "it is kept to itself"))
}

fn time(at: mainstay_api::Timestamp) -> Timestamp {
    Timestamp(at.0)
}

fn wire_time(at: Timestamp) -> mainstay_api::Timestamp {
    mainstay_api::Timestamp(at.0)
}

pub(super) fn json(raw: &RawJson) -> Json {
    // The client has read it as JSON, which is UTF-8.
    String::from_utf8_lossy(raw.as_bytes()).into()
}

pub(super) fn raw(json: &Json) -> RawJson {
    RawJson::from_trusted(Bytes::copy_from_slice(json.as_bytes()))
}

fn unless_null(raw: &RawJson) -> Option<Json> {
    (!raw.is_null()).then(|| json(raw))
}

pub(super) fn state(state: wire::JobState) -> JobState {
    match state {
        wire::JobState::Scheduled => JobState::Scheduled,
        wire::JobState::Blocked => JobState::Blocked,
        wire::JobState::Available => JobState::Available,
        wire::JobState::Running => JobState::Running,
        wire::JobState::Retryable => JobState::Retryable,
        wire::JobState::Completed => JobState::Completed,
        wire::JobState::Cancelled => JobState::Cancelled,
        wire::JobState::Dead => JobState::Dead,
    }
}

pub(super) fn wire_state(state: JobState) -> wire::JobState {
    match state {
        JobState::Scheduled => wire::JobState::Scheduled,
        JobState::Blocked => wire::JobState::Blocked,
        JobState::Available => wire::JobState::Available,
        JobState::Running => wire::JobState::Running,
        JobState::Retryable => wire::JobState::Retryable,
        JobState::Completed => wire::JobState::Completed,
        JobState::Cancelled => wire::JobState::Cancelled,
        JobState::Dead => wire::JobState::Dead,
    }
}

pub(super) fn backoff(backoff: &wire::Backoff) -> Backoff {
    Backoff {
        base_ms: backoff.base_ms,
        factor_milli: (backoff.factor * 1_000.0).round() as u64,
        max_ms: backoff.max_ms,
        jitter: match backoff.jitter {
            wire::Jitter::Full => Jitter::Full,
            wire::Jitter::Equal => Jitter::Equal,
            wire::Jitter::None => Jitter::None,
        },
    }
}

pub(super) fn wire_backoff(backoff: &Backoff) -> wire::Backoff {
    wire::Backoff {
        base_ms: backoff.base_ms,
        factor: backoff.factor_milli as f64 / 1_000.0,
        max_ms: backoff.max_ms,
        jitter: match backoff.jitter {
            Jitter::Full => wire::Jitter::Full,
            Jitter::Equal => wire::Jitter::Equal,
            Jitter::None => wire::Jitter::None,
        },
    }
}

/// A job to be made. Under a key an id that nobody chose is the server's to make: then a commit that is built anew says
/// the same. Without one the id goes along, and makes a repeated call harmless.
pub(super) fn new_job(job: &NewJob, keyed: bool) -> wire::NewJob {
    // Named one by one: a field that is new is not to be lost on the way.
    let NewJob {
        id,
        caller_id,
        queue: _,
        body,
        priority,
        run_at,
        expires,
        policy,
        unique,
        after,
        after_failure,
        keys,
    } = job;
    let at = |when: &Option<When>| match when {
        Some(When::At(at)) => (Some(wire_time(*at)), None),
        Some(When::In(ms)) => (None, Some(*ms)),
        None => (None, None),
    };
    let ((run_at, delay_ms), (expires_at, expires_in_ms)) = (at(run_at), at(expires));
    wire::NewJob {
        kind: body.kind.to_string(),
        id: (*caller_id || !keyed).then(|| wire_id(*id)),
        payload: Some(raw(&body.payload)),
        priority: Some(*priority),
        run_at,
        delay_ms,
        max_attempts: Some(policy.max_attempts),
        max_crashes: policy.max_crashes,
        backoff: Some(wire_backoff(&policy.backoff)),
        timeout_ms: policy.timeout_ms,
        expires_at,
        expires_in_ms,
        unique: unique
            .as_ref()
            .map(|unique| wire::Unique { key: unique.key.to_string(), for_ms: unique.for_ms }),
        tags: body.tags.iter().map(ToString::to_string).collect(),
        meta: body.meta.as_ref().map(raw),
        retain_ms: policy.retain_ms,
        after: after.iter().map(wire_after).collect(),
        after_failure: (!after.is_empty()).then(|| wire_after_failure(*after_failure)),
        concurrency_key: keys.concurrency.as_deref().map(str::to_owned),
        fairness_key: keys.fairness.as_deref().map(str::to_owned),
    }
}

fn wire_after(after: &After) -> wire::AfterRef {
    match after {
        After::Job(id) => wire::AfterRef::Job(wire_id(*id)),
        After::Op(index) => wire::AfterRef::Local(*index),
    }
}

fn wire_after_failure(word: AfterFailure) -> wire::AfterFailure {
    match word {
        AfterFailure::Wait => wire::AfterFailure::Wait,
        AfterFailure::Cancel => wire::AfterFailure::Cancel,
        AfterFailure::Run => wire::AfterFailure::Run,
    }
}

fn waits_for(view: &wire::JobView) -> Read<Option<WaitsFor>> {
    let ids = view.after.iter().filter_map(|after| match after {
        wire::AfterRef::Job(id) => Some(job_id(*id)),
        wire::AfterRef::Local(_) => None,
    });
    let jobs = ids.collect::<Read<Vec<_>>>()?;
    if jobs.is_empty() {
        return Ok(None);
    }
    let failure = match view.after_failure.unwrap_or_default() {
        wire::AfterFailure::Wait => AfterFailure::Wait,
        wire::AfterFailure::Cancel => AfterFailure::Cancel,
        wire::AfterFailure::Run => AfterFailure::Run,
    };
    Ok(Some(WaitsFor { jobs: jobs.into(), failure }))
}

pub(super) fn enqueued(answer: &wire::Enqueued) -> Read<Enqueued> {
    Ok(Enqueued {
        id: job_id(answer.id)?,
        n: 0,
        queue: name(&answer.queue)?,
        kind: Some(answer.kind.as_str().into()),
        state: state(answer.state),
        priority: answer.priority,
        run_at: time(answer.run_at),
        created_at: time(answer.created_at),
        deduplicated: answer.deduplicated,
        pressure: answer.pressure.map(|pressure| (pressure * 1_000.0).round() as u16),
    })
}

pub(super) fn grant(job: &wire::ClaimedJob) -> Read<Grant> {
    let policy =
        JobPolicy { max_attempts: job.max_attempts, timeout_ms: job.timeout_ms, ..JobPolicy::default() };
    Ok(Grant {
        id: job_id(job.id)?,
        n: 0,
        queue: name(&job.queue)?,
        priority: job.priority,
        attempt: job.attempt,
        crashes: job.crashes,
        policy,
        created_at: time(job.created_at),
        lease: lease(&job.lease)?,
        expires_at: time(job.expires_at),
        body: Some(Arc::new(body(&job.kind, &job.payload, &job.meta, &job.tags, job.traceparent.as_deref()))),
    })
}

fn body(kind: &str, payload: &RawJson, meta: &RawJson, tags: &[String], trace: Option<&str>) -> JobBody {
    JobBody {
        kind: kind.into(),
        payload: json(payload),
        meta: (*meta != RawJson::EMPTY_OBJECT).then(|| json(meta)),
        tags: tags.iter().map(|tag| tag.as_str().into()).collect(),
        traceparent: trace.map(Into::into),
        after: None,
        unique_for_ms: None,
    }
}

pub(super) fn record(view: &wire::JobView) -> Read<JobRecord> {
    let failure = |error: &wire::AttemptError| FailureRecord {
        attempt: error.attempt,
        at: time(error.at),
        failure: JobFailure {
            kind: error.kind.as_deref().map(Into::into),
            message: error.message.as_str().into(),
            backtrace: error.backtrace.as_deref().map(Into::into),
        },
    };
    let body = body(&view.kind, &view.payload, &view.meta, &view.tags, view.traceparent.as_deref());
    let unique_for_ms = view.unique.as_ref().and_then(|unique| unique.for_ms);
    Ok(JobRecord {
        id: job_id(view.id)?,
        queue: name(&view.queue)?,
        state: state(view.state),
        body: Arc::new(JobBody { after: waits_for(view)?, unique_for_ms, ..body }),
        priority: view.priority,
        run_at: time(view.run_at),
        attempt: view.attempt,
        crashes: view.crashes,
        policy: JobPolicy {
            max_attempts: view.max_attempts,
            max_crashes: Some(view.max_crashes),
            backoff: backoff(&view.backoff),
            timeout_ms: view.timeout_ms,
            retain_ms: view.retain_ms,
        },
        created_at: time(view.created_at),
        expires_at: view.expires_at.map(time),
        waiting_for: view.waiting_for.unwrap_or(0),
        keys: JobKeys {
            concurrency: view.concurrency_key.as_deref().map(Into::into),
            fairness: view.fairness_key.as_deref().map(Into::into),
        },
        unique_key: view.unique.as_ref().map(|unique| unique.key.as_str().into()),
        token: view.token.map(Token),
        lease_expires_at: view.lease_expires_at.map(time),
        worker: view.worker.as_deref().map(name).transpose()?,
        cancel_requested: view.cancel_requested,
        progress: unless_null(&view.progress),
        result: view.result.as_ref().and_then(unless_null),
        failures: view.errors.iter().map(failure).collect(),
        finished_at: view.finished_at.map(time),
        reason: view.reason.map(|reason| match reason {
            wire::DeadReason::Exhausted => DeadReason::Exhausted,
            wire::DeadReason::Permanent => DeadReason::Permanent,
            wire::DeadReason::Crashed => DeadReason::Crashed,
            wire::DeadReason::Expired => DeadReason::Expired,
        }),
    })
}

pub(super) fn failure(failure: &JobFailure) -> wire::JobFailure {
    wire::JobFailure {
        kind: failure.kind.as_deref().map(str::to_owned),
        message: failure.message.to_string(),
        backtrace: failure.backtrace.as_deref().map(str::to_owned),
    }
}

pub(super) fn retry(retry: Retry) -> wire::Retry {
    match retry {
        Retry::Auto => wire::Retry::Auto,
        Retry::Never => wire::Retry::Never,
        Retry::After(ms) => wire::Retry::After(ms),
    }
}

pub(super) fn outcome(outcome: &Outcome) -> wire::SettleOutcome {
    match outcome {
        Outcome::Complete { result } => wire::SettleOutcome::Complete { result: result.as_ref().map(raw) },
        Outcome::Fail { error, retry: again } => {
            wire::SettleOutcome::Fail { error: failure(error), retry: retry(*again) }
        }
        Outcome::Release { delay_ms } => wire::SettleOutcome::Release { delay_ms: *delay_ms },
        Outcome::Cancel { error } => wire::SettleOutcome::Cancel { error: error.as_ref().map(failure) },
    }
}

pub(super) fn wire_config(config: &QueueConfig) -> wire::QueueConfig {
    wire::QueueConfig {
        max_depth: config.max_depth,
        overflow: Some(match config.overflow {
            Overflow::Reject => wire::Overflow::Reject,
            Overflow::DropOldest => wire::Overflow::DropOldest,
        }),
        max_age_ms: config.max_age_ms,
        max_crashes: config.max_crashes,
        retention: Some(wire::Retention {
            completed_ms: Some(config.retention.completed_ms),
            completed_count: Some(config.retention.completed_count),
            dead_ms: Some(config.retention.dead_ms),
        }),
        concurrency: config.concurrency,
        key_concurrency: config.key_concurrency,
        rate: config.rate.map(|Rate { per_ms, count }| wire::Rate { per_ms, count }),
        fairness: config.fairness.as_ref().map(|fairness| wire::Fairness {
            by: wire::FairnessBy::FairnessKey,
            weights: fairness
                .weights
                .iter()
                .map(|(key, milli)| (key.to_string(), f64::from(*milli) / 1_000.0))
                .collect(),
        }),
        ageing_ms: config.ageing_ms,
    }
}

/// Weights are exact to a thousandth.
fn fairness(fairness: &wire::Fairness) -> Fairness {
    let milli = |weight: f64| ((weight * 1_000.0).round() as u32).clamp(1, MAX_WEIGHT);
    let weights = fairness.weights.iter().map(|(key, weight)| (Arc::from(key.as_str()), milli(*weight)));
    Fairness { weights: Arc::new(weights.collect()) }
}

pub(super) fn queue(view: &wire::QueueView) -> Read<QueueRecord> {
    let (depth, config) = (view.depth, &view.config);
    let retention = config.retention.unwrap_or_default();
    let default = Retention::default();
    let name: QueueName = name(&view.name)?;
    Ok(QueueRecord {
        name,
        paused: view.paused,
        depth: Depth {
            scheduled: depth.scheduled,
            blocked: depth.blocked,
            available: depth.available,
            running: depth.running,
            retryable: depth.retryable,
            dead: depth.dead,
        },
        oldest_available_age_ms: view.oldest_available_age_ms,
        totals: view.totals.map(|totals| Totals {
            enqueued: totals.enqueued,
            completed: totals.completed,
            cancelled: totals.cancelled,
            dead: totals.dead,
        }),
        config: QueueConfig {
            max_depth: config.max_depth,
            overflow: match config.overflow.unwrap_or_default() {
                wire::Overflow::Reject => Overflow::Reject,
                wire::Overflow::DropOldest => Overflow::DropOldest,
            },
            max_age_ms: config.max_age_ms,
            max_crashes: config.max_crashes,
            retention: Retention {
                completed_ms: retention.completed_ms.unwrap_or(default.completed_ms),
                completed_count: retention.completed_count.unwrap_or(default.completed_count),
                dead_ms: retention.dead_ms.unwrap_or(default.dead_ms),
            },
            concurrency: config.concurrency,
            // The server says 1 where nothing was said.
            key_concurrency: config.key_concurrency.filter(|bound| *bound != 1),
            rate: config.rate.map(|wire::Rate { per_ms, count }| Rate { per_ms, count }),
            fairness: config.fairness.as_ref().map(fairness),
            ageing_ms: config.ageing_ms,
        },
    })
}

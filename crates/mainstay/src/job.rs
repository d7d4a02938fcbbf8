//! Jobs as a program sees them: a type with two constants, and the error a handler answers with.

use std::{sync::Arc, time::Duration};

use mainstay_core::{
    after::{After, AfterFailure},
    id::JobId,
    job::{Backoff, JobBody, JobFailure, JobKeys, JobPolicy, NewJob, Unique, When},
    name::QueueName,
    time::Timestamp,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    client::{Client, Full, StoreError},
    context::Context,
    event::Hopeless,
    policy::{Later, PolicyError},
};

/// A kind of work. An enqueue takes the [`Context`] along, but for its deadline, and every attempt runs in it. The type is the payload; the constants say what it is called and where it goes.
pub trait Job: Serialize + DeserializeOwned + Send + 'static {
    /// Names the kind for the worker that picks a handler: 1–256 bytes, unique within the service.
    const KIND: &'static str;
    /// The queue it goes to, unless [`JobBuilder::queue`] says otherwise.
    const QUEUE: &'static str;

    /// The rules it is run by. Defaults to [`JobPolicy::default`]: 20 attempts, exponential back-off from 1 s to 1 h
    /// with full jitter.
    fn policy() -> JobPolicy {
        JobPolicy::default()
    }

    /// The job with options.
    fn with(self) -> JobBuilder
    where
        Self: Sized,
    {
        JobBuilder::new(&self)
    }
}

/// A job with options, ready to be enqueued.
#[derive(Clone, Debug)]
#[must_use = "a job is enqueued by `Client::enqueue` or in a commit"]
pub struct JobBuilder {
    kind: String,
    payload: Result<String, String>,
    queue: String,
    id: Option<JobId>,
    priority: u8,
    run_at: Option<When>,
    expires: Option<When>,
    policy: JobPolicy,
    unique: Option<Unique>,
    keys: JobKeys,
    tags: Vec<Arc<str>>,
    after: Vec<After>,
    after_failure: AfterFailure,
}

impl JobBuilder {
    fn new<J: Job>(job: &J) -> JobBuilder {
        JobBuilder {
            kind: J::KIND.to_owned(),
            payload: serde_json::to_string(job).map_err(|error| error.to_string()),
            queue: J::QUEUE.to_owned(),
            id: None,
            priority: 5,
            run_at: None,
            expires: None,
            policy: J::policy(),
            unique: None,
            keys: JobKeys::default(),
            tags: Vec::new(),
            after: Vec::new(),
            after_failure: AfterFailure::Wait,
        }
    }

    /// Another queue than the kind's.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = queue.into();
        self
    }

    /// An id of the caller's (a UUIDv7): a job that exists already is not added again.
    pub fn id(mut self, id: JobId) -> Self {
        self.id = Some(id);
        self
    }

    /// 0…9, lower first. Defaults to 5.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Not before this much time has passed.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.run_at = Some(When::In(ms(delay)));
        self
    }

    /// Not before this instant.
    pub fn run_at(mut self, at: Timestamp) -> Self {
        self.run_at = Some(When::At(at));
        self
    }

    /// Never handed out after this much time: then it is a dead letter, reason `expired`.
    pub fn expires_in(mut self, after: Duration) -> Self {
        self.expires = Some(When::In(ms(after)));
        self
    }

    /// Failures and crashes before it is dead. Defaults to the kind's policy.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.policy.max_attempts = attempts;
        self
    }

    /// The wait between attempts. Defaults to the kind's policy.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.policy.backoff = backoff;
        self
    }

    /// How long one attempt may take. Defaults to the kind's policy, which has no limit.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.policy.timeout_ms = Some(ms(limit));
        self
    }

    /// At most one unfinished job of the queue holds this key.
    pub fn unique(mut self, key: impl Into<Arc<str>>) -> Self {
        self.unique = Some(Unique { key: key.into(), for_ms: None });
        self
    }

    /// Not before this job has completed: one that exists ([`JobId`]), or one that the same commit adds before it
    /// ([`CommitBuilder::add`](crate::client::CommitBuilder::add)). May be called again, for up to 10,000 jobs.
    ///
    /// The job is `blocked` until all of them have completed. One that is cancelled, deleted or forgotten cancels it;
    /// [`after_failure`](JobBuilder::after_failure) is about one that is dead.
    pub fn after(mut self, job: impl Into<After>) -> Self {
        self.after.push(job.into());
        self
    }

    /// What it means that a job it waits for is dead. Defaults to [`AfterFailure::Wait`]: the dead one may be requeued.
    pub fn after_failure(mut self, what: AfterFailure) -> Self {
        self.after_failure = what;
        self
    }

    /// Jobs of the queue with this key, 1 to 256 bytes, run one at a time, or as many as the queue's
    /// `key_concurrency` says. Order within a key is that of the queue; one that waits for its back-off does not hold
    /// the others up.
    pub fn concurrency_key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.keys.concurrency = Some(key.into());
        self
    }

    /// Whose turn it counts for, 1 to 256 bytes, in a queue with [`fairness`](mainstay_core::queue::QueueConfig).
    pub fn fairness_key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.keys.fairness = Some(key.into());
        self
    }

    /// A word to find it by.
    pub fn tag(mut self, tag: impl Into<Arc<str>>) -> Self {
        self.tags.push(tag.into());
        self
    }
}

/// What can be enqueued: a [`Job`], or one with options.
pub trait IntoNewJob {
    /// The job as the store takes it.
    ///
    /// # Errors
    /// A name or a payload that is not valid, named.
    fn into_new_job(self, client: &Client) -> Result<NewJob, StoreError>;
}

impl<J: Job> IntoNewJob for J {
    fn into_new_job(self, client: &Client) -> Result<NewJob, StoreError> {
        JobBuilder::new(&self).into_new_job(client)
    }
}

impl IntoNewJob for JobBuilder {
    fn into_new_job(self, client: &Client) -> Result<NewJob, StoreError> {
        let queue = QueueName::new(&self.queue)
            .map_err(|error| StoreError::invalid("queue", format!("`{}`: {error}", self.queue)))?;
        if self.kind.is_empty() || self.kind.len() > 256 {
            return Err(StoreError::invalid("kind", "has 1 to 256 bytes"));
        }
        let payload = self.payload.map_err(|error| StoreError::invalid("payload", error))?;
        let mut body = JobBody { tags: self.tags, ..JobBody::new(&self.kind, &payload) };
        // What the attempt will be found by, and go on with.
        Context::current().put_into(&mut body);
        Ok(NewJob {
            id: self.id.unwrap_or_else(|| client.new_id(&queue)),
            caller_id: self.id.is_some(),
            queue,
            body: Arc::new(body),
            priority: self.priority,
            run_at: self.run_at,
            expires: self.expires,
            policy: self.policy,
            unique: self.unique,
            after: self.after,
            after_failure: self.after_failure,
            keys: self.keys,
        })
    }
}

/// How a handler says no. Any error becomes a retry by the job's policy, so `?` just works.
///
/// A [`PolicyError`] that knows when to come back puts the job off for that time; if the
/// call was only refused, without spending an attempt. A [`StoreError`] of a full queue puts an event of a group off in
/// the same way; for a job it is a failure like any other, as the job itself may be what the queue is full of.
///
/// It does not implement [`std::error::Error`], because it is made from every one that does.
#[derive(Debug)]
pub struct JobError(pub(crate) Ending);

#[derive(Debug)]
pub(crate) enum Ending {
    Retry {
        kind: Option<String>,
        message: String,
        after: Option<Duration>,
        /// A queue was full, and may have room after this long: for an event of a group that is no failure.
        full: Option<Duration>,
    },
    Permanent {
        message: String,
    },
    Snooze(Duration),
    Cancel,
}

impl JobError {
    /// The attempt failed; try again by the job's policy.
    pub fn retry(message: impl Into<String>) -> JobError {
        JobError(Ending::Retry { kind: None, message: message.into(), after: None, full: None })
    }

    /// The attempt failed; try again after this time, whatever the job's back-off says, while it has attempts left.
    pub fn retry_after(after: Duration, message: impl Into<String>) -> JobError {
        JobError(Ending::Retry { kind: None, message: message.into(), after: Some(after), full: None })
    }

    /// The attempt failed and trying again is useless: the job becomes a dead letter.
    pub fn permanent(message: impl Into<String>) -> JobError {
        JobError(Ending::Permanent { message: message.into() })
    }

    /// Not now: hand the job out again after this time. No attempt is spent.
    pub fn snooze(after: Duration) -> JobError {
        JobError(Ending::Snooze(after))
    }

    /// The work is not wanted any more: the job ends cancelled.
    pub fn cancel() -> JobError {
        JobError(Ending::Cancel)
    }

    /// A failure of a kind that the chassis knows.
    pub(crate) fn failed(kind: &str, message: impl Into<String>) -> JobError {
        JobError(Ending::Retry {
            kind: Some(kind.to_owned()),
            message: message.into(),
            after: None,
            full: None,
        })
    }

    /// What it says.
    pub(crate) fn to_message(&self) -> String {
        match &self.0 {
            Ending::Retry { message, .. } | Ending::Permanent { message } => message.clone(),
            Ending::Snooze(_) => "not now".to_owned(),
            Ending::Cancel => "not wanted any more".to_owned(),
        }
    }
}

impl JobError {
    /// What a policy's answer means for a job: one that was only refused is put off.
    pub(crate) fn of_policy(error: PolicyError<JobError>) -> JobError {
        match error {
            PolicyError::Failed { error, .. } => error,
            PolicyError::Refused { later: Some(later), .. } => JobError::snooze(later.after),
            error => JobError::retry(error.told()),
        }
    }
}

impl<E: std::error::Error> From<E> for JobError {
    fn from(error: E) -> JobError {
        let mut message = error.to_string();
        let (mut later, mut full, mut hopeless) = (None, None, false);
        let mut cause = error.source();
        while let Some(error) = cause {
            later = later.or(error.downcast_ref::<Later>());
            full = full.or(error.downcast_ref::<Full>().map(|full| full.0));
            hopeless |= error.is::<Hopeless>();
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        if hopeless {
            return JobError::permanent(message);
        }
        if let Some(Later { after, attempted: false }) = later {
            return JobError::snooze(*after);
        }
        let kind = std::any::type_name::<E>();
        let kind = kind.rsplit("::").next().unwrap_or(kind);
        JobError(Ending::Retry {
            kind: Some(kind.to_owned()),
            message,
            after: later.map(|later| later.after),
            full,
        })
    }
}

/// Nothing is put off for longer: a century, which every server takes.
pub(crate) const FAR: Duration = crate::secs(100 * 365 * 86_400);

pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What a server takes as the text of an error, in bytes; what is longer loses its end.
const MAX_MESSAGE: usize = 16 << 10;
/// The same of its type.
const MAX_KIND: usize = 256;

/// A failure as every store takes it.
pub(crate) fn failure(kind: Option<&str>, message: &str) -> JobFailure {
    let kind = kind.map(|kind| start(kind, MAX_KIND)).filter(|kind| !kind.is_empty());
    JobFailure { kind: kind.map(Into::into), message: start(message, MAX_MESSAGE).into(), backtrace: None }
}

/// At most so many bytes of a text, in whole characters.
fn start(text: &str, bytes: usize) -> &str {
    let whole = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..whole.unwrap_or(0)]
}

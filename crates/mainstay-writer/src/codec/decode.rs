//! Changes from the bytes that [`super::encode`] made of them.

use std::{str::FromStr, sync::Arc};

use mainstay_core::{
    JobId, LeaseId, StoreTime, Timestamp, Token,
    engine::change::{
        Change, Counters, Extras, FinishedJob, FinishedKey, Forgotten, Lane, LimitChange, LimitKey, LiveJob,
        LiveLease, Phase, PolicyId, QueueId, SettledLease,
    },
    job::{Backoff, FailureRecord, JobBody, JobFailure, JobKeys, JobPolicy, Json},
    op::IdempotencyKey,
    schedule::ScheduleChange,
};

use super::after;
use super::encode::{CANCEL_REQUESTED, HAS_EXTRAS, HAS_KEYS, RETRYING, tag};
use crate::numbers::{JITTERS, REASONS, STATES, VERBS};

/// What makes no sense.
pub type Nonsense = &'static str;
pub type Result<T> = std::result::Result<T, Nonsense>;

/// The content of a record: its counters, and its changes in order.
pub fn group(bytes: &[u8]) -> Result<(Counters, Vec<Change>)> {
    let mut bytes = Bytes(bytes);
    Ok((bytes.counters()?, changes(bytes.0)?))
}

/// Changes in order, to the end.
pub fn changes(bytes: &[u8]) -> Result<Vec<Change>> {
    let mut bytes = Bytes(bytes);
    let mut changes = Vec::new();
    while !bytes.0.is_empty() {
        changes.push(bytes.change()?);
    }
    Ok(changes)
}

/// One change, and nothing behind it.
pub fn one(bytes: &[u8]) -> Result<Change> {
    whole(bytes, Bytes::change)
}

/// What takes up all the bytes.
pub(super) fn whole<'b, T>(bytes: &'b [u8], read: impl FnOnce(&mut Bytes<'b>) -> Result<T>) -> Result<T> {
    let mut bytes = Bytes(bytes);
    let value = read(&mut bytes)?;
    if bytes.0.is_empty() { Ok(value) } else { Err("more than there should be") }
}

/// What has not been read yet.
pub(super) struct Bytes<'b>(pub(super) &'b [u8]);

impl<'b> Bytes<'b> {
    fn counters(&mut self) -> Result<Counters> {
        let (token, n, f) = (self.u64()?, self.u64()?, self.u64()?);
        let (k, audit, clock) = (self.u64()?, self.u64()?, StoreTime(self.u64()?));
        Ok(Counters { token, n, f, k, audit, clock })
    }

    fn change(&mut self) -> Result<Change> {
        Ok(match self.u8()? {
            put @ (tag::JOB_PUT | after::tag::JOB_PUT_AFTER | tag::JOB_PUT_MORE) => {
                let (job, extras) = self.job_with_extras()?;
                let settled = self.opt(Self::settled)?;
                let mut body = self.opt(Self::body)?;
                if put != tag::JOB_PUT {
                    let body = body.as_mut().ok_or("what belongs to a job, without it")?;
                    if put == tag::JOB_PUT_MORE {
                        body.after = self.opt(Self::after_list)?;
                        body.unique_for_ms = self.opt(Self::u64)?;
                    } else {
                        body.after = Some(self.after_list()?);
                    }
                }
                Change::JobPut { job, extras, settled, body: body.map(Arc::new) }
            }
            tag::JOB_UPDATED => {
                let (job, _) = self.live_job()?;
                let (lease, settled) = (self.opt(Self::lease)?, self.opt(Self::settled)?);
                Change::JobUpdated { job, lease, settled }
            }
            tag::JOB_FINISHED => {
                let key = self.key()?;
                let (job, extras) = self.job_with_extras()?;
                let state = self.one_of(&STATES)?;
                let reason = match self.u8()? {
                    u8::MAX => None,
                    number => Some(*REASONS.get(usize::from(number)).ok_or("an unknown reason")?),
                };
                let (finished_at, settled) = (self.time()?, self.opt(Self::settled)?);
                let finished = FinishedJob { key, job, extras, state, reason, finished_at, settled };
                Change::JobFinished(Arc::new(finished))
            }
            tag::FINISHED_REVIVED => Change::FinishedRevived { key: self.key()?, id: self.job_id()? },
            tag::JOB_REMOVED => Change::JobRemoved { id: self.job_id()?, n: self.u64()? },
            tag::FINISHED_REMOVED => {
                let (key, id, n) = (self.key()?, self.job_id()?, self.u64()?);
                Change::FinishedRemoved(Forgotten { key, id, n, finished_at: self.time()? })
            }
            other => self.rare(other)?,
        })
    }

    fn rare(&mut self, tag: u8) -> Result<Change> {
        Ok(match tag {
            tag::QUEUE => {
                let (id, name, config) = (QueueId(self.u32()?), self.parse()?, self.json()?);
                let flags = self.u8()?;
                Change::Queue { id, name, config, paused: flags & 1 != 0, dropped: flags & 2 != 0 }
            }
            tag::QUEUE_REMOVED => Change::QueueRemoved(QueueId(self.u32()?)),
            tag::POLICY => Change::Policy { id: PolicyId(self.u32()?), policy: self.policy()? },
            tag::POLICY_REMOVED => Change::PolicyRemoved(PolicyId(self.u32()?)),
            tag::RESULT => Change::Result { n: self.u64()?, result: self.shared()? },
            tag::PROGRESS => Change::Progress { n: self.u64()?, progress: self.shared()? },
            tag::FAILURE => {
                let (n, attempt, at) = (self.u64()?, self.u32()?, self.time()?);
                let kind = self.opt(Self::shared)?;
                let (message, backtrace) = (self.shared()?, self.opt(Self::shared)?);
                let failure = JobFailure { kind, message, backtrace };
                Change::Failure { n, record: Box::new(FailureRecord { attempt, at, failure }) }
            }
            tag::UNIQUE => {
                let (queue, key) = (QueueId(self.u32()?), self.shared()?);
                Change::Unique { queue, key, id: self.job_id()?, until: self.opt(Self::time)? }
            }
            tag::UNIQUE_REMOVED => Change::UniqueRemoved { queue: QueueId(self.u32()?), key: self.shared()? },
            tag::LIMIT_HANDED => self.limit(|bytes| Ok(LimitKey::Handed(StoreTime(bytes.u64()?))))?,
            tag::LIMIT_TURN => self.limit(|bytes| Ok(LimitKey::Turn(bytes.opt(Self::shared)?)))?,
            tag::LIMIT_NOW => self.limit(|_| Ok(LimitKey::Now))?,
            tag::KEYED => {
                let k = self.u64()?;
                let key = IdempotencyKey { scope: self.array()?, fingerprint: self.array()? };
                let (at, replies) = (self.time()?, self.json::<Vec<_>>()?);
                Change::Keyed { k, key, at, replies: replies.into() }
            }
            tag::KEYED_FORGOTTEN => Change::KeyedForgotten { up_to: self.u64()? },
            tag::ACCESS_TOKEN => Change::AccessToken(self.json()?),
            tag::ACCESS_TOKEN_REMOVED => Change::AccessTokenRemoved(self.parse()?),
            tag::AUDIT => Change::Audit { number: self.u64()?, record: self.json()? },
            tag::AUDIT_FORGOTTEN => Change::AuditForgotten { up_to: self.u64()? },
            40..=49 => Change::Lock(self.lock_change(tag)?),
            80..=89 => Change::After(self.after_change(tag)?),
            50..=69 => Change::Event(self.event_change(tag)?),
            tag::SCHEDULE_PUT => Change::Schedule(ScheduleChange::Put(self.json()?)),
            tag::SCHEDULE_MOVED => {
                Change::Schedule(ScheduleChange::Moved { name: self.parse()?, state: self.json()? })
            }
            tag::SCHEDULE_REMOVED => Change::Schedule(ScheduleChange::Removed(self.parse()?)),
            _ => return Err("an unknown kind of change"),
        })
    }

    /// A job, and whether keys follow its extras.
    fn live_job(&mut self) -> Result<(LiveJob, bool)> {
        let (id, n) = (self.job_id()?, self.u64()?);
        let (run_at, created_at) = (self.time()?, self.time()?);
        let (queue, policy) = (QueueId(self.u32()?), PolicyId(self.u32()?));
        let (attempt, size, crashes) = (self.u32()?, self.u32()?, self.u32()?);
        let (priority, flags) = (self.u8()?, self.u8()?);
        let phase = Phase::from_u8(flags & 3).ok_or("an unknown phase")?;
        if priority > 9 {
            return Err("a priority that is none");
        }
        let has = |bit: u8| flags & bit != 0;
        let job = LiveJob {
            id,
            n,
            run_at,
            created_at,
            queue,
            policy,
            attempt,
            size,
            crashes,
            priority,
            phase,
            retrying: has(RETRYING),
            cancel_requested: has(CANCEL_REQUESTED),
            has_extras: has(HAS_EXTRAS),
        };
        Ok((job, has(HAS_KEYS)))
    }

    fn job_with_extras(&mut self) -> Result<(LiveJob, Extras)> {
        let (job, has_keys) = self.live_job()?;
        if has_keys && !job.has_extras {
            return Err("keys without what stands before them");
        }
        let mut extras = Extras::default();
        if job.has_extras {
            (extras.expires_at, extras.unique_key) = (self.opt(Self::time)?, self.opt(Self::shared)?);
        }
        if has_keys {
            let (concurrency, fairness) = (self.opt(Self::shared)?, self.opt(Self::shared)?);
            extras.keys = Some(Arc::new(JobKeys { concurrency, fairness }));
        }
        Ok((job, extras))
    }

    fn limit(&mut self, key: impl FnOnce(&mut Self) -> Result<LimitKey>) -> Result<Change> {
        let (queue, key) = (QueueId(self.u32()?), key(self)?);
        Ok(Change::Limit(LimitChange { queue, key, value: self.opt(Self::u64)? }))
    }

    fn lease(&mut self) -> Result<LiveLease> {
        let (id, until, ms) = (self.lease_id()?, StoreTime(self.u64()?), self.u64()?);
        let (claimed_at, worker) = (StoreTime(self.u64()?), self.opt(Self::parse)?);
        Ok(LiveLease { id, until, ms, claimed_at, worker })
    }

    fn settled(&mut self) -> Result<SettledLease> {
        let id = self.lease_id()?;
        let (verb, state) = (self.one_of(&VERBS)?, self.one_of(&STATES)?);
        Ok(SettledLease { id, verb, state, run_at: self.opt(Self::time)? })
    }

    pub(super) fn body(&mut self) -> Result<JobBody> {
        let (kind, payload, meta) = (self.shared()?, self.shared()?, self.opt(Self::shared)?);
        let tags = (0..self.u32()?).map(|_| self.shared()).collect::<Result<_>>()?;
        let traceparent = self.opt(Self::shared)?;
        Ok(JobBody { kind, payload, meta, tags, traceparent, after: None, unique_for_ms: None })
    }

    fn policy(&mut self) -> Result<JobPolicy> {
        let max_attempts = self.u32()?;
        let max_crashes = match self.opt(Self::u64)? {
            None => None,
            Some(number) => Some(u32::try_from(number).map_err(|_| "a number out of range")?),
        };
        let (base_ms, factor_milli, max_ms) = (self.u64()?, self.u64()?, self.u64()?);
        let backoff = Backoff { base_ms, factor_milli, max_ms, jitter: self.one_of(&JITTERS)? };
        let (timeout_ms, retain_ms) = (self.opt(Self::u64)?, self.opt(Self::u64)?);
        Ok(JobPolicy { max_attempts, max_crashes, backoff, timeout_ms, retain_ms })
    }

    fn key(&mut self) -> Result<FinishedKey> {
        let (queue, lane) = (QueueId(self.u32()?), Lane::from_u8(self.u8()?).ok_or("an unknown lane")?);
        Ok(FinishedKey { queue, lane, f: self.u64()? })
    }

    pub(super) fn lease_id(&mut self) -> Result<LeaseId> {
        Ok(LeaseId { token: Token(self.u64()?), nonce: self.u64()? })
    }

    pub(super) fn job_id(&mut self) -> Result<JobId> {
        JobId::from_bytes(self.array()?).map_err(|_| "an id that is none")
    }

    pub(super) fn one_of<T: Copy>(&mut self, all: &[T]) -> Result<T> {
        all.get(usize::from(self.u8()?)).copied().ok_or("an unknown number")
    }

    pub(super) fn opt<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        match self.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err("neither something nor nothing"),
        }
    }

    pub(super) fn time(&mut self) -> Result<Timestamp> {
        Ok(Timestamp(self.u64()? as i64))
    }

    pub(super) fn shared(&mut self) -> Result<Json> {
        self.text().map(Arc::from)
    }

    pub(super) fn parse<T: FromStr>(&mut self) -> Result<T> {
        self.text()?.parse().map_err(|_| "a name that is none")
    }

    pub(super) fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<T> {
        let length = self.u32()? as usize;
        serde_json::from_slice(self.take(length)?).map_err(|_| "JSON that does not fit")
    }

    pub(super) fn text(&mut self) -> Result<&'b str> {
        let length = self.u32()? as usize;
        std::str::from_utf8(self.take(length)?).map_err(|_| "text that is not UTF-8")
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| "too short")
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or("shorter than it says")?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;

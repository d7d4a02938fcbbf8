//! Rows of the tables as the engine's plain data, and the numbers they are written with.

mod blocks;
mod events;
mod locks;

use std::{path::Path, sync::Arc};

use mainstay_core::{
    Error, JobId, LeaseId, StoreTime, Timestamp, Token, WorkerName,
    after::{AfterFailure, WaitsFor},
    engine::change::{
        Ending, Extras, FinishedJob, FinishedKey, FinishedRef, Lane, LiveJob, LiveLease, Phase, PolicyId,
        QueueId, SettledLease,
    },
    job::{Backoff, FailureRecord, JobBody, JobFailure, JobKeys, JobPolicy},
};
use rusqlite::{Row, types::ValueRef};

use crate::fault::{damaged_row, read_error};
pub(crate) use blocks::{BLOCK, FROM_OF_ALL, FROM_OF_TOPIC, LOGGED, Place, logged};
pub(crate) use events::{DEAD_REF, DELIVERY, EVENT_BODY};
pub(crate) use locks::{LOCK_GRANT, LOCK_WAITER};
use mainstay_writer::numbers::{JITTERS, REASONS, STATES, VERBS};
pub(crate) use mainstay_writer::{
    batch::LiveRow,
    numbers::{bits, jitter_number, reason_number, state_number, verb_number},
};

/// The columns that [`Cells::live_job`] reads.
pub(crate) const JOB: &str = "id, n, queue, policy, priority, phase, flags, run_at, created_at, attempt, crashes, size, \
     expires_at, unique_key, token, nonce, lease_until, lease_ms, claimed_at, worker, \
     settled_token, settled_nonce, settled_verb, settled_state, settled_run_at, concurrency_key, fairness_key";
/// The columns that [`Cells::finished_job`] reads.
pub(crate) const FINISHED: &str = "queue, lane, f, id, n, policy, priority, flags, run_at, created_at, attempt, crashes, \
     size, state, reason, finished_at, expires_at, unique_key, \
     settled_token, settled_nonce, settled_verb, settled_state, settled_run_at, concurrency_key, fairness_key";
/// The columns that [`Cells::finished_ref`] reads.
pub(crate) const FINISHED_REF: &str = "queue, lane, f, id, n, finished_at, policy";
/// The columns that [`Cells::policy`] reads.
pub(crate) const POLICY: &str =
    "id, max_attempts, max_crashes, base_ms, factor_milli, max_ms, jitter, timeout_ms, retain_ms";
/// The columns that [`Cells::body`] reads.
pub(crate) const BODY: &str =
    "kind, tags, traceparent, meta, payload, waits_for, after_failure, unique_for_ms";
/// The columns that [`Cells::failure`] reads.
pub(crate) const FAILURE: &str = "attempt, at, type, message, backtrace";

pub(crate) const RETRYING: i64 = 1;
pub(crate) const CANCEL_REQUESTED: i64 = 2;

pub(crate) fn flags(job: &LiveJob) -> i64 {
    (i64::from(job.retrying) * RETRYING) | (i64::from(job.cancel_requested) * CANCEL_REQUESTED)
}

/// Tags as they are stored: nothing, or a JSON array.
pub(crate) fn tags_text(tags: &[Arc<str>]) -> Option<String> {
    let text = |tags| serde_json::to_string(tags).expect("strings are JSON");
    if tags.is_empty() { None } else { Some(text(tags)) }
}

/// One row, read with complaints that name the place.
#[derive(Clone, Copy)]
pub(crate) struct Cells<'a> {
    pub path: &'a Path,
    pub table: &'static str,
    pub row: &'a Row<'a>,
}

impl Cells<'_> {
    /// A complaint about a column.
    pub(crate) fn bad(&self, i: usize, what: &str) -> Error {
        let column = self.row.as_ref().column_name(i).unwrap_or("?");
        // The first column is the key, or its beginning.
        let key = match self.row.get_ref(0) {
            Ok(ValueRef::Integer(number)) => number.to_string(),
            Ok(ValueRef::Blob(bytes)) => bytes.iter().map(|b| format!("{b:02x}")).collect(),
            Ok(ValueRef::Text(text)) => String::from_utf8_lossy(text).into_owned(),
            _ => "?".to_owned(),
        };
        damaged_row(self.path, &format!("table {}, row {key}, column {column}", self.table), what)
    }

    fn get(&self, i: usize) -> Result<ValueRef<'_>, Error> {
        self.row.get_ref(i).map_err(|e| read_error(self.path, e))
    }

    pub(crate) fn int_opt(&self, i: usize) -> Result<Option<i64>, Error> {
        match self.get(i)? {
            ValueRef::Integer(number) => Ok(Some(number)),
            ValueRef::Null => Ok(None),
            other => Err(self.bad(i, &format!("holds {}, not an integer", other.data_type()))),
        }
    }

    pub(crate) fn int(&self, i: usize) -> Result<i64, Error> {
        self.int_opt(i)?.ok_or_else(|| self.bad(i, "holds nothing"))
    }

    pub(crate) fn u64(&self, i: usize) -> Result<u64, Error> {
        Ok(self.int(i)? as u64)
    }

    pub(crate) fn u32(&self, i: usize) -> Result<u32, Error> {
        u32::try_from(self.int(i)?).map_err(|_| self.bad(i, "is out of range"))
    }

    pub(crate) fn time(&self, i: usize) -> Result<Timestamp, Error> {
        Ok(Timestamp(self.int(i)?))
    }

    pub(crate) fn text_opt(&self, i: usize) -> Result<Option<&str>, Error> {
        match self.get(i)? {
            ValueRef::Text(text) => match std::str::from_utf8(text) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(self.bad(i, "is not UTF-8")),
            },
            ValueRef::Null => Ok(None),
            other => Err(self.bad(i, &format!("holds {}, not text", other.data_type()))),
        }
    }

    pub(crate) fn text(&self, i: usize) -> Result<&str, Error> {
        self.text_opt(i)?.ok_or_else(|| self.bad(i, "holds nothing"))
    }

    pub(crate) fn bytes<const N: usize>(&self, i: usize) -> Result<[u8; N], Error> {
        match self.get(i)? {
            ValueRef::Blob(bytes) => {
                bytes.try_into().map_err(|_| self.bad(i, &format!("is not {N} bytes long")))
            }
            other => Err(self.bad(i, &format!("holds {}, not a blob", other.data_type()))),
        }
    }

    pub(crate) fn is_null(&self, i: usize) -> Result<bool, Error> {
        Ok(matches!(self.get(i)?, ValueRef::Null))
    }

    /// Something that is stored as JSON text.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self, i: usize) -> Result<T, Error> {
        serde_json::from_str(self.text(i)?).map_err(|e| self.bad(i, &e.to_string()))
    }

    /// Something that is stored as text and checked when it is made.
    pub(crate) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(&self, i: usize) -> Result<T, Error> {
        self.text(i)?.parse().map_err(|e: T::Err| self.bad(i, &e.to_string()))
    }

    fn one_of<T: Copy>(&self, i: usize, all: &[T]) -> Result<T, Error> {
        let number = self.int(i)?;
        let known = usize::try_from(number).ok().and_then(|at| all.get(at));
        known.copied().ok_or_else(|| self.bad(i, &format!("holds the unknown number {number}")))
    }

    pub(crate) fn job_id(&self, i: usize) -> Result<JobId, Error> {
        JobId::from_bytes(self.bytes(i)?).map_err(|e| self.bad(i, &e.to_string()))
    }

    pub(crate) fn lane(&self, i: usize) -> Result<Lane, Error> {
        self.one_of(i, &Lane::ALL)
    }

    /// Expiry and unique key from column `i` on, the other keys from column `k` on.
    fn extras(&self, i: usize, k: usize) -> Result<Extras, Error> {
        let text = |i| Ok::<_, Error>(self.text_opt(i)?.map(Arc::from));
        let keys = JobKeys { concurrency: text(k)?, fairness: text(k + 1)? };
        Ok(Extras {
            expires_at: self.int_opt(i)?.map(Timestamp),
            unique_key: text(i + 1)?,
            keys: Some(keys).filter(|keys| !keys.is_empty()).map(Arc::new),
        })
    }

    fn settled(&self, i: usize) -> Result<Option<SettledLease>, Error> {
        let Some(token) = self.int_opt(i)? else { return Ok(None) };
        let id = LeaseId { token: Token(token as u64), nonce: self.u64(i + 1)? };
        let (verb, state) = (self.one_of(i + 2, &VERBS)?, self.one_of(i + 3, &STATES)?);
        Ok(Some(SettledLease { id, verb, state, run_at: self.int_opt(i + 4)?.map(Timestamp) }))
    }

    /// A row of [`JOB`].
    pub(crate) fn live_job(&self) -> Result<LiveRow, Error> {
        let flags = self.int(6)?;
        let extras = self.extras(12, 25)?;
        let job = LiveJob {
            id: self.job_id(0)?,
            n: self.u64(1)?,
            queue: QueueId(self.u32(2)?),
            policy: PolicyId(self.u32(3)?),
            priority: self.u32(4)? as u8,
            phase: self.one_of(5, &[Phase::Waiting, Phase::Blocked, Phase::Running])?,
            retrying: flags & RETRYING != 0,
            cancel_requested: flags & CANCEL_REQUESTED != 0,
            run_at: self.time(7)?,
            created_at: self.time(8)?,
            attempt: self.u32(9)?,
            crashes: self.u32(10)?,
            size: self.u32(11)?,
            has_extras: extras != Extras::default(),
        };
        if job.priority > 9 {
            return Err(self.bad(4, "is not a priority from 0 to 9"));
        }
        let lease = match self.int_opt(14)? {
            None => None,
            Some(token) => Some(LiveLease {
                id: LeaseId { token: Token(token as u64), nonce: self.u64(15)? },
                until: StoreTime(self.u64(16)?),
                ms: self.u64(17)?,
                claimed_at: StoreTime(self.u64(18)?),
                worker: match self.text_opt(19)? {
                    None => None,
                    Some(_) => Some(self.parse::<WorkerName>(19)?),
                },
            }),
        };
        Ok(LiveRow { job, extras, lease, settled: self.settled(20)? })
    }

    /// A row of [`FINISHED`].
    pub(crate) fn finished_job(&self) -> Result<FinishedJob, Error> {
        let key = FinishedKey { queue: QueueId(self.u32(0)?), lane: self.lane(1)?, f: self.u64(2)? };
        let flags = self.int(7)?;
        let extras = self.extras(16, 23)?;
        let job = LiveJob {
            id: self.job_id(3)?,
            n: self.u64(4)?,
            queue: key.queue,
            policy: PolicyId(self.u32(5)?),
            priority: self.u32(6)? as u8,
            phase: Phase::Waiting,
            retrying: flags & RETRYING != 0,
            cancel_requested: flags & CANCEL_REQUESTED != 0,
            run_at: self.time(8)?,
            created_at: self.time(9)?,
            attempt: self.u32(10)?,
            crashes: self.u32(11)?,
            size: self.u32(12)?,
            has_extras: extras != Extras::default(),
        };
        let reason = match self.int_opt(14)? {
            None => None,
            Some(_) => Some(self.one_of(14, &REASONS)?),
        };
        let (state, finished_at) = (self.one_of(13, &STATES)?, self.time(15)?);
        Ok(FinishedJob { key, job, extras, state, reason, finished_at, settled: self.settled(18)? })
    }

    /// A row of [`FINISHED_REF`].
    pub(crate) fn finished_ref(&self) -> Result<FinishedRef, Error> {
        let key = FinishedKey { queue: QueueId(self.u32(0)?), lane: self.lane(1)?, f: self.u64(2)? };
        let (id, n, finished_at) = (self.job_id(3)?, self.u64(4)?, self.time(5)?);
        Ok(FinishedRef { key, id, n, policy: PolicyId(self.u32(6)?), finished_at })
    }

    /// A row of [`POLICY`] from column `i` on.
    pub(crate) fn policy(&self, i: usize) -> Result<(PolicyId, JobPolicy), Error> {
        let opt = |i| Ok::<_, Error>(self.int_opt(i)?.map(|number| number as u64));
        let backoff = Backoff {
            base_ms: self.u64(i + 3)?,
            factor_milli: self.u64(i + 4)?,
            max_ms: self.u64(i + 5)?,
            jitter: self.one_of(i + 6, &JITTERS)?,
        };
        let policy = JobPolicy {
            max_attempts: self.u32(i + 1)?,
            max_crashes: match self.int_opt(i + 2)? {
                None => None,
                Some(_) => Some(self.u32(i + 2)?),
            },
            backoff,
            timeout_ms: opt(i + 7)?,
            retain_ms: opt(i + 8)?,
        };
        Ok((PolicyId(self.u32(i)?), policy))
    }

    /// A row of [`BODY`].
    pub(crate) fn body(&self) -> Result<JobBody, Error> {
        let text = |i| Ok::<_, Error>(self.text_opt(i)?.map(Arc::from));
        Ok(JobBody {
            kind: self.text(0)?.into(),
            tags: self.tags(1)?,
            traceparent: text(2)?,
            meta: text(3)?,
            payload: self.text(4)?.into(),
            after: self.waits_for(5)?,
            unique_for_ms: self.int_opt(7)?.map(|ms| ms as u64),
        })
    }

    fn waits_for(&self, i: usize) -> Result<Option<WaitsFor>, Error> {
        let ids = match self.get(i)? {
            ValueRef::Null => return Ok(None),
            ValueRef::Blob(bytes) => bytes.as_chunks::<16>(),
            other => return Err(self.bad(i, &format!("holds {}, not a blob", other.data_type()))),
        };
        let (ids, []) = ids else { return Err(self.bad(i, "is not made of ids of 16 bytes")) };
        let ids = ids.iter().map(|id| JobId::from_bytes(*id)).collect::<Result<Vec<_>, _>>();
        let jobs = ids.map_err(|e| self.bad(i, &e.to_string()))?.into();
        Ok(Some(WaitsFor { jobs, failure: self.after_failure(i + 1)? }))
    }

    pub(crate) fn after_failure(&self, i: usize) -> Result<AfterFailure, Error> {
        self.one_of(i, &AfterFailure::ALL)
    }

    pub(crate) fn ending(&self, i: usize) -> Result<Ending, Error> {
        self.one_of(i, &Ending::ALL)
    }

    /// Tags as [`tags_text`] wrote them.
    pub(crate) fn tags(&self, i: usize) -> Result<Vec<Arc<str>>, Error> {
        if self.text_opt(i)?.is_some() { self.json(i) } else { Ok(Vec::new()) }
    }

    /// A row of [`FAILURE`].
    pub(crate) fn failure(&self) -> Result<FailureRecord, Error> {
        let text = |i| Ok::<_, Error>(self.text_opt(i)?.map(Arc::from));
        let failure = JobFailure { kind: text(2)?, message: self.text(3)?.into(), backtrace: text(4)? };
        Ok(FailureRecord { attempt: self.u32(0)?, at: self.time(1)?, failure })
    }
}

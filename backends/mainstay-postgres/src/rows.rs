//! Rows of jobs, and the keys of the tables that the engine alone reads.

use mainstay_core::{
    Error, JobId, LeaseId, StoreTime, Timestamp, Token,
    engine::change::{
        Change, Extras, FinishedJob, FinishedKey, FinishedRef, Lane, LiveJob, LiveLease, Phase, PolicyId,
        QueueId, SettledLease,
    },
};
use mainstay_writer::{
    batch::LiveRow,
    codec::{decode, encode},
    numbers::{REASONS, STATES, VERBS},
};
use tokio_postgres::{Row, types::FromSql};
use uuid::Uuid;

use crate::fault::damaged;

/// The columns of the table `job`, as [`Cells::live_job`] reads them.
pub(crate) const JOB: &str = "id, n, queue, policy, priority, phase, flags, run_at, created_at, attempt, crashes, size, \
     token, nonce, lease_until, lease_ms, claimed_at, worker, \
     settled_token, settled_nonce, settled_verb, settled_state, settled_run_at, extras";
/// The columns of the table `finished`, as [`Cells::finished_job`] reads them.
pub(crate) const FINISHED: &str = "queue, lane, f, id, n, policy, priority, flags, run_at, created_at, attempt, crashes, \
     size, state, reason, finished_at, \
     settled_token, settled_nonce, settled_verb, settled_state, settled_run_at, extras";
/// The columns that [`Cells::finished_ref`] reads.
pub(crate) const FINISHED_REF: &str = "queue, lane, f, id, n, finished_at, policy";

pub(crate) const RETRYING: i16 = 1;
pub(crate) const CANCEL_REQUESTED: i16 = 2;

pub(crate) fn flags(job: &LiveJob) -> i16 {
    (i16::from(job.retrying) * RETRYING) | (i16::from(job.cancel_requested) * CANCEL_REQUESTED)
}

pub(crate) fn uuid(id: JobId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

/// What few jobs have, as a column of its own.
pub(crate) fn extras(job: &LiveJob, extras: &Extras) -> Option<Vec<u8>> {
    job.has_extras
        .then(|| bytes_of(&Change::JobPut { job: *job, extras: extras.clone(), settled: None, body: None }))
}

/// A change as bytes.
pub(crate) fn bytes_of(change: &Change) -> Vec<u8> {
    let mut out = Vec::new();
    encode::change(&mut out, change);
    out
}

/// A key of numbers and bytes that sorts as they do.
#[derive(Default)]
pub(crate) struct KeyBytes(pub(crate) Vec<u8>);

impl KeyBytes {
    pub(crate) fn u8(mut self, number: u8) -> KeyBytes {
        self.0.push(number);
        self
    }

    pub(crate) fn u32(mut self, number: u32) -> KeyBytes {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(crate) fn u64(mut self, number: u64) -> KeyBytes {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> KeyBytes {
        self.0.extend(bytes);
        self
    }
}

/// One row, read with complaints that name the place.
#[derive(Clone, Copy)]
pub(crate) struct Cells<'r> {
    pub(crate) table: &'static str,
    pub(crate) row: &'r Row,
}

impl<'r> Cells<'r> {
    pub(crate) fn bad(&self, i: usize, what: &str) -> Error {
        let column = self.row.columns().get(i).map_or("?", |column| column.name());
        damaged(&format!("table {}, column {column}", self.table), what)
    }

    pub(crate) fn get<T: FromSql<'r>>(&self, i: usize) -> Result<T, Error> {
        self.row.try_get(i).map_err(|e| self.bad(i, &crate::fault::words(&e)))
    }

    pub(crate) fn u64(&self, i: usize) -> Result<u64, Error> {
        Ok(self.get::<i64>(i)? as u64)
    }

    pub(crate) fn u32(&self, i: usize) -> Result<u32, Error> {
        Ok(self.get::<i32>(i)? as u32)
    }

    pub(crate) fn time(&self, i: usize) -> Result<Timestamp, Error> {
        Ok(Timestamp(self.get(i)?))
    }

    fn one_of<T: Copy>(&self, i: usize, all: &[T]) -> Result<T, Error> {
        let number: i16 = self.get(i)?;
        let known = usize::try_from(number).ok().and_then(|at| all.get(at));
        known.copied().ok_or_else(|| self.bad(i, &format!("holds the unknown number {number}")))
    }

    pub(crate) fn job_id(&self, i: usize) -> Result<JobId, Error> {
        JobId::from_bytes(*self.get::<Uuid>(i)?.as_bytes()).map_err(|e| self.bad(i, &e.to_string()))
    }

    /// What is stored as a change.
    pub(crate) fn change(&self, i: usize) -> Result<Change, Error> {
        decode::one(self.get(i)?).map_err(|what| self.bad(i, what))
    }

    pub(crate) fn change_opt(&self, i: usize) -> Result<Option<Change>, Error> {
        let bytes: Option<&[u8]> = self.get(i)?;
        bytes.map(|bytes| decode::one(bytes).map_err(|what| self.bad(i, what))).transpose()
    }

    fn extras(&self, i: usize) -> Result<Extras, Error> {
        match self.change_opt(i)? {
            None => Ok(Extras::default()),
            Some(Change::JobPut { extras, .. }) => Ok(extras),
            Some(_) => Err(self.bad(i, "is of another kind")),
        }
    }

    fn settled(&self, i: usize) -> Result<Option<SettledLease>, Error> {
        let Some(token) = self.get::<Option<i64>>(i)? else { return Ok(None) };
        let id = LeaseId { token: Token(token as u64), nonce: self.u64(i + 1)? };
        let (verb, state) = (self.one_of(i + 2, &VERBS)?, self.one_of(i + 3, &STATES)?);
        Ok(Some(SettledLease { id, verb, state, run_at: self.get::<Option<i64>>(i + 4)?.map(Timestamp) }))
    }

    /// A row of [`JOB`].
    pub(crate) fn live_job(&self) -> Result<LiveRow, Error> {
        let flags: i16 = self.get(6)?;
        let extras = self.extras(23)?;
        let job = LiveJob {
            id: self.job_id(0)?,
            n: self.u64(1)?,
            queue: QueueId(self.u32(2)?),
            policy: PolicyId(self.u32(3)?),
            priority: self.priority(4)?,
            phase: self.one_of(5, &[Phase::Waiting, Phase::Blocked, Phase::Running])?,
            retrying: flags & RETRYING != 0,
            cancel_requested: flags & CANCEL_REQUESTED != 0,
            run_at: self.time(7)?,
            created_at: self.time(8)?,
            attempt: self.u32(9)?,
            crashes: self.u32(10)?,
            size: self.u64(11)? as u32,
            has_extras: extras != Extras::default(),
        };
        let lease = match self.get::<Option<i64>>(12)? {
            None => None,
            Some(token) => Some(LiveLease {
                id: LeaseId { token: Token(token as u64), nonce: self.u64(13)? },
                until: StoreTime(self.u64(14)?),
                ms: self.u64(15)?,
                claimed_at: StoreTime(self.u64(16)?),
                worker: match self.get::<Option<&str>>(17)? {
                    None => None,
                    Some(name) => Some(name.parse().map_err(|_| self.bad(17, "is not a name"))?),
                },
            }),
        };
        Ok(LiveRow { job, extras, lease, settled: self.settled(18)? })
    }

    fn priority(&self, i: usize) -> Result<u8, Error> {
        match self.get::<i16>(i)? {
            priority @ 0..=9 => Ok(priority as u8),
            _ => Err(self.bad(i, "is not a priority from 0 to 9")),
        }
    }

    fn finished_key(&self) -> Result<FinishedKey, Error> {
        let (queue, lane) = (QueueId(self.u32(0)?), self.one_of(1, &Lane::ALL)?);
        Ok(FinishedKey { queue, lane, f: self.u64(2)? })
    }

    /// A row of [`FINISHED`].
    pub(crate) fn finished_job(&self) -> Result<FinishedJob, Error> {
        let key = self.finished_key()?;
        let flags: i16 = self.get(7)?;
        let extras = self.extras(21)?;
        let job = LiveJob {
            id: self.job_id(3)?,
            n: self.u64(4)?,
            queue: key.queue,
            policy: PolicyId(self.u32(5)?),
            priority: self.priority(6)?,
            phase: Phase::Waiting,
            retrying: flags & RETRYING != 0,
            cancel_requested: flags & CANCEL_REQUESTED != 0,
            run_at: self.time(8)?,
            created_at: self.time(9)?,
            attempt: self.u32(10)?,
            crashes: self.u32(11)?,
            size: self.u64(12)? as u32,
            has_extras: extras != Extras::default(),
        };
        let reason = match self.get::<Option<i16>>(14)? {
            None => None,
            Some(_) => Some(self.one_of(14, &REASONS)?),
        };
        let (state, finished_at) = (self.one_of(13, &STATES)?, self.time(15)?);
        Ok(FinishedJob { key, job, extras, state, reason, finished_at, settled: self.settled(16)? })
    }

    /// A row of [`FINISHED_REF`].
    pub(crate) fn finished_ref(&self) -> Result<FinishedRef, Error> {
        let key = self.finished_key()?;
        let (id, n, finished_at) = (self.job_id(3)?, self.u64(4)?, self.time(5)?);
        Ok(FinishedRef { key, id, n, policy: PolicyId(self.u32(6)?), finished_at })
    }
}

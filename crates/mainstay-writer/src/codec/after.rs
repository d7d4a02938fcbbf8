//! Who waits for whom, as bytes.

use mainstay_core::{
    JobId,
    after::{AfterFailure, WaitsFor},
    engine::change::{AfterChange, Ending},
};

use super::{
    decode::{Bytes, Nonsense},
    encode,
};

/// What stands before such a change.
pub(super) mod tag {
    /// A job that was put with a list of what it waits for behind it.
    pub(in super::super) const JOB_PUT_AFTER: u8 = 80;
    pub(in super::super) const OPENED: u8 = 81;
    pub(in super::super) const CLOSED: u8 = 82;
    pub(in super::super) const ENDED: u8 = 83;
    pub(in super::super) const TOLD: u8 = 84;
}

pub(super) fn put_list(out: &mut Vec<u8>, after: &WaitsFor) {
    out.push(after.failure as u8);
    put_ids(out, &after.jobs);
}

pub(super) fn put(out: &mut Vec<u8>, change: &AfterChange) {
    match change {
        AfterChange::Opened { waiter, on, failure } => {
            out.push(tag::OPENED);
            out.extend(waiter.as_bytes());
            out.push(*failure as u8);
            put_ids(out, on);
        }
        AfterChange::Closed { waiter, on } => {
            out.push(tag::CLOSED);
            out.extend(waiter.as_bytes());
            put_ids(out, on);
        }
        AfterChange::Ended { id, how } => {
            out.push(tag::ENDED);
            out.extend(id.as_bytes());
            out.push(*how as u8);
        }
        AfterChange::Told { id, how } => {
            out.push(tag::TOLD);
            out.extend(id.as_bytes());
            out.push(*how as u8);
        }
    }
}

fn put_ids(out: &mut Vec<u8>, ids: &[JobId]) {
    encode::u32(out, ids.len() as u32);
    ids.iter().for_each(|id| out.extend(id.as_bytes()));
}

impl Bytes<'_> {
    pub(super) fn after_list(&mut self) -> Result<WaitsFor, Nonsense> {
        let failure = self.after_failure()?;
        Ok(WaitsFor { failure, jobs: self.ids()?.into() })
    }

    pub(super) fn after_change(&mut self, tag: u8) -> Result<AfterChange, Nonsense> {
        Ok(match tag {
            tag::OPENED => {
                let (waiter, failure) = (self.job_id()?, self.after_failure()?);
                AfterChange::Opened { waiter, on: self.ids()?, failure }
            }
            tag::CLOSED => AfterChange::Closed { waiter: self.job_id()?, on: self.ids()? },
            tag::ENDED => AfterChange::Ended { id: self.job_id()?, how: self.ending()? },
            tag::TOLD => AfterChange::Told { id: self.job_id()?, how: self.ending()? },
            _ => return Err("an unknown change of who waits for whom"),
        })
    }

    fn after_failure(&mut self) -> Result<AfterFailure, Nonsense> {
        AfterFailure::from_u8(self.u8()?).ok_or("an unknown word about a dead job")
    }

    fn ending(&mut self) -> Result<Ending, Nonsense> {
        Ending::from_u8(self.u8()?).ok_or("an unknown end of a job")
    }

    fn ids(&mut self) -> Result<Vec<JobId>, Nonsense> {
        (0..self.u32()?).map(|_| self.job_id()).collect()
    }
}

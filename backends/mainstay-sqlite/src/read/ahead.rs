//! Bodies that are read before they are asked for, many at a time.

use std::sync::{Arc, Mutex, PoisonError, atomic::Ordering};

use mainstay_core::{Error, job::JobBody};

use super::{Jobs, Reader};
use crate::{
    fault::read_error_in,
    row::{Cells, bits},
};

/// Numbers that lie so close are read in one go, with what lies between them.
const NEAR: u64 = 16;

/// With its number; `None`: it is read when it is asked for, and whatever is wrong with it is said then.
type Came = (u64, Option<Arc<JobBody>>);

/// What was read and the writer has not taken. As much as it has asked for at most, which has a bound.
#[derive(Default)]
pub(crate) struct ReadAhead(Mutex<Vec<Came>>);

impl ReadAhead {
    pub(crate) fn put(&self, bodies: impl IntoIterator<Item = Came>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bodies);
    }

    pub(crate) fn take(&self) -> Vec<Came> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Reader<'_> {
    /// Reads bodies for the writer. It is not told when they are there: if nothing happens, nobody needs them.
    pub(super) fn read_ahead(&mut self, numbers: &[u64]) {
        let mut bodies = Vec::with_capacity(numbers.len());
        // After trouble that passes, what was not read is asked for again by somebody who can be told.
        let _ = self.in_snapshot(|reader| reader.jobs.bodies(numbers, &mut bodies));
        let count = bodies.len() as u64;
        let mut found = bodies.into_iter().peekable();
        let body = |n: &u64| (*n, found.next_if(|(at, _)| at == n).map(|(_, body)| body));
        self.shared.read_ahead.put(numbers.iter().map(body).collect::<Vec<_>>());
        // Last, so that who sees it in the figures knows that the next group has them.
        self.shared.stats.bodies_read_ahead.fetch_add(count, Ordering::Release);
    }
}

impl Jobs<'_> {
    /// Bodies with these numbers, which are in order, as far as they are in the tables.
    fn bodies(&mut self, numbers: &[u64], into: &mut Vec<(u64, Arc<JobBody>)>) -> Result<(), Error> {
        let path = self.path;
        let failed = |e| read_error_in(path, "body", e);
        for piece in numbers.chunk_by(|a, b| b - a <= NEAR) {
            let ([first, .., last] | [first @ last]) = piece else { continue };
            let mut rows = self.bodies.query((bits(*first), bits(*last))).map_err(failed)?;
            let mut wanted = piece.iter().peekable();
            while let Some(row) = rows.next().map_err(failed)? {
                let row = Cells { path, table: "body", row };
                let n = row.u64(8)?;
                while wanted.next_if(|wanted| **wanted < n).is_some() {}
                if wanted.next_if_eq(&&n).is_some() {
                    into.push((n, Arc::new(row.body()?)));
                }
            }
        }
        Ok(())
    }
}

//! Rows that go. Where they are all there is between the first and the last, one statement takes them, for about an
//! eighth of what each alone would cost; a piece at a time, so that others can go first.

use mainstay_core::{JobId, engine::change::FinishedKey};
use rusqlite::{Result, Row, Rows, params};

use super::{statements::Statements, write::Missing};
use crate::{apply::pieces, row::bits};

/// So many rows are looked at together; where another lies between them, so many, then each alone.
const PIECES: [usize; 2] = [256, 32];
/// Fewer are not worth a look.
const WORTH_A_LOOK: usize = 8;
/// Bodies that are forgotten at a time.
const NUMBERS: u64 = 512;

impl Statements<'_> {
    /// Unfinished jobs, in the order of their ids.
    pub(super) fn jobs_go(&mut self, ids: &[JobId]) -> Result<Missing> {
        let Statements { pace, jobs_between, job_range, job_deleted, .. } = self;
        let mut range = |ids: &[JobId], first: &JobId, last: &JobId| {
            pace.rest();
            let mut rows = jobs_between.query(params![first.as_bytes(), last.as_bytes(), limit(ids)])?;
            let same = |row: &Row<'_>, id: &JobId| Ok(row.get_ref(0)?.as_blob()? == id.as_bytes());
            let whole = are_all(&mut rows, ids, same)?;
            drop(rows);
            Ok(whole && job_range.execute([first.as_bytes(), last.as_bytes()])? == ids.len())
        };
        let mut each = |id: &JobId| {
            pace.row();
            let gone = job_deleted.execute([id.as_bytes()])? == 1;
            Ok((!gone).then(|| format!("job {id}")))
        };
        in_pieces(ids, &PIECES, &mut range, &mut each)
    }

    /// Finished jobs of one lane, in the order in which they are forgotten.
    pub(super) fn finished_go(&mut self, keys: &[FinishedKey]) -> Result<Missing> {
        let Statements { pace, finished_between, finished_range, finished_deleted, .. } = self;
        let mut range = |keys: &[FinishedKey], first: &FinishedKey, last: &FinishedKey| {
            pace.rest();
            let (queue, lane, from, to) = (first.queue.0, first.lane as u8, bits(first.f), bits(last.f));
            let mut rows = finished_between.query(params![queue, lane, from, to, limit(keys)])?;
            let same = |row: &Row<'_>, key: &FinishedKey| Ok(row.get::<_, i64>(0)? == bits(key.f));
            let whole = are_all(&mut rows, keys, same)?;
            drop(rows);
            Ok(whole && finished_range.execute((queue, lane, from, to))? == keys.len())
        };
        let mut each = |key: &FinishedKey| {
            pace.row();
            let gone = finished_deleted.execute(params![key.queue.0, key.lane as u8, bits(key.f)])? == 1;
            Ok((!gone).then(|| format!("{key:?}")))
        };
        in_pieces(keys, &PIECES, &mut range, &mut each)
    }

    /// Bodies and notes of jobs with these numbers, if they are there.
    pub(super) fn forget(&mut self, numbers: &[u64]) -> Result<()> {
        for (mut first, last) in pieces(numbers.to_vec()) {
            while first <= last {
                self.pace.rest();
                let to = last.min(first.saturating_add(NUMBERS - 1));
                let statements = &mut self.forget;
                statements.iter_mut().try_for_each(|s| s.execute((bits(first), bits(to))).map(drop))?;
                first = to + 1;
            }
        }
        Ok(())
    }
}

/// One more than there should be, to see it.
fn limit<T>(keys: &[T]) -> i64 {
    keys.len() as i64 + 1
}

/// Whether the rows are exactly these.
fn are_all<T>(rows: &mut Rows<'_>, keys: &[T], same: impl Fn(&Row<'_>, &T) -> Result<bool>) -> Result<bool> {
    for key in keys {
        match rows.next()? {
            Some(row) if same(row, key)? => {}
            _ => return Ok(false),
        }
    }
    Ok(rows.next()?.is_none())
}

/// Takes the rows of `keys`, which are in order; answers one that was not there. `range` takes the rows from the first
/// to the last key if they are exactly these, and else nothing.
fn in_pieces<T>(
    keys: &[T],
    sizes: &[usize],
    range: &mut impl FnMut(&[T], &T, &T) -> Result<bool>,
    each: &mut impl FnMut(&T) -> Result<Missing>,
) -> Result<Missing> {
    let Some((size, smaller)) = sizes.split_first() else {
        for key in keys {
            if let Some(missing) = each(key)? {
                return Ok(Some(missing));
            }
        }
        return Ok(None);
    };
    for piece in keys.chunks(*size) {
        let whole = match piece {
            [first, .., last] if piece.len() >= WORTH_A_LOOK => range(piece, first, last)?,
            _ => false,
        };
        if !whole && let Some(missing) = in_pieces(piece, smaller, range, each)? {
            return Ok(Some(missing));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use mainstay_core::engine::change::{Lane, QueueId};
    use rusqlite::Connection;

    use super::*;
    use crate::schema::migrate;

    /// By number.
    fn id(n: u32) -> JobId {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&n.to_be_bytes());
        (id[6], id[8]) = (0x70, 0x80);
        JobId::from_bytes(id).unwrap()
    }

    fn key(n: u32) -> FinishedKey {
        FinishedKey { queue: QueueId(1), lane: Lane::Done, f: u64::from(n) }
    }

    /// Has jobs, and finished jobs, and takes some; answers what is left, and what was missing.
    fn go(there: impl Iterator<Item = u32>, keys: impl Iterator<Item = u32> + Clone) -> (Vec<u32>, Missing) {
        let (conn, path) = (Connection::open_in_memory().unwrap(), Path::new("a test"));
        migrate(&conn, path).unwrap();
        for n in there {
            let job = "INSERT INTO job (id, n, queue, policy, priority, phase, flags, run_at, created_at, attempt, \
                       crashes, size) VALUES (?1, ?2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)";
            conn.execute(job, params![id(n).as_bytes(), n]).unwrap();
            let finished = "INSERT INTO finished (queue, lane, f, id, n, policy, priority, flags, run_at, created_at, \
                            attempt, crashes, size, state, finished_at) \
                            VALUES (1, 0, ?2, ?1, ?2, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0)";
            conn.execute(finished, params![id(n).as_bytes(), n]).unwrap();
        }
        let (ids, lane): (Vec<_>, Vec<_>) = keys.map(|n| (id(n), key(n))).unzip();
        let mut statements = Statements::prepare(&conn, path).unwrap();
        let missing = statements.jobs_go(&ids).unwrap();
        assert_eq!(statements.finished_go(&lane).unwrap().is_some(), missing.is_some());
        let left = |sql: &str| -> Vec<u32> {
            let mut statement = conn.prepare(sql).unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().map(|n| n.unwrap()).collect()
        };
        let jobs = left("SELECT n FROM job ORDER BY id");
        if missing.is_none() {
            assert_eq!(jobs, left("SELECT n FROM finished ORDER BY queue, lane, f"));
        }
        (jobs, missing)
    }

    #[test]
    fn rows_go_in_pieces_and_what_lies_between_them_stays() {
        let without = |gone: &dyn Fn(u32) -> bool| (0..2_000).filter(|n| !gone(*n)).collect::<Vec<_>>();
        let cases: [&dyn Fn(u32) -> bool; 5] = [
            &|n| (100..1_124).contains(&n),
            &|n| (100..1_124).contains(&n) && n != 500,
            &|n| n % 3 != 0,
            &|n| n < 7 || n == 1_999,
            &|_| true,
        ];
        for gone in cases {
            let gone = |n: &u32| gone(*n);
            assert_eq!(go(0..2_000, (0..2_000).filter(gone)), (without(&|n| gone(&n)), None));
        }
    }

    #[test]
    fn a_row_that_is_not_there_is_told_and_another_does_not_stand_in_for_it() {
        // As many as should go lie between the first and the last.
        let (left, missing) = go((0..40).filter(|n| *n != 20), (0..40).filter(|n| *n != 10));
        assert_eq!(missing.as_deref(), Some(&*format!("job {}", id(20))));
        assert!(left.contains(&10));
    }
}

//! The `schedule` table.

use std::sync::Arc;

use mainstay_core::{
    Error, Timestamp,
    schedule::{Schedule, ScheduleRecord, ScheduleState},
};
use rusqlite::{Connection, Result, Statement, params};

use crate::{
    apply::{Batch, ScheduleRow},
    row::{Cells, bits},
};

/// The columns that [`record`] reads.
pub(crate) const SCHEDULE: &str =
    "name, config, revision, paused, next, last, last_job, fired, missed, created_at, updated_at";

pub(super) struct Schedules<'c> {
    put: Statement<'c>,
    moved: Statement<'c>,
    removed: Statement<'c>,
}

impl<'c> Schedules<'c> {
    pub(super) fn prepare(conn: &'c Connection) -> Result<Schedules<'c>> {
        Ok(Schedules {
            put: conn.prepare(&format!(
                "INSERT OR REPLACE INTO schedule ({SCHEDULE}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
            ))?,
            moved: conn.prepare(
                "UPDATE schedule SET revision = ?2, paused = ?3, next = ?4, last = ?5, last_job = ?6, fired = ?7, \
                 missed = ?8 WHERE name = ?1",
            )?,
            removed: conn.prepare("DELETE FROM schedule WHERE name = ?1")?,
        })
    }

    /// Answers the first row that should be there and is not.
    pub(super) fn write(&mut self, batch: &Batch) -> Result<Option<String>> {
        for (name, row) in &batch.schedules {
            let written = match row {
                ScheduleRow::Put(record) => {
                    let ScheduleRecord { schedule, state, created_at, updated_at } = &**record;
                    let config = serde_json::to_string(&**schedule).expect("the vocabulary has a JSON form");
                    let ScheduleState { revision, paused, next, last, last_job, fired, missed } = state;
                    self.put.execute(params![
                        name.as_str(),
                        config,
                        bits(*revision),
                        paused,
                        next.map(|at| at.0),
                        last.map(|at| at.0),
                        last_job.as_ref().map(|id| id.as_bytes()),
                        bits(*fired),
                        bits(*missed),
                        created_at.0,
                        updated_at.0,
                    ])?
                }
                ScheduleRow::Moved(state) => {
                    let ScheduleState { revision, paused, next, last, last_job, fired, missed } = state;
                    self.moved.execute(params![
                        name.as_str(),
                        bits(*revision),
                        paused,
                        next.map(|at| at.0),
                        last.map(|at| at.0),
                        last_job.as_ref().map(|id| id.as_bytes()),
                        bits(*fired),
                        bits(*missed),
                    ])?
                }
                ScheduleRow::Removed => {
                    // It may have come and gone within the batch.
                    self.removed.execute([name.as_str()])?;
                    1
                }
            };
            if written != 1 {
                return Ok(Some(format!("schedule {name}")));
            }
        }
        Ok(None)
    }
}

/// A row of [`SCHEDULE`].
pub(crate) fn record(row: Cells<'_>) -> std::result::Result<ScheduleRecord, Error> {
    let schedule: Schedule = row.json(1)?;
    if schedule.name.as_str() != row.text(0)? {
        return Err(row.bad(1, "is of another name than its row"));
    }
    let last_job = match row.is_null(6)? {
        true => None,
        false => Some(row.job_id(6)?),
    };
    let state = ScheduleState {
        revision: row.u64(2)?,
        paused: row.int(3)? != 0,
        next: row.int_opt(4)?.map(Timestamp),
        last: row.int_opt(5)?.map(Timestamp),
        last_job,
        fired: row.u64(7)?,
        missed: row.u64(8)?,
    };
    let (created_at, updated_at) = (row.time(9)?, row.time(10)?);
    Ok(ScheduleRecord { schedule: Arc::new(schedule), state, created_at, updated_at })
}

//! The `limits` table: what queues with a rate or fairness remember of what they have handed out.

use mainstay_core::{
    Error, StoreTime,
    engine::change::{LimitKey, QueueId},
};
use rusqlite::{
    Connection, Result, Statement, params,
    types::{ToSqlOutput, Value},
};

use crate::{
    apply::Batch,
    row::{Cells, bits},
};

/// The columns that [`limit`] reads.
pub(crate) const LIMIT: &str = "queue, kind, key, value";

const HANDED: u8 = 0;
const TURN: u8 = 1;
const NOW: u8 = 2;

/// The statements of the table.
pub(super) struct Limits<'c> {
    put: Statement<'c>,
    removed: Statement<'c>,
}

impl<'c> Limits<'c> {
    pub(super) fn prepare(conn: &'c Connection) -> Result<Limits<'c>> {
        Ok(Limits {
            put: conn.prepare(&format!("INSERT OR REPLACE INTO limits ({LIMIT}) VALUES (?1, ?2, ?3, ?4)"))?,
            removed: conn.prepare("DELETE FROM limits WHERE queue = ?1 AND kind = ?2 AND key = ?3")?,
        })
    }

    pub(super) fn write(&mut self, batch: &Batch) -> Result<()> {
        for ((queue, key), value) in &batch.limits {
            let (kind, cell) = cells(key);
            match value {
                Some(value) => self.put.execute(params![queue.0, kind, cell, bits(*value)])?,
                None => self.removed.execute(params![queue.0, kind, cell])?,
            };
        }
        Ok(())
    }
}

fn cells(key: &LimitKey) -> (u8, ToSqlOutput<'_>) {
    match key {
        LimitKey::Handed(at) => (HANDED, ToSqlOutput::Owned(Value::Integer(bits(at.0)))),
        // A key has at least one byte.
        LimitKey::Turn(key) => (TURN, key.as_deref().unwrap_or("").into()),
        LimitKey::Now => (NOW, "".into()),
    }
}

/// A row of [`LIMIT`].
pub(crate) fn limit(row: Cells<'_>) -> std::result::Result<(QueueId, LimitKey, u64), Error> {
    let key = match row.int(1)? {
        kind if kind == i64::from(HANDED) => LimitKey::Handed(StoreTime(row.u64(2)?)),
        kind if kind == i64::from(TURN) => {
            LimitKey::Turn(Some(row.text(2)?).filter(|key| !key.is_empty()).map(Into::into))
        }
        kind if kind == i64::from(NOW) => LimitKey::Now,
        _ => return Err(row.bad(1, "is none of the kinds there are")),
    };
    Ok((QueueId(row.u32(0)?), key, row.u64(3)?))
}

//! What many groups together do to the tables of locks. Most grants come and go between two batches, and leave nothing.

use std::collections::BTreeMap;

use mainstay_core::{
    StoreTime,
    engine::locks::change::{LockChange, LockGrantRow, LockWaiterRow},
};

use super::Row;

/// Rows by their keys.
#[derive(Clone, Default)]
pub struct Locks {
    /// By token.
    pub grants: BTreeMap<u64, Row<Grant>>,
    /// By place.
    pub waiters: BTreeMap<u64, Row<Box<LockWaiterRow>>>,
}

#[derive(Clone)]
pub enum Grant {
    /// All of it.
    Whole(Box<LockGrantRow>),
    /// The columns that change, of one that is there.
    Renewed { until: StoreTime, ms: u64 },
}

impl Locks {
    pub(super) fn change(&mut self, change: LockChange) {
        match change {
            LockChange::Granted(row) => {
                let now = Some(Grant::Whole(row));
                if let Some(Grant::Whole(row)) = &now {
                    let token = row.lease.token.0;
                    self.grants.insert(token, Row { was: false, now });
                }
            }
            LockChange::Renewed { token, until, ms, .. } => {
                let row = self.grants.entry(token.0).or_insert(Row { was: true, now: None });
                match &mut row.now {
                    Some(Grant::Whole(row)) => (row.until, row.ms) = (Some(until), ms),
                    now => *now = Some(Grant::Renewed { until, ms }),
                }
            }
            LockChange::Freed { token, .. } => goes(&mut self.grants, token.0),
            LockChange::Queued(row) => {
                self.waiters.insert(row.place, Row { was: false, now: Some(row) });
            }
            LockChange::Left { place, .. } => goes(&mut self.waiters, place),
        }
    }
}

fn goes<T>(rows: &mut BTreeMap<u64, Row<T>>, key: u64) {
    match rows.get_mut(&key) {
        Some(row) if row.was => row.now = None,
        Some(_) => drop(rows.remove(&key)),
        None => drop(rows.insert(key, Row { was: true, now: None })),
    }
}

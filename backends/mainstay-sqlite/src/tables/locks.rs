//! Grants of locks and their waiters as SQL.

use mainstay_core::{engine::locks::change::LockGrantRow, lock::Ticket};
use rusqlite::{Connection, Result, Statement, params};

use super::write::Missing;
use crate::{
    apply::{Grant, Locks, Row},
    journal::mode_numbers,
    row::bits,
};

pub(super) struct LockStatements<'c> {
    grant: Statement<'c>,
    renewed: Statement<'c>,
    freed: Statement<'c>,
    waiter: Statement<'c>,
    left: Statement<'c>,
}

impl<'c> LockStatements<'c> {
    pub(super) fn prepare(conn: &'c Connection) -> Result<LockStatements<'c>> {
        Ok(LockStatements {
            grant: conn.prepare(
                "INSERT INTO lock_grant (token, name, nonce, owner, mode, permits, until, acquired_at, ttl_ms, ms, \
                 delay_ms, ticket) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?,
            renewed: conn.prepare("UPDATE lock_grant SET until = ?2, ms = ?3 WHERE token = ?1")?,
            freed: conn.prepare("DELETE FROM lock_grant WHERE token = ?1")?,
            waiter: conn.prepare(
                "INSERT INTO lock_waiter (place, name, owner, mode, permits, ttl_ms, delay_ms, ticket, since) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?,
            left: conn.prepare("DELETE FROM lock_waiter WHERE place = ?1")?,
        })
    }

    pub(super) fn write(&mut self, locks: &Locks) -> Result<Missing> {
        for (token, Row { now, .. }) in &locks.grants {
            let written = match now {
                Some(Grant::Whole(row)) => self.put(row)?,
                Some(Grant::Renewed { until, ms }) => {
                    self.renewed.execute(params![bits(*token), bits(until.0), bits(*ms)])?
                }
                None => self.freed.execute([bits(*token)])?,
            };
            if written != 1 {
                return Ok(Some(format!("grant {token} of a lock")));
            }
        }
        for (place, Row { now, .. }) in &locks.waiters {
            let written = match now {
                Some(row) => {
                    let (mode, permits) = mode_numbers(row.mode);
                    self.waiter.execute(params![
                        bits(*place),
                        row.name.as_str(),
                        row.owner.as_str(),
                        mode,
                        permits,
                        bits(row.ttl_ms),
                        bits(row.delay_ms),
                        ticket(&row.ticket),
                        row.since.0,
                    ])?
                }
                None => self.left.execute([bits(*place)])?,
            };
            if written != 1 {
                return Ok(Some(format!("waiter {place} for a lock")));
            }
        }
        Ok(None)
    }

    fn put(&mut self, row: &LockGrantRow) -> Result<usize> {
        let (mode, permits) = mode_numbers(row.mode);
        self.grant.execute(params![
            bits(row.lease.token.0),
            row.name.as_str(),
            bits(row.lease.nonce),
            row.owner.as_str(),
            mode,
            permits,
            row.until.map(|until| bits(until.0)),
            row.acquired_at.0,
            bits(row.ttl_ms),
            bits(row.ms),
            bits(row.delay_ms),
            row.ticket.as_ref().map(ticket),
        ])
    }
}

fn ticket(ticket: &Ticket) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&ticket.scope);
    bytes[16..].copy_from_slice(&ticket.fingerprint);
    bytes
}

//! Rows about locks.

use mainstay_core::{
    Error, LeaseId, StoreTime, Token,
    engine::locks::change::{LockGrantRow, LockWaiterRow},
    lock::{LockMode, MAX_PERMITS, Owner, Ticket},
};

use super::Cells;
use crate::journal::mode_of;

/// The columns that [`Cells::lock_grant`] reads.
pub(crate) const LOCK_GRANT: &str =
    "token, name, nonce, owner, mode, permits, until, acquired_at, ttl_ms, ms, delay_ms, ticket";
/// The columns that [`Cells::lock_waiter`] reads.
pub(crate) const LOCK_WAITER: &str = "place, name, owner, mode, permits, ttl_ms, delay_ms, ticket, since";

impl Cells<'_> {
    /// A row of [`LOCK_GRANT`].
    pub(crate) fn lock_grant(&self) -> Result<LockGrantRow, Error> {
        Ok(LockGrantRow {
            name: self.parse(1)?,
            lease: LeaseId { token: Token(self.u64(0)?), nonce: self.u64(2)? },
            owner: self.owner(3)?,
            mode: self.lock_mode(4)?,
            until: self.int_opt(6)?.map(|until| StoreTime(until as u64)),
            acquired_at: self.time(7)?,
            ttl_ms: self.u64(8)?,
            ms: self.u64(9)?,
            delay_ms: self.u64(10)?,
            ticket: if self.is_null(11)? { None } else { Some(self.ticket(11)?) },
        })
    }

    /// A row of [`LOCK_WAITER`].
    pub(crate) fn lock_waiter(&self) -> Result<LockWaiterRow, Error> {
        Ok(LockWaiterRow {
            place: self.u64(0)?,
            name: self.parse(1)?,
            owner: self.owner(2)?,
            mode: self.lock_mode(3)?,
            ttl_ms: self.u64(5)?,
            delay_ms: self.u64(6)?,
            ticket: self.ticket(7)?,
            since: self.time(8)?,
        })
    }

    fn owner(&self, i: usize) -> Result<Owner, Error> {
        Owner::new(self.text(i)?).map_err(|e| self.bad(i, &e.to_string()))
    }

    /// The mode in a column, its permits in the next.
    fn lock_mode(&self, i: usize) -> Result<LockMode, Error> {
        let (number, permits) = (self.u32(i)?, self.u32(i + 1)?);
        let known = u8::try_from(number).ok().and_then(|number| mode_of(number, permits));
        match known {
            Some(LockMode::Semaphore { permits }) if !(1..=MAX_PERMITS).contains(&permits) => {
                Err(self.bad(i + 1, "is not a number of permits"))
            }
            Some(mode) => Ok(mode),
            None => Err(self.bad(i, &format!("holds the unknown number {number}"))),
        }
    }

    fn ticket(&self, i: usize) -> Result<Ticket, Error> {
        let bytes: [u8; 32] = self.bytes(i)?;
        let mut ticket = Ticket { scope: [0; 16], fingerprint: [0; 16] };
        ticket.scope.copy_from_slice(&bytes[..16]);
        ticket.fingerprint.copy_from_slice(&bytes[16..]);
        Ok(ticket)
    }
}

//! Changes of locks as bytes, and back.

use mainstay_core::{
    LeaseId, StoreTime, Token,
    engine::locks::change::{LockChange, LockGrantRow, LockWaiterRow},
    lock::{LockMode, Owner, Ticket},
};

use super::{
    decode::{Bytes, Result},
    encode::{opt, text, u32, u64},
};

/// What stands before a change of a lock.
pub(super) mod tag {
    pub(in super::super) const GRANTED: u8 = 40;
    pub(in super::super) const RENEWED: u8 = 41;
    pub(in super::super) const FREED: u8 = 42;
    pub(in super::super) const QUEUED: u8 = 43;
    pub(in super::super) const LEFT: u8 = 44;
}

pub(super) fn put(out: &mut Vec<u8>, change: &LockChange) {
    match change {
        LockChange::Granted(row) => {
            out.push(tag::GRANTED);
            text(out, row.name.as_str());
            u64(out, row.lease.token.0);
            u64(out, row.lease.nonce);
            text(out, row.owner.as_str());
            mode(out, row.mode);
            opt(out, row.until.as_ref(), |out, until| u64(out, until.0));
            for number in [row.acquired_at.0 as u64, row.ttl_ms, row.ms, row.delay_ms] {
                u64(out, number);
            }
            opt(out, row.ticket.as_ref(), ticket);
        }
        LockChange::Renewed { name, token, until, ms } => {
            out.push(tag::RENEWED);
            text(out, name.as_str());
            for number in [token.0, until.0, *ms] {
                u64(out, number);
            }
        }
        LockChange::Freed { name, token } => {
            out.push(tag::FREED);
            text(out, name.as_str());
            u64(out, token.0);
        }
        LockChange::Queued(row) => {
            out.push(tag::QUEUED);
            u64(out, row.place);
            text(out, row.name.as_str());
            text(out, row.owner.as_str());
            mode(out, row.mode);
            for number in [row.ttl_ms, row.delay_ms, row.since.0 as u64] {
                u64(out, number);
            }
            ticket(out, &row.ticket);
        }
        LockChange::Left { name, place, .. } => {
            out.push(tag::LEFT);
            text(out, name.as_str());
            u64(out, *place);
        }
    }
}

/// Modes as they are stored, in the journal and in the tables: a number, and the permits of a semaphore.
pub fn mode_numbers(mode: LockMode) -> (u8, u32) {
    match mode {
        LockMode::Exclusive => (0, 0),
        LockMode::Shared => (1, 0),
        LockMode::Semaphore { permits } => (2, permits),
    }
}

/// The mode with these numbers.
pub fn mode_of(number: u8, permits: u32) -> Option<LockMode> {
    match number {
        0 => Some(LockMode::Exclusive),
        1 => Some(LockMode::Shared),
        2 => Some(LockMode::Semaphore { permits }),
        _ => None,
    }
}

fn mode(out: &mut Vec<u8>, mode: LockMode) {
    let (number, permits) = mode_numbers(mode);
    out.push(number);
    u32(out, permits);
}

fn ticket(out: &mut Vec<u8>, ticket: &Ticket) {
    out.extend(ticket.scope);
    out.extend(ticket.fingerprint);
}

impl Bytes<'_> {
    pub(super) fn lock_change(&mut self, tag: u8) -> Result<LockChange> {
        Ok(match tag {
            tag::GRANTED => LockChange::Granted(Box::new(LockGrantRow {
                name: self.parse()?,
                lease: LeaseId { token: Token(self.u64()?), nonce: self.u64()? },
                owner: self.owner()?,
                mode: self.mode()?,
                until: self.opt(|bytes| bytes.u64().map(StoreTime))?,
                acquired_at: self.time()?,
                ttl_ms: self.u64()?,
                ms: self.u64()?,
                delay_ms: self.u64()?,
                ticket: self.opt(Self::ticket)?,
            })),
            tag::RENEWED => LockChange::Renewed {
                name: self.parse()?,
                token: Token(self.u64()?),
                until: StoreTime(self.u64()?),
                ms: self.u64()?,
            },
            tag::FREED => LockChange::Freed { name: self.parse()?, token: Token(self.u64()?) },
            tag::QUEUED => LockChange::Queued(Box::new(LockWaiterRow {
                place: self.u64()?,
                name: self.parse()?,
                owner: self.owner()?,
                mode: self.mode()?,
                ttl_ms: self.u64()?,
                delay_ms: self.u64()?,
                since: self.time()?,
                ticket: self.ticket()?,
            })),
            tag::LEFT => LockChange::Left { name: self.parse()?, place: self.u64()?, scope: None },
            _ => return Err("an unknown kind of change"),
        })
    }

    fn owner(&mut self) -> Result<Owner> {
        Owner::new(self.text()?).map_err(|_| "an owner that is none")
    }

    fn mode(&mut self) -> Result<LockMode> {
        let number = self.u8()?;
        mode_of(number, self.u32()?).ok_or("an unknown mode of a lock")
    }

    fn ticket(&mut self) -> Result<Ticket> {
        Ok(Ticket { scope: self.array()?, fingerprint: self.array()? })
    }
}

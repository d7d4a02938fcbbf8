//! What a commit changed about locks. The tables are `lock_grant`, by token, and `lock_waiter`, by place.

use crate::{
    lease::{LeaseId, Token},
    lock::{LockMode, Owner, Ticket},
    name::Name,
    time::{StoreTime, Timestamp},
};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockChange {
    /// Insert of a grant.
    Granted(Box<LockGrantRow>),
    /// A grant has more time.
    Renewed {
        /// Of this lock.
        name: Name,
        /// Key.
        token: Token,
        /// When it runs out.
        until: StoreTime,
        /// What was granted last, in milliseconds.
        ms: u64,
    },
    /// A grant is over, and keeps nobody out any more.
    Freed {
        /// Of this lock.
        name: Name,
        /// Key.
        token: Token,
    },
    /// Insert of a waiter that keeps its place.
    Queued(Box<LockWaiterRow>),
    /// Such a waiter has left the line.
    Left {
        /// Of this lock.
        name: Name,
        /// Key.
        place: u64,
        /// The scope of its ticket: who waits with it is told. Not written down: nobody waits when it is read.
        scope: Option<[u8; 16]>,
    },
}

impl LockChange {
    /// Which lock's holders or line it changed, and the scope of the ticket that the lock was handed to, or that has no
    /// place any more. `None`: nobody waits for it.
    pub fn concerns(&self) -> Option<(&Name, Option<[u8; 16]>)> {
        match self {
            LockChange::Granted(row) => {
                let handed_to = row.ticket.filter(|_| row.until.is_none());
                Some((&row.name, handed_to.map(|ticket| ticket.scope)))
            }
            LockChange::Freed { name, .. } => Some((name, None)),
            LockChange::Left { name, scope, .. } => Some((name, *scope)),
            LockChange::Renewed { .. } | LockChange::Queued(_) => None,
        }
    }
}

/// A grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockGrantRow {
    /// Which lock.
    pub name: Name,
    /// Token, which is the key, and nonce.
    pub lease: LeaseId,
    /// Whose.
    pub owner: Owner,
    /// How.
    pub mode: LockMode,
    /// When it runs out. `None`: it was handed to a waiter, and its time begins when that collects it; nobody writes
    /// down when that was, so it may have been.
    pub until: Option<StoreTime>,
    /// When it was granted.
    pub acquired_at: Timestamp,
    /// What the acquire asked for, in milliseconds.
    pub ttl_ms: u64,
    /// What was granted last, in milliseconds: what a live grant gets again after a restart.
    pub ms: u64,
    /// How long it keeps others out after it has run out, in milliseconds.
    pub delay_ms: u64,
    /// The ticket it was got with.
    pub ticket: Option<Ticket>,
}

/// A waiter that keeps its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockWaiterRow {
    /// The key: places only grow.
    pub place: u64,
    /// For which lock.
    pub name: Name,
    /// Who.
    pub owner: Owner,
    /// What it asks for.
    pub mode: LockMode,
    /// How long its grant lives, in milliseconds.
    pub ttl_ms: u64,
    /// How long that keeps others out after it has run out, in milliseconds.
    pub delay_ms: u64,
    /// By what it is recognised.
    pub ticket: Ticket,
    /// When it came.
    pub since: Timestamp,
}

//! Locks: who holds one, who waits for it, and what can be asked.
//!
//! A lock exists while somebody holds it or waits for it; nothing has to be created. Every grant has a fencing token
//! of its own, higher than every earlier one of the store.
//!
//! An acquire never blocks inside a store. With a *ticket* it gets a place in the line: the caller waits for
//! [`LockInterest::Granted`] and sends the same acquire again, which collects the grant that was handed to the ticket
//! meanwhile. That is also how a lost answer is repeated. Without a ticket an acquire is a try.
//!
//! - One line a lock, whatever the modes: who comes first is served first, and a reader waits behind a waiting writer.
//! - A waiter is *present* for as long as it said it would wait, and for the moment of asking. One that is absent is
//!   passed over; a ticket with `keep_place` keeps its place for [`PLACE_KEPT_MS`], any other leaves the line.
//! - A lock that comes free is handed to the next in the same commit. The time of such a grant begins when it is
//!   collected; one that nobody collects within [`COLLECT_MS`] goes to the next.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    lease::{LeaseId, Token},
    name::Name,
    op::IdempotencyKey,
    time::Timestamp,
};

/// The shortest and the longest time a grant can be asked for, in milliseconds.
pub const TTL_MS: std::ops::RangeInclusive<u64> = 1..=86_400_000;
/// The longest a waiter is present for one acquire, in milliseconds. Sent again in time it goes on waiting.
pub const WAIT_MS: u64 = 60_000;
/// The longest delay after an expiry, in milliseconds.
pub const DELAY_MS: u64 = 60_000;
/// How long a ticket keeps its place in the line without being present, in milliseconds.
pub const PLACE_KEPT_MS: u64 = 10_000;
/// How long a grant that was handed over waits to be collected, in milliseconds.
pub const COLLECT_MS: u64 = 10_000;
/// The most permits of a semaphore, and the most holders of any lock.
pub const MAX_PERMITS: u32 = 10_000;
/// The most waiters of one lock, tickets that only keep their place included.
pub const MAX_WAITERS: usize = 10_000;
/// The most waiters of a store.
pub const MAX_WAITERS_IN_ALL: usize = 100_000;
/// The most grants that live at a time in a store.
pub const MAX_GRANTS: usize = 1_000_000;

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LockMode {
    /// By one.
    Exclusive,
    /// By any number of readers.
    Shared,
    /// By at most `permits`, each with a grant of its own.
    Semaphore {
        /// How many: 1…[`MAX_PERMITS`]. All who hold a semaphore at a time have said the same number.
        permits: u32,
    },
}

impl LockMode {
    /// The name the contract gives it: `exclusive`, `shared`, `semaphore`.
    pub fn as_str(self) -> &'static str {
        match self {
            LockMode::Exclusive => "exclusive",
            LockMode::Shared => "shared",
            LockMode::Semaphore { .. } => "semaphore",
        }
    }

    /// Whether one more grant of mode `self` fits beside `holders` grants of mode `held`.
    pub fn fits(self, held: LockMode, holders: usize) -> bool {
        match (self, held) {
            _ if holders == 0 => true,
            (LockMode::Shared, LockMode::Shared) => true,
            (LockMode::Semaphore { permits }, LockMode::Semaphore { permits: held }) => {
                permits == held && holders < permits as usize
            }
            _ => false,
        }
    }
}

/// Who asks for a lock, in its own words: 1…256 bytes without control characters. Shown to others, never compared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Owner(Arc<str>);

/// What is wrong with an owner, in words for its author.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an owner {0}")]
pub struct InvalidOwner(&'static str);

impl Owner {
    /// Checks `text` and makes it an owner.
    ///
    /// # Errors
    /// It is empty, longer than 256 bytes, or has control characters.
    pub fn new(text: &str) -> Result<Owner, InvalidOwner> {
        match text {
            "" => Err(InvalidOwner("has at least one character")),
            _ if text.len() > 256 => Err(InvalidOwner("has at most 256 bytes")),
            _ if text.chars().any(char::is_control) => Err(InvalidOwner("has no control characters")),
            _ => Ok(Owner(Arc::from(text))),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Owner {
    type Error = InvalidOwner;
    fn try_from(text: String) -> Result<Owner, InvalidOwner> {
        Owner::new(&text)
    }
}
impl From<Owner> for String {
    fn from(owner: Owner) -> String {
        owner.0.as_ref().to_owned()
    }
}
impl From<Name> for Owner {
    fn from(name: Name) -> Owner {
        Owner(Arc::from(name.as_str()))
    }
}
impl AsRef<str> for Owner {
    fn as_ref(&self) -> &str {
        &self.0
    }
}
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

/// What makes an acquire the same acquire when it is sent again. `scope` names it (by convention hashed from caller,
/// lock and key, or random for one that is never sent twice by others); `fingerprint` is what was asked, without the
/// wait.
pub type Ticket = IdempotencyKey;

/// One change of a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockOp {
    /// Takes a lock, or a place in its line, or collects what was handed to its ticket.
    ///
    /// → [`LockReply::Granted`], or [`LockReply::Waiting`] if it has a ticket. Without one:
    /// [`crate::op::Reason::LockHeld`].
    ///
    /// Not re-entrant: the same owner without the ticket waits like anybody else. A ticket that waits or whose grant
    /// lives is refused with another fingerprint ([`crate::op::Reason::IdempotencyMismatch`]); one whose grant has
    /// ended, or that was withdrawn, is an ordinary acquire again.
    Acquire(Box<Acquire>),
    /// Prolongs a grant: it runs `ttl_ms` from now, and never ends earlier than it would have.
    /// → [`LockReply::Renewed`], or [`crate::op::Reason::LockLost`].
    Renew {
        /// Which lock.
        name: Name,
        /// The proof.
        lease: LeaseId,
        /// How long from now, in milliseconds: [`TTL_MS`]. `None`: as long as the acquire asked for.
        ttl_ms: Option<u64>,
    },
    /// Ends a grant and hands the lock on. → [`LockReply::Released`], or [`crate::op::Reason::LockLost`], also when
    /// it was released before.
    Release {
        /// Which lock.
        name: Name,
        /// The proof.
        lease: LeaseId,
    },
    /// Ends the grants of all holders, whatever they want, and hands the lock on. The next token is higher.
    /// → [`LockReply::Broken`], or [`crate::op::Reason::NotFound`] if it is free.
    Break {
        /// Which lock.
        name: Name,
    },
    /// The ticket's caller does not wait any more. → [`LockReply::Withdrawn`], whatever was there. One with another
    /// fingerprint than the acquire's changes nothing.
    Withdraw {
        /// Which lock.
        name: Name,
        /// Whose.
        ticket: Ticket,
        /// The [`Acquire::visit`] that has ended.
        visit: u64,
        /// `true`: its connection is gone but it may come back: it keeps its place (if its acquire said
        /// `keep_place`) or a grant, and goes on waiting in its other visits; one that ended before changes nothing.
        /// `false`: it wants nothing more: it leaves the line, or its grant is released, collected or not, and what
        /// still waits with the ticket is refused when it asks [`again`](Acquire::again), for [`WAIT_MS`] from now.
        may_return: bool,
    },
}

impl LockOp {
    /// Which lock it is about.
    pub fn name(&self) -> &Name {
        match self {
            LockOp::Acquire(acquire) => &acquire.name,
            LockOp::Renew { name, .. }
            | LockOp::Release { name, .. }
            | LockOp::Break { name }
            | LockOp::Withdraw { name, .. } => name,
        }
    }
}

/// How a lock is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquire {
    /// Which lock.
    pub name: Name,
    /// Who asks.
    pub owner: Owner,
    /// How.
    pub mode: LockMode,
    /// How long the grant lives unless it is renewed, in milliseconds: [`TTL_MS`].
    pub ttl_ms: u64,
    /// How long after an expiry (not after a release) the grant still keeps others out, in milliseconds: at most
    /// [`DELAY_MS`]. For work that cannot be fenced: it gives what is under way time to end. Usually 0.
    pub delay_ms: u64,
    /// The ticket. `None`: a try, all or nothing.
    pub ticket: Option<Ticket>,
    /// How long the caller will be there for a hand-over, in milliseconds, from now: at most [`WAIT_MS`]. Send the
    /// acquire again before that to go on waiting, with 0 to look a last time.
    pub wait_ms: u64,
    /// Which request of its ticket this is, for tickets that may be sent over several connections at a time: each says
    /// a number of its own, and the same whenever it asks again. The caller is there while one of them is. In RAM alone.
    pub visit: u64,
    /// This request has asked before, and waits on. One whose ticket was withdrawn since then
    /// ([`crate::lock::LockOp::Withdraw`]) gets [`crate::op::Reason::StateConflict`]; any other is an acquire as usual.
    #[serde(default)]
    pub again: bool,
    /// The ticket keeps its place for [`PLACE_KEPT_MS`] when its caller is not there (a caller that may come back:
    /// an HTTP client with an `Idempotency-Key`), also over a restart. `false`: it leaves the line then.
    pub keep_place: bool,
}

/// The answer to a [`LockOp`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockReply {
    /// To [`LockOp::Acquire`].
    Granted(LockGrant),
    /// To [`LockOp::Acquire`] with a ticket.
    Waiting(LockWaiting),
    /// To [`LockOp::Renew`].
    Renewed {
        /// When the grant runs out now.
        expires_at: Timestamp,
    },
    /// To [`LockOp::Release`].
    Released,
    /// To [`LockOp::Break`]: who had it.
    Broken(Vec<LockHolder>),
    /// To [`LockOp::Withdraw`].
    Withdrawn,
}

/// A grant, as its holder gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockGrant {
    /// Which lock.
    pub name: Name,
    /// The proof; its token is the fencing token.
    pub lease: LeaseId,
    /// How.
    pub mode: LockMode,
    /// How long it was granted for, in milliseconds.
    pub ttl_ms: u64,
    /// When it runs out.
    pub expires_at: Timestamp,
}

impl LockGrant {
    /// The fencing token.
    pub fn token(&self) -> Token {
        self.lease.token
    }
}

/// Why an acquire has no grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockWaiting {
    /// Which lock.
    pub name: Name,
    /// The caller's place in the line, from 1. `None`: it has none (a try, or a last look without `keep_place`).
    pub position: Option<u64>,
    /// Who has it: of several the one that has had it longest.
    pub holder: Owner,
    /// When that one's grant stops keeping others out, unless it is renewed or released.
    pub expires_at: Timestamp,
    /// How many wait, the caller included if it has a place.
    pub waiters: u64,
}

/// A lock that is held, as anybody may see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRecord {
    /// Its name.
    pub name: Name,
    /// How it is held.
    pub mode: LockMode,
    /// Who holds it, lowest token first. Empty while the delay after an expiry keeps others out.
    pub holders: Vec<LockHolder>,
    /// When the delay after an expiry is over, if that keeps others out.
    pub delayed_until: Option<Timestamp>,
    /// Who waits, in the order of the line; the first [`LockRecord::WAITERS_SHOWN`].
    pub waiters: Vec<LockWaiter>,
    /// How many wait.
    pub waiting: u64,
}

impl LockRecord {
    /// The most waiters that a record shows.
    pub const WAITERS_SHOWN: usize = 1_000;

    /// Whether a live holder has this token.
    pub fn is_valid(&self, token: Token) -> bool {
        self.holders.iter().any(|holder| holder.token == token)
    }

    /// The highest token of a live holder.
    pub fn current_token(&self) -> Option<Token> {
        self.holders.iter().map(|holder| holder.token).max()
    }
}

/// One who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    /// Who.
    pub owner: Owner,
    /// The fencing token.
    pub token: Token,
    /// When it was granted.
    pub acquired_at: Timestamp,
    /// When it runs out.
    pub expires_at: Timestamp,
}

/// One who waits for a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockWaiter {
    /// Who.
    pub owner: Owner,
    /// Its place in the line, from 1.
    pub position: u64,
    /// What it asks for.
    pub mode: LockMode,
    /// It is there; `false`: it only keeps its place and is passed over.
    pub present: bool,
    /// Since when.
    pub since: Timestamp,
}

/// What a caller waits for. Only hints, as all of [`crate::store::Interest`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LockInterest {
    /// The ticket was handed a grant, or (one that keeps its place) is not in the line any more.
    Granted {
        /// Which lock.
        name: Name,
        /// The ticket's scope.
        scope: [u8; 16],
    },
    /// The highest token of a live holder is not `seen` any more (`None`: nobody holds it).
    Changed {
        /// Which lock.
        name: Name,
        /// What the caller has seen last.
        seen: Option<Token>,
    },
}

impl LockInterest {
    /// Which lock it is about.
    pub fn name(&self) -> &Name {
        match self {
            LockInterest::Granted { name, .. } | LockInterest::Changed { name, .. } => name,
        }
    }
}

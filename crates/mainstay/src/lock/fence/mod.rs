//! Fencing: what a lock protects refuses whoever has lost it.
//!
//! A holder that is paused for longer than its TTL does not know it; when it wakes, it writes. No lock can prevent
//! that, but what is written to can: it remembers the highest token it has seen and refuses lower ones. Where that is
//! the same store, [`require_lock`](crate::CommitBuilder::require_lock) does it in the commit; here is help for the rest:
//!
//! All of it compares tokens, and takes one lower than the highest for one that is late. That is so for exclusive locks.
//! Holders of a shared lock or of a semaphore live side by side, each with a token of its own: of those the lower ones
//! would be refused although they hold the lock. There, ask whether the token is a live holder's:
//! [`require_lock`](crate::CommitBuilder::require_lock), or [`check_lock`](crate::Client::check_lock).
//!
//! - [`sql`]: a condition to add to a statement;
//! - [`http`] (feature `http`): a header, and a layer that refuses lower tokens;
//! - [`mod@file`]: a file that is replaced under its token.

pub mod file;
#[cfg(feature = "http")]
pub mod http;
pub mod sql;

use std::fmt;

use mainstay_core::{lease::Token, lock::LockMode, name::Name};

/// What a write carries along to prove that it is not late: the lock, and the token of the grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    lock: Name,
    token: Token,
}

impl Fence {
    /// The fence of this grant of a lock. [`LockGuard::fence`](super::LockGuard::fence) makes it from a guard, if that
    /// has the lock alone.
    pub fn new(lock: Name, token: Token) -> Fence {
        Fence { lock, token }
    }

    /// The lock.
    pub fn lock(&self) -> &Name {
        &self.lock
    }

    /// The token of the grant.
    pub fn token(&self) -> Token {
        self.token
    }

    /// The token as databases take it. Tokens are below 2^53.
    pub fn value(&self) -> i64 {
        self.token.0.cast_signed()
    }
}

/// The fence of a lock that may be held together with others: their tokens stand side by side, and tell nothing of who is
/// late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAlone {
    lock: Name,
    mode: LockMode,
}

impl NotAlone {
    pub(super) fn new(lock: Name, mode: LockMode) -> NotAlone {
        NotAlone { lock, mode }
    }

    /// The lock.
    pub fn lock(&self) -> &Name {
        &self.lock
    }
}

impl fmt::Display for NotAlone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NotAlone { lock, mode } = self;
        write!(
            f,
            "lock `{lock}` ({}) may be held together with others, so its tokens cannot be compared: require it in the \
             commit, ask whether its token is live, or take an exclusive lock for what is written",
            mode.as_str()
        )
    }
}

impl std::error::Error for NotAlone {}

/// A write that came too late: one under a later grant has been seen.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stale {
    /// What it came with.
    pub fence: Fence,
    /// The highest token that has been seen.
    pub highest: Token,
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stale { fence, highest } = self;
        write!(f, "token {} of lock `{}` is stale: {} has been seen", fence.token.0, fence.lock, highest.0)
    }
}

impl std::error::Error for Stale {}

//! Histories of locks: what clients asked and got, and when, and whether any correct lock service could have answered
//! so.
//!
//! A client notes each call with the times before it was sent and after its answer came, on one clock for all. A call
//! that was never answered may have happened or not. [`check`] then asks for an order of the calls of each lock that
//! respects these times and the rules of a lock with a TTL (see `search` for the algorithm); [`line::overtaken`]
//! looks for waiters that were served out of turn; [`Register`] is what a lock protects.

pub mod line;
mod register;
mod rules;
mod search;

use std::{collections::BTreeMap, fmt};

use mainstay_core::lock::LockMode;
use serde::{Deserialize, Serialize};

pub use register::Register;
pub use search::check;

/// One call of a client, as it saw it. Times are microseconds on a clock that all clients share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Who.
    pub client: u64,
    /// About which lock.
    pub lock: String,
    /// What it asked.
    pub asked: Asked,
    /// What it got.
    pub got: Got,
    /// Before it was sent. Of calls that were sent again, the first time.
    pub from: u64,
    /// After the answer came; `None`: none came.
    pub to: Option<u64>,
}

/// What a client asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// To have the lock.
    Acquire {
        /// How.
        mode: LockMode,
        /// For so many milliseconds.
        ttl_ms: u64,
        /// Waiting for it so many milliseconds at most.
        wait_ms: u64,
    },
    /// To have it longer.
    Renew {
        /// The token of its grant.
        token: u64,
        /// For so many milliseconds from now.
        ttl_ms: u64,
    },
    /// To be rid of it.
    Release {
        /// The token of its grant.
        token: u64,
    },
    /// To do something that requires a live token.
    Use {
        /// Which.
        token: u64,
    },
    /// Whether a token is live.
    Check {
        /// Which.
        token: u64,
    },
}

/// What a client got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Got {
    /// The lock, with this token.
    Granted(u64),
    /// Others have it.
    Held,
    /// It was renewed, released, or used.
    Done,
    /// The grant is over.
    Lost,
    /// Whether the token is live, and the highest that is.
    Checked {
        /// It is.
        valid: bool,
        /// The highest; `None`: nobody has the lock.
        current: Option<u64>,
    },
    /// No answer.
    Nothing,
}

/// Why no lock service that keeps the rules can have answered so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Of which lock.
    pub lock: String,
    /// The calls that fit, in an order that explains them.
    pub explained: Vec<Call>,
    /// Those that could come next, none of which fits.
    pub stuck: Vec<Call>,
    /// The search had too many possibilities: it is not known whether there is an explanation.
    pub gave_up: bool,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = if self.gave_up { "no order was found in which" } else { "there is no order in which" };
        writeln!(f, "{found} the calls on lock `{}` explain their answers; the last that fit:", self.lock)?;
        for call in self.explained.iter().rev().take(12).rev() {
            writeln!(f, "  {call:?}")?;
        }
        writeln!(f, "and then none of:")?;
        self.stuck.iter().take(12).try_for_each(|call| writeln!(f, "  {call:?}"))
    }
}

/// The calls by the lock they are about: locks have nothing to do with each other, so each can be judged alone.
fn by_lock(calls: &[Call]) -> BTreeMap<&str, Vec<&Call>> {
    let mut locks: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in calls {
        locks.entry(&call.lock).or_default().push(call);
    }
    locks
}

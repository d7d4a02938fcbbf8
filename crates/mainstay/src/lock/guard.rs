//! A lock that is held.

use std::{fmt, sync::Arc};

use mainstay_core::{
    lease::{LeaseId, Token},
    lock::{LockMode, LockOp},
    name::Name,
    op::{Op, Reason},
};

use super::{
    LockLost, Loss, Term,
    fence::{Fence, NotAlone},
    hold::Hold,
    keeper::Kept,
};
use crate::client::{Client, StoreError};

/// A lock that is held, and renewed at a third of its TTL until it is given back.
///
/// Dropping it gives the lock back in the background; [`release`](Self::release) waits for that. A service that stops
/// gives back what is left.
#[must_use = "a lock is given back when its guard is dropped"]
pub struct LockGuard {
    hold: Arc<Hold>,
    client: Client,
    /// Dropped, it gives the lock back.
    kept: Kept,
}

impl LockGuard {
    pub(super) fn new(client: Client, hold: Arc<Hold>, term: Term, renewed: bool) -> LockGuard {
        let kept = client.keeper().keep(hold.clone(), term, renewed);
        LockGuard { hold, client, kept }
    }

    /// The lock's name.
    pub fn name(&self) -> &Name {
        &self.hold.name
    }

    /// The fencing token of the grant: larger than that of every earlier one.
    pub fn token(&self) -> Token {
        self.hold.lease.token
    }

    /// The proof of the grant, for ops that take one.
    pub fn lease(&self) -> LeaseId {
        self.hold.lease
    }

    /// Name and token, for what is written outside of the store and compares tokens.
    ///
    /// # Errors
    /// The lock is shared, or a permit of several: whoever compares would refuse others who hold it as well.
    pub fn fence(&self) -> Result<Fence, NotAlone> {
        match self.hold.mode {
            LockMode::Exclusive | LockMode::Semaphore { permits: 1 } => {
                Ok(Fence::new(self.hold.name.clone(), self.token()))
            }
            mode => Err(NotAlone::new(self.hold.name.clone(), mode)),
        }
    }

    /// Whether the lock is held, by this process's clock. It may be lost a moment later: for what must not be written
    /// without it, use the token.
    pub fn is_held(&self) -> bool {
        self.hold.lost_now().is_none()
    }

    /// Resolves when the lock is lost: at the latest when its time is over, also if the store does not answer and after
    /// a sleep of the machine (within a second of its end). Cancel safe.
    pub async fn lost(&self) -> LockLost {
        self.hold.lost().await
    }

    /// Runs `work` for as long as the lock is held; it is dropped at its next await point when the lock is lost.
    ///
    /// Cancel safe if `work` is.
    ///
    /// # Errors
    /// The lock was lost before the work had ended.
    pub async fn run<F: Future>(&self, work: F) -> Result<F::Output, LockLost> {
        tokio::select! {
            biased;
            lost = self.hold.lost() => Err(lost),
            output = work => Ok(output),
        }
    }

    /// Gives the lock back; it goes to the next waiter at once. Dropped before it answers, this goes on in the
    /// background.
    ///
    /// # Errors
    /// The lock had been lost ([`Reason::LockLost`]): what was done since may have been done beside somebody else. The
    /// store's trouble; then it is tried again in the background, and the lock ends with its TTL at the latest.
    pub async fn release(self) -> Result<(), StoreError> {
        let op = LockOp::Release { name: self.hold.name.clone(), lease: self.hold.lease };
        // A renewal may be under way: behind the release it finds nothing.
        self.hold.release_begins();
        let released = self.client.apply(Op::Lock(op)).await;
        let lost = released.as_ref().is_err_and(|error| matches!(error.reason(), Some(Reason::LockLost)));
        if lost {
            self.hold.end(Loss::Taken);
        }
        if lost || released.is_ok() {
            self.hold.end(Loss::Released);
            self.kept.told();
        }
        released.map(drop)
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("LockGuard");
        fields.field("name", self.name()).field("token", &self.token().0).finish_non_exhaustive()
    }
}

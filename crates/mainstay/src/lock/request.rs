//! How a lock is asked for.

use std::time::Duration;

use mainstay_core::{
    lock::{Acquire, LockMode, LockWaiting, Owner, Ticket},
    name::Name,
    op::{Place, Reason, Rejection},
};

use super::{LockGuard, Term, hold::Hold};
use crate::{
    client::{Acquisition, Client, StoreError},
    job::ms,
    secs,
};

/// How a lock is asked for: exclusive, for 30 s unless renewed, waiting up to 30 s, unless it says otherwise.
///
/// Made by [`Client::lock`]. Can be used many times; each time the same owner waits like anybody else.
#[derive(Debug, Clone)]
#[must_use = "a lock is not taken before `acquire`"]
pub struct Lock {
    client: Client,
    name: Name,
    owner: Option<String>,
    mode: LockMode,
    ttl: Duration,
    delay: Duration,
    wait: Duration,
    renewed: bool,
}

impl Lock {
    pub(crate) fn new(client: Client, name: Name) -> Lock {
        Lock {
            client,
            name,
            owner: None,
            mode: LockMode::Exclusive,
            ttl: secs(30),
            delay: Duration::ZERO,
            wait: secs(30),
            renewed: true,
        }
    }

    /// How long the lock is held without a sign of life: 1 ms to 24 h. Defaults to 30 s. It is renewed at a third of
    /// that, so this is how long others wait when this process dies.
    pub fn ttl(mut self, ttl: Duration) -> Lock {
        self.ttl = ttl;
        self
    }

    /// Does not renew: the lock is lost after its TTL. Defaults to renewing.
    pub fn without_renewal(mut self) -> Lock {
        self.renewed = false;
        self
    }

    /// How long [`acquire`](Self::acquire) waits. Defaults to 30 s. The deadline of the context ends it, too.
    pub fn wait(mut self, wait: Duration) -> Lock {
        self.wait = wait;
        self
    }

    /// Who asks, for whoever looks: 1 to 256 bytes. Defaults to `pid N`.
    pub fn owner(mut self, owner: impl Into<String>) -> Lock {
        self.owner = Some(owner.into());
        self
    }

    /// Together with others who share; a writer that waits is not overtaken.
    pub fn shared(mut self) -> Lock {
        self.mode = LockMode::Shared;
        self
    }

    /// One of this many permits. All who use the name say the same number.
    pub fn semaphore(mut self, permits: u32) -> Lock {
        self.mode = LockMode::Semaphore { permits };
        self
    }

    /// Keeps others out for so long after the lock has *expired* (not after it was given back): time for what is under
    /// way, where tokens cannot be compared. Up to 60 s; defaults to none.
    pub fn delay_after_expiry(mut self, delay: Duration) -> Lock {
        self.delay = delay;
        self
    }

    /// The lock's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Takes the lock, waiting for it in line. Cancel safe: dropped, it leaves the line, and a grant that was under way
    /// is given back.
    ///
    /// # Errors
    /// [`Reason::LockHeld`] when it was not free in time, [`Reason::StateConflict`] for a semaphore of another size,
    /// [`Reason::Invalid`] for a time out of bounds; the store's trouble;
    /// [`DeadlineExceeded`](mainstay_core::ErrorKind::DeadlineExceeded) when the context's deadline comes first.
    pub async fn acquire(&self) -> Result<LockGuard, StoreError> {
        self.acquire_within(self.wait).await
    }

    /// Takes the lock if it is free. `None` if it is not.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), but for [`Reason::LockHeld`].
    pub async fn try_acquire(&self) -> Result<Option<LockGuard>, StoreError> {
        match self.acquire_within(Duration::ZERO).await {
            Ok(guard) => Ok(Some(guard)),
            Err(error) if matches!(error.reason(), Some(Reason::LockHeld(_))) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn acquire_within(&self, wait: Duration) -> Result<LockGuard, StoreError> {
        let owner = match &self.owner {
            Some(owner) => Owner::new(owner),
            None => Owner::new(&format!("pid {}", std::process::id())),
        };
        let owner = owner.map_err(|error| StoreError::invalid("owner", error.to_string()))?;
        let keeper = self.client.keeper();
        let half = || self.client.entropy().to_be_bytes();
        let mut scope = [0; 16];
        scope[..8].copy_from_slice(&half());
        scope[8..].copy_from_slice(&half());
        let ticket = Ticket { scope, fingerprint: [0; 16] };
        let wanted = Acquire {
            name: self.name.clone(),
            owner,
            mode: self.mode,
            ttl_ms: ms(self.ttl),
            delay_ms: ms(self.delay),
            ticket: Some(ticket),
            wait_ms: 0,
            visit: 0,
            again: false,
            keep_place: false,
        };
        // Dropped with this future, it leaves the line.
        let in_line = keeper.enter_line(self.name.clone(), ticket);
        let acquired = self.client.acquire(wanted, wait, keeper.stopping()).await?;
        match acquired {
            Acquisition::Granted { grant, asked_at } => {
                let term = Term::new(asked_at, Duration::from_millis(grant.ttl_ms));
                let hold = Hold::new(self.client.clock().clone(), &grant, term);
                in_line.leave();
                Ok(LockGuard::new(self.client.clone(), hold, term, self.renewed))
            }
            Acquisition::Held(held) => {
                in_line.leave();
                Err(held_by_others(held))
            }
            Acquisition::Stopped => {
                let message = "the service is stopping, so no lock is waited for";
                Err(mainstay_core::Error::new(mainstay_core::ErrorKind::Closed, message).into())
            }
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }
}

fn held_by_others(held: Box<LockWaiting>) -> StoreError {
    Rejection { at: Place::Op(0), reason: Reason::LockHeld(held) }.into()
}

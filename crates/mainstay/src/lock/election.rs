//! One leader at a time, and who it is.

use std::{ops::Deref, time::Duration};

use mainstay_core::{lease::Token, lock::LockInterest, name::Name, store::Interest};

use super::{Lock, LockGuard};
use crate::{
    client::{Client, StoreError},
    secs,
};

/// How long one look at who leads waits for a change before it looks again by itself.
const TURN: Duration = secs(30);

/// An election: whoever holds its lock leads. Made by [`Client::election`].
///
/// ```
/// # use mainstay::{Client, secs};
/// # async fn lead() {}
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let store = Client::memory();
/// let election = store.election("scheduler")?.candidate("node-1").ttl(secs(10));
/// let leadership = election.campaign().await?;              // waits until nobody else leads
/// assert_eq!(election.leader().await?.unwrap().candidate, "node-1");
/// leadership.run(lead()).await?;                            // dropped half-way if the leadership is lost
/// leadership.resign().await?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
#[must_use = "an election does nothing before somebody campaigns"]
pub struct Election {
    lock: Lock,
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leader {
    /// As the candidate called itself.
    pub candidate: String,
    /// The fencing token of its term: larger than that of every earlier one.
    pub token: Token,
}

impl Election {
    pub(crate) fn new(lock: Lock) -> Election {
        // Candidates stand until they lead; what ends that is the context's deadline, the service's stop, or the caller.
        Election { lock: lock.wait(Duration::MAX) }
    }

    /// What a candidate calls itself, 1 to 256 bytes. Defaults to `pid N`.
    pub fn candidate(self, name: impl Into<String>) -> Election {
        Election { lock: self.lock.owner(name) }
    }

    /// How long after a leader's death nobody leads: 1 ms to 24 h. Defaults to 30 s.
    pub fn ttl(self, ttl: Duration) -> Election {
        Election { lock: self.lock.ttl(ttl) }
    }

    /// How long a candidate stands. Defaults to until it leads, the context's deadline, or the end of the service.
    pub fn wait(self, wait: Duration) -> Election {
        Election { lock: self.lock.wait(wait) }
    }

    /// Stands for election, and answers when it is won. Candidates lead in the order in which they came. Cancel safe:
    /// dropped, the candidate withdraws.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    pub async fn campaign(&self) -> Result<Leadership, StoreError> {
        Ok(Leadership { guard: self.lock.acquire().await? })
    }

    /// Who leads now.
    ///
    /// # Errors
    /// The store's.
    pub async fn leader(&self) -> Result<Option<Leader>, StoreError> {
        leader(self.lock.client(), self.lock.name()).await
    }

    /// Watches who leads.
    pub fn observe(&self) -> Observer {
        Observer { client: self.lock.client().clone(), name: self.lock.name().clone(), seen: None }
    }
}

/// Follows who leads.
#[derive(Debug, Clone)]
pub struct Observer {
    client: Client,
    name: Name,
    /// The token of the last answer, once there was one.
    seen: Option<Option<Token>>,
}

impl Observer {
    /// Who leads: the first time at once, afterwards when that has changed (`None`: nobody leads). Leaders that came and
    /// went in between are not told. Cancel safe.
    ///
    /// # Errors
    /// The store's; [`DeadlineExceeded`](mainstay_core::ErrorKind::DeadlineExceeded) when the context's deadline comes
    /// first.
    pub async fn changed(&mut self) -> Result<Option<Leader>, StoreError> {
        loop {
            let leader = leader(&self.client, &self.name).await?;
            let token = leader.as_ref().map(|leader| leader.token);
            if self.seen != Some(token) {
                self.seen = Some(token);
                return Ok(leader);
            }
            let changed = LockInterest::Changed { name: self.name.clone(), seen: token };
            drop(self.client.wait_for(&[Interest::Lock(changed)], TURN).await?);
        }
    }
}

/// A leadership. It is renewed like any lock, and ends when it is dropped.
#[derive(Debug)]
#[must_use = "a leadership ends when it is dropped"]
pub struct Leadership {
    guard: LockGuard,
}

impl Leadership {
    /// Lets the next candidate lead, at once.
    ///
    /// # Errors
    /// As [`LockGuard::release`].
    pub async fn resign(self) -> Result<(), StoreError> {
        self.guard.release().await
    }
}

impl Deref for Leadership {
    type Target = LockGuard;
    fn deref(&self) -> &LockGuard {
        &self.guard
    }
}

async fn leader(client: &Client, name: &Name) -> Result<Option<Leader>, StoreError> {
    let lock = client.lock_record(name).await?;
    // Of a lock that is not held by one alone, the latest counts.
    let latest = lock.and_then(|lock| lock.holders.into_iter().max_by_key(|holder| holder.token));
    Ok(latest.map(|holder| Leader { candidate: holder.owner.to_string(), token: holder.token }))
}

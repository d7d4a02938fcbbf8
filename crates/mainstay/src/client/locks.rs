//! Locks. [`Client::lock`] is how they are used; the rest is what that is made of, and for whoever looks from outside.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use mainstay_core::{
    clock::Clock,
    lease::Token,
    lock::{
        Acquire, LockGrant, LockHolder, LockInterest, LockOp, LockRecord, LockReply, LockWaiting, WAIT_MS,
    },
    name::Name,
    op::{Op, Reason, Reply},
    store::{Interest, Key, Page, Query, Record, Slice, Wake},
    time::StoreTime,
};

use super::{Client, Deadline, Result, StoreError, unexpected};
use crate::{
    job::ms,
    lock::{Election, Keeper, Lock},
    time::millis,
};

/// One turn of a wait. Half of what a waiter may say that it is there for: so it says so again before that is over.
const TURN: Duration = millis(WAIT_MS / 2);

/// What became of an acquire.
#[derive(Clone, Debug)]
pub enum Acquisition {
    /// The lock is held.
    Granted {
        /// The grant.
        grant: LockGrant,
        /// The client's clock before it asked: the grant's time counts from there ([`crate::lock::Term`]).
        asked_at: StoreTime,
    },
    /// It was not free in time.
    Held(Box<LockWaiting>),
    /// Waiting was cut short. A ticket is still in the line.
    Stopped,
}

impl Client {
    /// A lock of this name, to be asked for.
    ///
    /// # Errors
    /// [`Reason::Invalid`] for what is no name.
    pub fn lock(&self, name: &str) -> Result<Lock> {
        Ok(Lock::new(self.clone(), lock_name(name)?))
    }

    /// An election of one leader at a time, held under the lock of this name.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn election(&self, name: &str) -> Result<Election> {
        Ok(Election::new(self.lock(name)?))
    }

    /// A lock that is held, with those who wait for it. `None`: it is free.
    ///
    /// # Errors
    /// The store's.
    pub async fn lock_record(&self, name: &Name) -> Result<Option<LockRecord>> {
        match self.get(&Key::Lock(name.clone())).await? {
            Some(Record::Lock(lock)) => Ok(Some(*lock)),
            _ => Ok(None),
        }
    }

    /// A page of the locks that are held, by name.
    ///
    /// # Errors
    /// The store's; [`mainstay_core::ErrorKind::Invalid`] for a cursor of another query.
    pub async fn locks(&self, prefix: Option<String>, page: Page) -> Result<Slice> {
        self.list(&Query::Locks { prefix }, &page).await
    }

    /// Whether the lock is held under this token, at the moment of the answer. What can compare tokens itself need not
    /// ask ([`crate::lock::fence`]).
    ///
    /// # Errors
    /// The store's.
    pub async fn check_lock(&self, name: &Name, token: Token) -> Result<bool> {
        Ok(self.lock_record(name).await?.is_some_and(|lock| lock.is_valid(token)))
    }

    /// Takes a lock away from all who hold it; answers who they were. The next grant has a higher token.
    ///
    /// # Errors
    /// [`Reason::NotFound`] when it is free; the store's.
    pub async fn break_lock(&self, name: &Name) -> Result<Vec<LockHolder>> {
        match self.apply(Op::Lock(LockOp::Break { name: name.clone() })).await? {
            Reply::Lock(LockReply::Broken(holders)) => Ok(holders),
            other => Err(unexpected("break", &Some(other))),
        }
    }

    /// Asks for a lock, and waits for up to `wait` in its line if the acquire has a ticket ([`Acquire::wait_ms`] and
    /// [`Acquire::again`] are filled in here).
    ///
    /// Only the waiting is cut short by `stop`, never an acquire under way. Dropping the future, and whatever else ends
    /// it before it has answered `Granted` or `Held`, leaves the ticket where it is: [`LockOp::Withdraw`] takes it out.
    ///
    /// # Errors
    /// [`Reason::StateConflict`] when the ticket was withdrawn while this waited; the store's;
    /// [`mainstay_core::ErrorKind::DeadlineExceeded`] when the context's deadline comes before `wait` is over.
    pub async fn acquire(
        &self,
        mut acquire: Acquire,
        wait: Duration,
        stop: impl Future<Output = ()>,
    ) -> Result<Acquisition> {
        let began = tokio::time::Instant::now();
        let acquired = self.acquire_in_line(&mut acquire, wait, stop).await;
        let outcome = match &acquired {
            Ok(Acquisition::Granted { .. }) => "granted",
            Ok(Acquisition::Held(_)) => "held",
            Ok(Acquisition::Stopped) => "stopped",
            Err(_) => "error",
        };
        metrics::histogram!("mainstay.lock.wait", "outcome" => outcome).record(began.elapsed().as_secs_f64());
        acquired
    }

    async fn acquire_in_line(
        &self,
        acquire: &mut Acquire,
        wait: Duration,
        stop: impl Future<Output = ()>,
    ) -> Result<Acquisition> {
        let deadline = self.deadline(wait);
        let interests: Vec<_> = acquire
            .ticket
            .map(|ticket| LockInterest::Granted { name: acquire.name.clone(), scope: ticket.scope })
            .into_iter()
            .map(Interest::Lock)
            .collect();
        let mut stop = pin!(stop);
        // Held until the acquire it woke has been answered.
        let mut _woken: Option<Wake> = None;
        acquire.again = false;
        loop {
            let left = self.left(deadline);
            acquire.wait_ms = ms(left).min(WAIT_MS);
            let asked_at = self.now().store;
            let held = match self.apply(Op::Lock(LockOp::Acquire(Box::new(acquire.clone())))).await {
                Ok(Reply::Lock(LockReply::Granted(grant))) => {
                    return Ok(Acquisition::Granted { grant, asked_at });
                }
                Ok(Reply::Lock(LockReply::Waiting(held))) => Box::new(held),
                Ok(other) => return Err(unexpected("acquire", &Some(other))),
                Err(error) => match error.reason() {
                    Some(Reason::LockHeld(held)) => held.clone(),
                    _ => return Err(error),
                },
            };
            if left.is_zero() || interests.is_empty() {
                return Ok(Acquisition::Held(held));
            }
            acquire.again = true;
            _woken = None;
            let waiting = self.store().wait(&interests, Deadline::current()?.limit_wait(left.min(TURN)));
            match select(pin!(waiting), stop.as_mut()).await {
                Either::Left((wake, _)) => _woken = Some(wake?),
                Either::Right(_) => return Ok(Acquisition::Stopped),
            }
        }
    }

    pub(crate) fn keeper(&self) -> &Arc<Keeper> {
        &self.inner.keeper
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }
}

fn lock_name(name: &str) -> Result<Name> {
    Name::new(name).map_err(|error| StoreError::invalid("name", error.to_string()))
}

//! A lock that is held, as all who look at it share it.

use std::{fmt, sync::Arc, time::Duration};

use mainstay_core::{
    clock::Clock,
    lease::{LeaseId, Token},
    lock::{LockGrant, LockMode},
    name::Name,
    time::StoreTime,
};

use super::{
    Term,
    sync::{
        Notify, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
        timeout,
    },
};
use crate::secs;

/// Timers stand still while the machine sleeps: who waits for the end of a term looks at the clock this often.
const LOOK_AGAIN: Duration = secs(1);

/// One grant. Lost once is lost for good, whatever an answer that is still under way says.
pub(super) struct Hold {
    pub name: Name,
    pub lease: LeaseId,
    pub ttl: Duration,
    pub mode: LockMode,
    clock: Arc<dyn Clock>,
    lost_at: AtomicU64,
    ended: OnceLock<Loss>,
    /// It is being given back: that the store knows it no more is no loss.
    releasing: AtomicBool,
    changed: Notify,
}

impl Hold {
    pub fn new(clock: Arc<dyn Clock>, grant: &LockGrant, term: Term) -> Arc<Hold> {
        Arc::new(Hold {
            name: grant.name.clone(),
            lease: grant.lease,
            ttl: term.ttl(),
            mode: grant.mode,
            clock,
            lost_at: AtomicU64::new(term.lost_at().0),
            ended: OnceLock::new(),
            releasing: AtomicBool::new(false),
            changed: Notify::new(),
        })
    }

    /// It was renewed.
    pub fn extend(&self, term: Term) {
        self.lost_at.fetch_max(term.lost_at().0, Ordering::SeqCst);
    }

    /// It is being given back; whoever does it says what became of it.
    pub fn release_begins(&self) {
        self.releasing.store(true, Ordering::SeqCst);
    }

    /// Whether it is being given back.
    pub fn is_releasing(&self) -> bool {
        self.releasing.load(Ordering::SeqCst)
    }

    /// Why it is not held any more, if it is not.
    pub fn lost_now(&self) -> Option<LockLost> {
        let over = self.clock.now().store >= StoreTime(self.lost_at.load(Ordering::SeqCst));
        if over && self.ended.get().is_none() {
            self.end(Loss::Expired);
        }
        self.ended.get().map(|why| self.told(*why))
    }

    /// Why it was ended, if it was; nobody has looked at the clock for that.
    pub fn ended(&self) -> Option<Loss> {
        self.ended.get().copied()
    }

    /// Ends it. The first reason counts.
    pub fn end(&self, why: Loss) {
        if self.ended.set(why).is_err() {
            return;
        }
        if let Some(cause) = why.is_news() {
            metrics::counter!("mainstay.lock.lost", "cause" => cause).increment(1);
            tracing::warn!(lock = %self.name, token = self.lease.token.0, cause, "lock lost");
        }
        self.changed.notify_waiters();
    }

    /// Resolves when it is lost. Cancel safe.
    pub async fn lost(&self) -> LockLost {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(lost) = self.lost_now() {
                return lost;
            }
            let at = StoreTime(self.lost_at.load(Ordering::SeqCst));
            // Whichever comes first: that is looked at above.
            let end = async {
                tokio::select! { biased; () = changed => {}, () = self.clock.sleep_until(at) => {} }
            };
            let _ = timeout(LOOK_AGAIN, end).await;
        }
    }

    fn told(&self, why: Loss) -> LockLost {
        LockLost { name: self.name.clone(), token: self.lease.token, why }
    }
}

/// A lock is not held any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockLost {
    name: Name,
    token: Token,
    why: Loss,
}

/// Why a lock is not held any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// It could not be renewed in time: the store did not answer, this process was paused, or renewal was switched off.
    Expired,
    /// The store says so: it ran out there, or somebody took it away.
    Taken,
    /// The service is on its way out.
    Stopping,
    /// It was given back.
    Released,
}

impl Loss {
    /// The word for it in metrics and logs, if nobody here wanted it.
    fn is_news(self) -> Option<&'static str> {
        match self {
            Loss::Expired => Some("expired"),
            Loss::Taken => Some("taken"),
            Loss::Stopping | Loss::Released => None,
        }
    }
}

impl LockLost {
    /// The lock.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The fencing token it was held under.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Why.
    pub fn why(&self) -> Loss {
        self.why
    }
}

impl fmt::Display for LockLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Loss::Expired => "it could not be renewed in time",
            Loss::Taken => "it ran out in the store, or was taken away",
            Loss::Stopping => "the service is stopping",
            Loss::Released => "it was given back",
        };
        write!(f, "lock `{}` is lost: {why}", self.name)
    }
}

impl std::error::Error for LockLost {}

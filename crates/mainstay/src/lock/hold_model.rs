//! A lock that is held under a model checker: whoever waits for its loss hears of it, and of one reason only.

#![allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "the same source over other locks; the model uses what it needs"
)]

#[path = "hold.rs"]
mod hold;
mod sync {
    pub(super) use mainstay_loom::{Notify, OnceLock, atomic, timeout};
}

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use mainstay_core::{
    clock::Clock,
    lease::{LeaseId, Token},
    lock::{LockGrant, LockMode},
    name::Name,
    time::{Now, StoreTime, Timestamp},
};
use mainstay_loom::{block_on, check, thread};

use self::hold::{Hold, Loss};
use super::Term;

/// Time stands still, and is never over by itself.
pub(super) struct Still;

#[async_trait]
impl Clock for Still {
    fn now(&self) -> Now {
        Now { store: StoreTime(1), wall: Timestamp(1_800_000_000_000) }
    }
    async fn sleep_until(&self, _: StoreTime) {
        std::future::pending().await
    }
    fn entropy(&self) -> u64 {
        7
    }
}

fn hold() -> Arc<Hold> {
    let grant = LockGrant {
        name: Name::new("door").unwrap(),
        lease: LeaseId { token: Token(7), nonce: 1 },
        mode: LockMode::Exclusive,
        ttl_ms: 30_000,
        expires_at: Timestamp(1_800_000_030_000),
    };
    Hold::new(Arc::new(Still), &grant, Term::new(StoreTime(1), Duration::from_secs(30)))
}

#[test]
fn whoever_waits_hears_of_the_loss_whenever_it_comes() {
    check(|| {
        let hold = hold();
        let (ends, waits) = (hold.clone(), hold.clone());
        let ending = thread::spawn(move || ends.end(Loss::Taken));
        let waiting = thread::spawn(move || block_on(waits.lost()).why());
        assert_eq!(block_on(hold.lost()).why(), Loss::Taken);
        assert_eq!(waiting.join().unwrap(), Loss::Taken);
        ending.join().unwrap();
    });
}

#[test]
fn what_is_lost_for_one_reason_is_lost_for_that_reason_to_all() {
    check(|| {
        let hold = hold();
        let (ends, extends) = (hold.clone(), hold.clone());
        let ending = thread::spawn(move || ends.end(Loss::Released));
        // An answer that is still under way.
        let extending = thread::spawn(move || {
            extends.extend(Term::new(StoreTime(1), Duration::from_secs(60)));
            extends.end(Loss::Taken);
            extends.ended()
        });
        let first = block_on(hold.lost()).why();
        ending.join().unwrap();
        assert_eq!(extending.join().unwrap(), Some(first));
        assert_eq!(hold.lost_now().map(|lost| lost.why()), Some(first));
    });
}

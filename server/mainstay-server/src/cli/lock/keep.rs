//! Renewing the lock, and knowing when it is lost.

use std::time::Duration;

use mainstay::SystemClock;
use mainstay::core::clock::Clock;
use mainstay::core::time::StoreTime;
use mainstay::lock::Term;
use mainstay_api::client::HttpClient;
use mainstay_api::types::Renew;

use super::log;
use super::take::Held;
use crate::cli::worker::is_passing;

/// Timers stand still while the machine sleeps: the clock is looked at this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A lock that is kept.
pub(super) struct Keeper {
    api: HttpClient,
    lock: String,
    renew: Renew,
    term: Term,
    next: StoreTime,
    away: bool,
}

impl Keeper {
    pub fn new(api: HttpClient, held: &Held, ttl: Duration) -> Keeper {
        let term = Term::new(held.asked_at, ttl);
        let renew = Renew { lease: held.lease.clone(), ttl_ms: None };
        let api = api.with_retry(false);
        Keeper { api, lock: held.lock.clone(), renew, term, next: term.renew_at(), away: false }
    }

    /// One that waited in line has used up time that counts: it asks for more before it begins, again and again for as
    /// long as the lock may be its own. Cancel safe.
    ///
    /// # Errors
    /// Why the lock is lost.
    pub async fn begin(&mut self) -> Result<(), String> {
        let mut now = SystemClock.now().store;
        if now < self.next {
            return Ok(());
        }
        // However late it looks from here: only the server knows, and it is asked. What was granted a moment ago lives
        // for one TTL.
        let until = now.plus_ms(self.term.ttl().as_millis() as u64);
        loop {
            let renewed = self.try_once(self.term.try_limit()).await?;
            now = SystemClock.now().store;
            if renewed && self.term.is_held(now) {
                return Ok(());
            }
            if now >= until {
                return Err(OVERDUE.to_owned());
            }
            let pause = self.next.min(until).0.saturating_sub(now.0);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Keeps the lock; answers when it is lost, with the reason. Cancel safe: called again, it goes on.
    pub async fn lost(&mut self) -> String {
        loop {
            let now = SystemClock.now().store;
            if !self.term.is_held(now) {
                return OVERDUE.to_owned();
            }
            let left = |at: StoreTime| Duration::from_millis(at.0.saturating_sub(now.0));
            if now < self.next {
                let soon = left(self.next).min(left(self.term.lost_at())).min(LOOK_AGAIN);
                tokio::time::sleep(soon).await;
                continue;
            }
            // No longer than the time there is: what comes after it is no renewal of ours.
            let limit = self.term.try_limit().min(left(self.term.lost_at()));
            if let Err(why) = self.try_once(limit).await {
                return why;
            }
        }
    }

    /// Whether the server answered that it is renewed. Else there is time for another try.
    async fn try_once(&mut self, limit: Duration) -> Result<bool, String> {
        let asked_at = SystemClock.now().store;
        match self.api.with_timeout(limit).renew(&self.lock, &self.renew).await {
            Ok(_) => {
                if std::mem::take(&mut self.away) {
                    log("the server is back");
                }
                self.term = Term::new(asked_at, self.term.ttl());
                self.next = self.term.renew_at();
                Ok(true)
            }
            Err(error) if is_passing(&error) => {
                if !std::mem::replace(&mut self.away, true) {
                    log(&format!("cannot renew {} ({error}); trying again", self.lock));
                }
                self.next = self.term.again_at(SystemClock.now().store);
                Ok(false)
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

const OVERDUE: &str = "it could not be renewed in time";

//! How often one caller may ask.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mainstay::core::name::Name;
use tokio::time::Instant;

/// Who is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Asker {
    /// A token, from wherever it comes.
    Token(Name),
    /// Whoever has no token, by address.
    Address(IpAddr),
}

/// Askers that are remembered at once; beyond, those that were quiet are forgotten, and newcomers wait.
const ASKERS: usize = 10_000;

/// Lets each asker through at a steady rate, with bursts. After the generic cell rate algorithm (ITU-T I.371): an
/// asker is nothing but the time at which its next request would be on schedule.
pub struct Rate {
    interval: Duration,
    tolerance: Duration,
    on_schedule: Mutex<HashMap<Asker, Instant>>,
}

impl Rate {
    /// So many a second, and so many at once after a quiet while.
    pub fn new(per_second: f64, burst: Option<u64>) -> Rate {
        let burst = burst.unwrap_or((2.0 * per_second) as u64).clamp(1, 1_000_000) as u32;
        let interval = Duration::from_secs_f64((1.0 / per_second).min(86_400.0));
        Rate { interval, tolerance: interval * (burst - 1), on_schedule: Mutex::default() }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// How long to wait, when it is one too many.
    pub fn ask(&self, asker: Asker) -> Result<(), Duration> {
        self.ask_at(asker, Instant::now())
    }

    fn ask_at(&self, asker: Asker, now: Instant) -> Result<(), Duration> {
        let mut all = self.on_schedule.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= ASKERS && !all.contains_key(&asker) {
            all.retain(|_, due| *due > now);
            if all.len() >= ASKERS {
                return Err(self.interval);
            }
        }
        let due = all.get(&asker).copied().unwrap_or(now).max(now);
        let early = due - now;
        if early > self.tolerance {
            return Err(early - self.tolerance);
        }
        all.insert(asker, due + self.interval);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let rate = Rate::new(10.0, Some(3));
        let (asker, mut now) = (Asker::Address([127, 0, 0, 1].into()), Instant::now());
        let let_through =
            |count: usize, now| (0..count).filter(|_| rate.ask_at(asker.clone(), now).is_ok()).count();
        assert_eq!(let_through(5, now), 3);
        now += Duration::from_millis(100);
        assert_eq!(let_through(5, now), 1);
        now += Duration::from_secs(60);
        assert_eq!(let_through(5, now), 3);
        let wait = rate.ask_at(asker.clone(), now).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert!(rate.ask_at(Asker::Token(Name::new("other").unwrap()), now).is_ok());
    }
}

//! How long a grant may be relied on: pure arithmetic on one clock, the holder's.

use std::time::Duration;

use mainstay_core::time::StoreTime;

use crate::job::ms;

const SHORTEST_TRY: Duration = Duration::from_millis(100);
/// However long the TTL is: the store may be there again.
const LONGEST_TRY: Duration = Duration::from_secs(10);

/// The time for which a lock was granted or renewed, as its holder may count on it.
///
/// It is counted from *before* the request was sent: the store began to count after that, so the holder's time is over
/// first, however long the answer took. A twentieth of the TTL is taken off for clocks that run unequally fast. Use a
/// clock that goes on while the machine sleeps ([`SystemClock`](crate::SystemClock) does).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    asked_at: StoreTime,
    ttl: Duration,
}

impl Term {
    /// The time that begins when the request for it was sent, at `asked_at`.
    pub fn new(asked_at: StoreTime, ttl: Duration) -> Term {
        Term { asked_at, ttl }
    }

    /// How long it was granted for.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// From here on the lock counts as lost.
    pub fn lost_at(&self) -> StoreTime {
        // In whole milliseconds, so that the shortest TTL there is does not come to nothing.
        let ttl = ms(self.ttl);
        self.asked_at.plus_ms(ttl - ttl / 20)
    }

    /// Whether it may still be relied on at `now`.
    pub fn is_held(&self, now: StoreTime) -> bool {
        now < self.lost_at()
    }

    /// When to ask for more: at a third, so that one more try fits before it gets late.
    pub fn renew_at(&self) -> StoreTime {
        self.asked_at.plus_ms(ms(self.ttl / 3).max(1))
    }

    /// How long one try to renew may take: a sixth, at least 100 ms (a disk may need them) and at most 10 s.
    pub fn try_limit(&self) -> Duration {
        (self.ttl / 6).clamp(SHORTEST_TRY, LONGEST_TRY)
    }

    /// When to try again after one that failed at `now`: soon, but not in a hurry.
    pub fn again_at(&self, now: StoreTime) -> StoreTime {
        now.plus_ms(ms((self.ttl / 20).clamp(Duration::from_millis(1), Duration::from_secs(1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_ends_before_the_stores_however_long_the_answer_took() {
        let at = |ms| StoreTime(1_000 + ms);
        let rows = [
            // TTL, renewed at, lost at, limit of a try
            (1, 1, 1, 100),
            (50, 16, 48, 100),
            (1_000, 333, 950, 166),
            (30_000, 10_000, 28_500, 5_000),
            (86_400_000, 28_800_000, 82_080_000, 10_000),
        ];
        for (ttl, renew, lost, limit) in rows {
            let term = Term::new(at(0), Duration::from_millis(ttl));
            assert_eq!((term.renew_at(), term.lost_at()), (at(renew), at(lost)), "{ttl}");
            assert_eq!(term.try_limit().as_millis() as u64, limit, "{ttl}");
            assert!(!term.is_held(term.lost_at()) && !term.is_held(at(ttl)));
        }
    }
}

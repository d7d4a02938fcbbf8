//! What is said of trouble that comes again and again.

use mainstay_core::StoreTime;

/// At most one line in so long.
const SILENCE_MS: u64 = 10_000;

/// The first is said at once; those that follow closely are counted, and told with the next that is said.
#[derive(Default)]
pub(super) struct Complaints {
    said: Option<StoreTime>,
    unsaid: u64,
}

impl Complaints {
    /// Another one, now. `Some`: it is to be said, with how many were not since the last that was.
    pub(super) fn another(&mut self, now: StoreTime) -> Option<u64> {
        if self.said.is_some_and(|said| now < said.plus_ms(SILENCE_MS)) {
            self.unsaid += 1;
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_and_again_is_said_now_and_then_with_its_number() {
        let mut complaints = Complaints::default();
        let said = [0, 1, 5_000, 9_999, 10_000, 10_001, 40_000].map(|at| complaints.another(StoreTime(at)));
        assert_eq!(said, [Some(0), None, None, None, Some(3), None, Some(1)]);
    }
}

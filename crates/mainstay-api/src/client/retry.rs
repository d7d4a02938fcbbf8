use std::time::Duration;

use super::ApiError;

/// The first pause is drawn from below this.
const BASE: Duration = Duration::from_millis(50);
/// No pause is longer, unless the server asks for it.
const CAP: Duration = Duration::from_secs(2);

/// How long to stay away after try number `tried` (from 0): a full-jitter draw, and never less than the server asked.
pub(super) fn pause(tried: u32, retry_after: Option<Duration>, random: u64) -> Duration {
    let ceiling = BASE.saturating_mul(1 << tried.min(10)).min(CAP);
    let ceiling_us = u64::try_from(ceiling.as_micros()).unwrap_or(u64::MAX);
    let drawn = Duration::from_micros(random % (ceiling_us + 1));
    // On top of the floor, so that all who were sent away together do not come back together.
    retry_after.unwrap_or_default() + drawn
}

/// 64 bits of chance.
pub(super) fn random() -> Option<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).ok()?;
    Some(u64::from_ne_bytes(bytes))
}

/// A key nobody else makes.
pub(super) fn new_key() -> Result<String, ApiError> {
    // Without chance there is no key, and without a key a repeated try could act twice.
    let part = || random().ok_or_else(|| ApiError::unusable("the system has no randomness"));
    Ok(format!("{:016x}{:016x}", part()?, part()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap_and_no_further() {
        assert_eq!(pause(0, None, 50_000), BASE);
        assert_eq!(pause(0, None, 50_001), Duration::ZERO);
        assert_eq!(pause(3, None, 400_000), BASE * 8);
        for tried in [6, 10, 31, 32, u32::MAX] {
            assert_eq!(pause(tried, None, 2_000_000), CAP);
            assert!(pause(tried, None, u64::MAX) <= CAP);
        }
    }

    #[test]
    fn the_servers_word_is_a_floor() {
        assert!(pause(0, Some(Duration::from_secs(7)), 12_345) >= Duration::from_secs(7));
    }

    #[test]
    fn keys_differ() {
        assert_ne!(new_key().unwrap(), new_key().unwrap());
    }
}

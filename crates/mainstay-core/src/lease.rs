//! Fencing tokens, and the lease that proves a grant.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A fencing token: below 2^53, growing with every grant of the same thing, never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub u64);

impl Token {
    /// Tokens are integers that every JSON reader keeps exactly.
    pub const LIMIT: u64 = 1 << 53;

    /// Where a store's counter starts when it opens: past the last token it knows, and past what any earlier
    /// copy of it can have granted in the time before a backup was restored, or a copy that lags took over: a second has
    /// 2^20 of them, a millisecond its share, and nobody grants as many. A clock beyond the year 2242 says nothing: there
    /// would be no token left.
    pub fn first_after_open(last: Token, now: Timestamp) -> Token {
        let by_time = now.0.max(0) as u128 * (1 << 20) / 1_000;
        let by_time = if by_time < u128::from(Token::LIMIT) { by_time as u64 } else { 0 };
        Token((last.0 + 1).max(by_time))
    }
}

/// The opaque proof of a grant: the token with a nonce, so that knowing the token (it is public) is not enough.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LeaseId {
    /// The fencing token of the grant.
    pub token: Token,
    /// What makes the lease unguessable.
    pub nonce: u64,
}

/// The text was never a lease. A stale lease is still a lease; this is something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a lease: pass the `lease` of a claim back unchanged")]
pub struct InvalidLease;

impl LeaseId {
    /// Reads the text form, `TOKEN-NONCE` in hexadecimal.
    pub fn parse(text: &str) -> Result<LeaseId, InvalidLease> {
        let (token, nonce) = text.split_once('-').ok_or(InvalidLease)?;
        let hex = |s: &str| s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if token.is_empty() || token.len() > 14 || nonce.len() != 16 || !hex(token) || !hex(nonce) {
            return Err(InvalidLease);
        }
        let number = |s| u64::from_str_radix(s, 16).map_err(|_| InvalidLease);
        Ok(LeaseId { token: Token(number(token)?), nonce: number(nonce)? })
    }
}

impl TryFrom<String> for LeaseId {
    type Error = InvalidLease;
    fn try_from(text: String) -> Result<LeaseId, InvalidLease> {
        LeaseId::parse(&text)
    }
}
impl From<LeaseId> for String {
    fn from(lease: LeaseId) -> String {
        lease.to_string()
    }
}
impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:016x}", self.token.0, self.nonce)
    }
}
impl fmt::Debug for LeaseId {
    /// Shows the token alone: a lease in a log would be a key left in a door.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseId({:x}-…)", self.token.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_survives_its_text_form_and_nothing_else_parses() {
        let lease = LeaseId { token: Token((1 << 53) - 1), nonce: 7 };
        assert_eq!(LeaseId::parse(&lease.to_string()), Ok(lease));
        for bad in ["", "-", "12", "1-2", "+1-0000000000000007", "1-000000000000000G", "1-00000000000000007"]
        {
            assert!(LeaseId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tokens_grow_over_a_restart_and_over_a_restored_copy() {
        let last = Token(5);
        assert!(Token::first_after_open(last, Timestamp(0)) > last);
        let (second, next_ms) = (Timestamp(1_700_000_000_000), Timestamp(1_700_000_000_001));
        assert_eq!(Token::first_after_open(last, second), Token(1_700_000_000 << 20));
        // A copy that takes over within the second.
        let granted = Token::first_after_open(last, second).0 + 1_000;
        assert!(Token::first_after_open(last, next_ms) > Token(granted));
        let far = Token(1 << 52);
        assert!(Token::first_after_open(far, second) > far);
    }

    #[test]
    fn a_clock_of_another_age_leaves_tokens_that_can_be_settled() {
        let first_day_without = Timestamp((1 << 33) * 1_000);
        for now in [first_day_without, Timestamp(i64::MAX)] {
            assert_eq!(Token::first_after_open(Token(5), now), Token(6));
        }
        let last = Token::first_after_open(Token(5), Timestamp(first_day_without.0 - 1));
        let lease = LeaseId { token: last, nonce: 7 };
        assert!(last.0 < Token::LIMIT && LeaseId::parse(&lease.to_string()) == Ok(lease));
    }
}

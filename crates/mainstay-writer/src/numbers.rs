//! The numbers that are written for words of the vocabulary, in journals and in tables.

use mainstay_core::job::{DeadReason, Jitter, JobState, Verb};

pub const STATES: [JobState; 8] = [
    JobState::Scheduled,
    JobState::Blocked,
    JobState::Available,
    JobState::Running,
    JobState::Retryable,
    JobState::Completed,
    JobState::Cancelled,
    JobState::Dead,
];
pub const REASONS: [DeadReason; 4] =
    [DeadReason::Exhausted, DeadReason::Permanent, DeadReason::Crashed, DeadReason::Expired];
pub const VERBS: [Verb; 4] = [Verb::Complete, Verb::Fail, Verb::Release, Verb::Cancel];
pub const JITTERS: [Jitter; 3] = [Jitter::Full, Jitter::Equal, Jitter::None];

fn place<T: PartialEq>(all: &[T], value: &T) -> i64 {
    // Every value is in its list: the lists are matched against the types by a test.
    all.iter().position(|each| each == value).unwrap_or(all.len()) as i64
}

pub fn state_number(state: JobState) -> i64 {
    place(&STATES, &state)
}
pub fn reason_number(reason: DeadReason) -> i64 {
    place(&REASONS, &reason)
}
pub fn verb_number(verb: Verb) -> i64 {
    place(&VERBS, &verb)
}
pub fn jitter_number(jitter: Jitter) -> i64 {
    place(&JITTERS, &jitter)
}

/// 64 bits as the signed integer of a table, and back with `as u64`.
pub fn bits(number: u64) -> i64 {
    number as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_numbers_never_change() {
        let states: Vec<_> = STATES.iter().map(|s| s.as_str()).collect();
        let expected =
            ["scheduled", "blocked", "available", "running", "retryable", "completed", "cancelled", "dead"];
        assert_eq!(states, expected);
        for (number, state) in STATES.into_iter().enumerate() {
            assert_eq!(JobState::parse(state.as_str()), Some(state));
            assert_eq!(state_number(state), number as i64);
        }
        assert_eq!(REASONS.map(reason_number), [0, 1, 2, 3]);
        assert_eq!(REASONS.map(DeadReason::as_str), ["exhausted", "permanent", "crashed", "expired"]);
        assert_eq!(VERBS.map(verb_number), [0, 1, 2, 3]);
        assert_eq!(JITTERS.map(jitter_number), [0, 1, 2]);
    }
}

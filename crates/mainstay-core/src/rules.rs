//! Transition rules over one job: pure functions that every store shares.

use crate::{
    job::{Backoff, DeadReason, Jitter, JobPolicy, Outcome, Retry},
    time::Timestamp,
};

/// What a rule needs to know of a job that is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunningJob {
    /// Attempts begun, this one included.
    pub attempt: u32,
    /// Leases that ran out before.
    pub crashes: u32,
    /// When it was due.
    pub run_at: Timestamp,
    /// Its end was asked for.
    pub cancel_requested: bool,
    /// Its rules.
    pub policy: JobPolicy,
    /// Crashes before it is dead: the job's, else the queue's, else 3.
    pub max_crashes: u32,
}

/// Where a job goes when its claim ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It waits again.
    Waits {
        /// Due at this time.
        run_at: Timestamp,
        /// Attempts to its name now.
        attempt: u32,
        /// Crashes to its name now.
        crashes: u32,
        /// It waits for a back-off (`retryable`), not for a schedule.
        retrying: bool,
    },
    /// It is completed.
    Completed,
    /// It is cancelled.
    Cancelled {
        /// Crashes to its name now.
        crashes: u32,
    },
    /// It is a dead letter.
    Dead {
        /// Why.
        reason: DeadReason,
        /// Crashes to its name now.
        crashes: u32,
    },
}

/// Where a running job goes when its worker ends the claim. A completion wins over a cancel request; every other
/// end of a job that was asked to stop is `Cancelled`.
pub fn after(job: &RunningJob, outcome: &Outcome, now: Timestamp, entropy: u64) -> Next {
    let waits = |run_at, attempt, retrying| Next::Waits { run_at, attempt, crashes: job.crashes, retrying };
    match outcome {
        Outcome::Complete { .. } => Next::Completed,
        Outcome::Cancel { .. } => Next::Cancelled { crashes: job.crashes },
        _ if job.cancel_requested => Next::Cancelled { crashes: job.crashes },
        Outcome::Release { delay_ms } => {
            // Without a delay it keeps its place in the order.
            let run_at = if *delay_ms == 0 { job.run_at } else { now.plus_ms(*delay_ms) };
            waits(run_at, job.attempt.saturating_sub(1), false)
        }
        Outcome::Fail { retry: Retry::Never, .. } => {
            Next::Dead { reason: DeadReason::Permanent, crashes: job.crashes }
        }
        Outcome::Fail { .. } if job.attempt >= job.policy.max_attempts => {
            Next::Dead { reason: DeadReason::Exhausted, crashes: job.crashes }
        }
        Outcome::Fail { retry: Retry::After(ms), .. } => waits(now.plus_ms(*ms), job.attempt, true),
        Outcome::Fail { retry: Retry::Auto, .. } => {
            let delay = backoff_delay(&job.policy.backoff, job.attempt, entropy);
            waits(now.plus_ms(delay), job.attempt, true)
        }
    }
}

/// Where a running job goes when its lease has run out: offered again at once, without back-off, until it has
/// crashed too often.
pub fn after_crash(job: &RunningJob) -> Next {
    let crashes = job.crashes + 1;
    if job.cancel_requested {
        Next::Cancelled { crashes }
    } else if crashes >= job.max_crashes || job.attempt >= job.policy.max_attempts {
        Next::Dead { reason: DeadReason::Crashed, crashes }
    } else {
        Next::Waits { run_at: job.run_at, attempt: job.attempt, crashes, retrying: false }
    }
}

/// The wait before the `n`-th retry (from 1), in milliseconds, never above `max_ms`.
///
/// Exponential back-off with jitter after Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
/// Integer arithmetic on `entropy`, so that every store comes to the same figure.
pub fn backoff_delay(backoff: &Backoff, n: u32, entropy: u64) -> u64 {
    let cap = u128::from(backoff.max_ms);
    let mut delay = u128::from(backoff.base_ms).min(cap);
    for _ in 1..n {
        let next = (delay * u128::from(backoff.factor_milli) / 1_000).min(cap);
        if next == delay {
            break; // at the cap, or a factor of 1: it will not change any more
        }
        delay = next;
    }
    let delay = delay as u64;
    match backoff.jitter {
        Jitter::None => delay,
        Jitter::Full => draw(entropy, delay),
        Jitter::Equal => delay - delay / 2 + draw(entropy, delay / 2),
    }
}

/// A number from 0 to `max`, both included, from 64 random bits (multiply-shift, Lemire 2019).
pub fn draw(entropy: u64, max: u64) -> u64 {
    ((u128::from(entropy) * (u128::from(max) + 1)) >> 64) as u64
}

/// Mixes a counter into random bits: SplitMix64 (Steele, Lea, Flood 2014). Turns one draw of entropy into many.
pub fn mix(entropy: u64, counter: u64) -> u64 {
    let mut z = entropy.wrapping_add(counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobFailure;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn job(attempt: u32, crashes: u32, cancel_requested: bool) -> RunningJob {
        let backoff = Backoff { jitter: Jitter::None, ..Backoff::default() };
        let policy = JobPolicy { max_attempts: 3, backoff, ..JobPolicy::default() };
        RunningJob { attempt, crashes, run_at: Timestamp(500), cancel_requested, policy, max_crashes: 2 }
    }
    fn fail(retry: Retry) -> Outcome {
        Outcome::Fail { error: JobFailure::default(), retry }
    }
    fn waits(run_at: i64, attempt: u32, crashes: u32, retrying: bool) -> Next {
        Next::Waits { run_at: Timestamp(run_at), attempt, crashes, retrying }
    }
    fn dead(reason: DeadReason, crashes: u32) -> Next {
        Next::Dead { reason, crashes }
    }

    #[test]
    fn every_outcome_of_an_attempt_has_one_successor() {
        let complete = Outcome::Complete { result: None };
        let release = |delay_ms| Outcome::Release { delay_ms };
        let rows = [
            (job(1, 0, false), complete.clone(), Next::Completed),
            (job(1, 0, true), complete, Next::Completed),
            (job(1, 0, false), Outcome::Cancel { error: None }, Next::Cancelled { crashes: 0 }),
            (job(1, 0, false), fail(Retry::Auto), waits(1_001_000, 1, 0, true)),
            (job(2, 1, false), fail(Retry::Auto), waits(1_002_000, 2, 1, true)),
            (job(2, 0, false), fail(Retry::After(7)), waits(1_000_007, 2, 0, true)),
            (job(3, 0, false), fail(Retry::Auto), dead(DeadReason::Exhausted, 0)),
            (job(3, 0, false), fail(Retry::After(7)), dead(DeadReason::Exhausted, 0)),
            (job(1, 1, false), fail(Retry::Never), dead(DeadReason::Permanent, 1)),
            (job(1, 0, true), fail(Retry::Never), Next::Cancelled { crashes: 0 }),
            (job(3, 0, true), fail(Retry::Auto), Next::Cancelled { crashes: 0 }),
            (job(3, 0, false), release(0), waits(500, 2, 0, false)),
            (job(1, 1, false), release(50), waits(1_000_050, 0, 1, false)),
            (job(1, 0, true), release(0), Next::Cancelled { crashes: 0 }),
        ];
        for (job, outcome, expected) in rows {
            assert_eq!(after(&job, &outcome, NOW, 0), expected, "{job:?} {outcome:?}");
        }
    }

    #[test]
    fn a_crash_is_offered_again_at_once_until_it_is_one_too_many() {
        assert_eq!(after_crash(&job(1, 0, false)), waits(500, 1, 1, false));
        assert_eq!(after_crash(&job(2, 1, false)), dead(DeadReason::Crashed, 2));
        assert_eq!(after_crash(&job(3, 0, false)), dead(DeadReason::Crashed, 1));
        assert_eq!(
            after_crash(&job(3, 5, true)),
            Next::Cancelled { crashes: 6 },
            "a crash is one, asked to stop or not"
        );
    }

    #[test]
    fn no_delay_exceeds_the_cap_and_jitter_stays_below_the_delay() {
        for jitter in [Jitter::None, Jitter::Full, Jitter::Equal] {
            let backoff = Backoff { base_ms: 1_000, factor_milli: 3_000, max_ms: 60_000, jitter };
            for n in 1..40 {
                for entropy in [0, 1, u64::MAX / 2, u64::MAX] {
                    let delay = backoff_delay(&backoff, n, entropy);
                    let whole = (1_000 * 3_u128.pow(n - 1)).min(60_000) as u64;
                    assert!(delay <= whole, "{jitter:?} {n}");
                    let least = match jitter {
                        Jitter::None => whole,
                        Jitter::Full => 0,
                        Jitter::Equal => whole / 2,
                    };
                    assert!(delay >= least, "{jitter:?} {n}");
                }
            }
        }
        assert_eq!(backoff_delay(&Backoff::default(), 1, u64::MAX), 1_000);
        assert_eq!(backoff_delay(&Backoff::default(), 1, 0), 0);
    }
}

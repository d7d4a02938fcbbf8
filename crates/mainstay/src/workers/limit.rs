//! How long an attempt may take.

use std::time::Duration;

use tokio::time::Instant;

use crate::secs;

/// Beyond what any attempt takes, and within what every clock reaches.
const FAR: Duration = secs(10 * 365 * 86_400);

/// When a lease ends that was asked for then, at the earliest: it runs from the store's answer.
pub(super) fn end_of_lease(asked: Instant, lease: Duration) -> Instant {
    asked + lease.min(FAR)
}

/// The time limit of an attempt as instants.
///
/// A job's own limit ends its lease as well, as soon as that is renewed: no extend goes beyond it. Then the attempt is
/// cut a little earlier, so that its failure reaches the store under the lease; else it would count as a crash.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    /// As it was set.
    pub said: Duration,
    /// When the attempt is cut.
    pub over: Instant,
    /// When it is settled without its handler, if that holds its thread.
    pub given_up: Instant,
    /// The same for a lease that ends with the limit; `None` where the limit is the workers'.
    led: Option<(Instant, Instant)>,
    /// The lease needs to be renewed.
    pub renewed: bool,
}

impl Limit {
    /// The workers' limit: the store knows nothing of it.
    pub fn of_workers(limit: Duration, grace: Duration, now: Instant) -> Limit {
        let over = now + limit.min(FAR);
        Limit { said: limit, over, given_up: over + grace.min(FAR), led: None, renewed: true }
    }

    /// The job's limit. The claim was `sent` then, its lease lives for `lease` from there on at least.
    pub fn of_job(limit: Duration, grace: Duration, lease: Duration, sent: Instant, now: Instant) -> Limit {
        let (said, limit, grace) = (limit, limit.min(FAR), grace.min(FAR));
        let lead = (limit / 5).min(secs(1));
        let over = now + limit;
        let led = (sent + limit - lead, sent + limit - lead / 2);
        let given_up = over + grace;
        let limit = Limit { said, over, given_up, led: Some(led), renewed: false };
        match given_up.max(over + lead) < end_of_lease(sent, lease) {
            true => limit,
            false => limit.with_end_of_lease(),
        }
    }

    /// The same, when the lease is known to end with the limit.
    pub fn with_end_of_lease(self) -> Limit {
        match self.led {
            Some((over, given_up)) => Limit { over, given_up, renewed: true, ..self },
            None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::millis;

    #[test]
    fn a_limit_that_ends_the_lease_leaves_time_to_tell() {
        let sent = Instant::now();
        let of_job = |limit: Duration, lease| {
            let limit = Limit::of_job(limit, secs(5), lease, sent, sent + millis(10));
            (limit.over - sent, limit.given_up - sent, limit.renewed)
        };
        assert_eq!(of_job(secs(1), secs(30)), (millis(1_010), millis(6_010), false), "the lease outlives it");
        assert_eq!(of_job(secs(60), secs(30)), (secs(59), millis(59_500), true));
        assert_eq!(of_job(secs(1), secs(1)), (millis(800), millis(900), true));
        let short = Limit::of_job(secs(1), secs(5), secs(30), sent, sent).with_end_of_lease();
        assert_eq!((short.over - sent, short.renewed), (millis(800), true), "an extend has cut the lease");
        let of_workers = Limit::of_workers(secs(60), secs(5), sent).with_end_of_lease();
        assert_eq!((of_workers.over - sent, of_workers.given_up - sent), (secs(60), secs(65)));
        let _ = Limit::of_job(Duration::MAX, Duration::MAX, Duration::MAX, sent, sent);
    }
}

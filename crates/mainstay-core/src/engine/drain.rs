//! How fast a queue gets rid of its jobs, and so how long whoever finds it full may as well stay away.
//!
//! What counts is what has *ended*: a claim makes room too, but a job that fails comes back and takes it again, so in the
//! long run room comes as fast as jobs end. Looked at are the last ten seconds, as two spans of which the older counts for
//! the part of it that they still cover (the *sliding window counter* of rate limiting). Where nothing has ended in them,
//! the best guess for the next end is as long again as the last one is ago.
//!
//! It is an estimate, kept in RAM alone. After a restart nothing is known, and it begins with the shortest time there is.

use std::ops::RangeInclusive;

use super::{Engine, change::QueueId};
use crate::{
    name::QueueName,
    op::{Op, Reason},
    time::StoreTime,
};

/// What is looked back on, in milliseconds.
const SPAN_MS: u64 = 10_000;

/// The shortest and the longest time anybody is told to stay away, in milliseconds.
const AWAY_MS: RangeInclusive<u64> = 1_000..=60_000;

/// What has ended lately.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    /// Since when it is counted.
    born: StoreTime,
    last: StoreTime,
    /// When the younger span began.
    since: StoreTime,
    older: u64,
    younger: u64,
}

impl Drain {
    pub(super) fn new(now: StoreTime) -> Drain {
        Drain { born: now, last: now, since: now, older: 0, younger: 0 }
    }

    /// A job has ended.
    pub(super) fn ended(&mut self, now: StoreTime) {
        *self = self.at(now);
        self.younger += 1;
        self.last = now;
    }

    /// How long it takes until so many more have ended, in milliseconds.
    pub(super) fn ms_for(&self, jobs: u64, now: StoreTime) -> u64 {
        let Drain { born, last, since, older, younger } = self.at(now);
        let into = now.0.saturating_sub(since.0);
        // In as many parts as a span has milliseconds.
        let ended =
            u128::from(younger) * u128::from(SPAN_MS) + u128::from(older) * u128::from(SPAN_MS - into);
        if ended == 0 {
            return now.0.saturating_sub(last.0).saturating_mul(jobs);
        }
        let known = now.0.saturating_sub(born.0).clamp(1, SPAN_MS);
        let ms = u128::from(jobs) * u128::from(known) * u128::from(SPAN_MS) / ended;
        u64::try_from(ms).unwrap_or(u64::MAX)
    }

    /// As it is seen at this moment.
    fn at(self, now: StoreTime) -> Drain {
        match now.0.saturating_sub(self.since.0) / SPAN_MS {
            0 => self,
            1 => Drain { since: StoreTime(self.since.0 + SPAN_MS), older: self.younger, younger: 0, ..self },
            _ => Drain { since: now, older: 0, younger: 0, ..self },
        }
    }
}

impl Engine {
    /// A refusal, with when to come back if that is why. `rest` are the ops of the commit from the refused one on: all
    /// of them want room.
    pub(super) fn with_time(&self, reason: Reason, rest: &[Op]) -> Reason {
        let id = |queue: &QueueName| self.queue_id(queue.as_str());
        match reason {
            Reason::QueueFull { queue, max_depth, .. } => {
                let wants = |op: &&Op| matches!(op, Op::Enqueue(job) if job.queue == queue);
                let more = rest.iter().filter(wants).count().max(1) as u64;
                let beyond = id(&queue).map_or(0, |id| self.queue_ref(id).depth().saturating_sub(max_depth));
                let retry_ms = id(&queue).and_then(|id| self.ms_for(id, more.saturating_add(beyond)));
                Reason::QueueFull { queue, max_depth, retry_ms: away(retry_ms) }
            }
            Reason::QueueBehind { queue, age_ms, max_age_ms, .. } => {
                let all = id(&queue).and_then(|id| self.ms_for(id, self.queue_ref(id).due()));
                let retry_ms = all.map(|all_ms| caught_up_ms(age_ms, max_age_ms, all_ms));
                Reason::QueueBehind { queue, age_ms, max_age_ms, retry_ms: away(retry_ms) }
            }
            other => other,
        }
    }

    fn ms_for(&self, id: QueueId, jobs: u64) -> Option<u64> {
        Some(self.tally.drain(id)?.ms_for(jobs, self.now.store))
    }
}

/// Nothing is known: come back soon.
fn away(ms: Option<u64>) -> u64 {
    ms.unwrap_or(0).clamp(*AWAY_MS.start(), *AWAY_MS.end())
}

/// How long until the oldest job is no older than it may be, while nothing new comes in, if all jobs that wait are
/// through in `all_ms`. They are taken to have come in evenly: after a time `t` the oldest has aged by `t`, but the
/// part `t / all_ms` of the jobs and of their ages is gone.
fn caught_up_ms(age_ms: u64, max_age_ms: u64, all_ms: u64) -> u64 {
    if age_ms <= all_ms {
        // They come through no faster than they age: only an empty queue is not behind.
        return all_ms;
    }
    let beyond = u128::from(age_ms.saturating_sub(max_age_ms));
    let ms = beyond * u128::from(all_ms) / u128::from(age_ms - all_ms);
    u64::try_from(ms).unwrap_or(u64::MAX).min(all_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> StoreTime {
        StoreTime(1_000_000 + ms)
    }

    /// One that has seen an end every `each_ms` from `from_ms` to `to_ms`.
    fn steady(each_ms: u64, from_ms: u64, to_ms: u64) -> Drain {
        let mut drain = Drain::new(at(0));
        (from_ms..to_ms).step_by(each_ms as usize).for_each(|ms| drain.ended(at(ms)));
        drain
    }

    #[test]
    fn it_takes_as_long_as_it_took_lately() {
        for (each_ms, now_ms) in [(10, 3_000), (10, 25_000), (10, 29_990), (500, 60_000)] {
            let took = steady(each_ms, 0, now_ms).ms_for(100, at(now_ms));
            let expected = 100 * each_ms;
            assert!(took.abs_diff(expected) * 20 <= expected, "{took} ms after {now_ms} ms, not {expected}");
        }
    }

    #[test]
    fn a_pace_of_long_ago_says_nothing() {
        let slow = {
            let mut drain = steady(10, 0, 20_000);
            (20_000..50_000).step_by(1_000).for_each(|ms| drain.ended(at(ms)));
            drain
        };
        assert!(slow.ms_for(1, at(50_000)).abs_diff(1_000) <= 100, "{}", slow.ms_for(1, at(50_000)));
    }

    #[test]
    fn where_nothing_ends_it_is_as_long_again_for_each() {
        let silent = steady(10, 0, 5_000);
        let last_ms = 4_990;
        for later_ms in [20_000, 40_000, 100_000] {
            let now = last_ms + later_ms;
            assert_eq!(silent.ms_for(1, at(now)), later_ms);
            assert_eq!(silent.ms_for(3, at(now)), 3 * later_ms);
        }
        assert_eq!(Drain::new(at(0)).ms_for(1, at(7_000)), 7_000, "nothing has ended yet");
    }

    #[test]
    fn a_queue_catches_up_faster_the_faster_it_is_through() {
        // Through in half a second, of jobs of up to two: a third of that brings the oldest down to one.
        assert_eq!(caught_up_ms(2_000, 1_000, 500), 333);
        assert_eq!(caught_up_ms(2_000, 1_000, 1_999), 1_999, "hardly faster than they age");
        assert_eq!(caught_up_ms(2_000, 1_000, 9_000), 9_000, "not at all: it has to be empty");
        assert_eq!(caught_up_ms(u64::MAX, 0, u64::MAX - 1), u64::MAX - 1);
    }

    #[test]
    fn nobody_is_sent_away_for_less_than_a_second_or_more_than_a_minute() {
        assert_eq!(
            [away(None), away(Some(3)), away(Some(7_500)), away(Some(u64::MAX))],
            [1_000, 1_000, 7_500, 60_000]
        );
    }
}

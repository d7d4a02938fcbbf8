//! What a producer does about a queue that is full, or close to it.

use std::time::Duration;

use mainstay_core::{
    job::{Backoff, Jitter},
    op::{Commit, Committed, Reply},
    rules,
};
use tokio::time::{Instant, sleep};

use super::{Client, Deadline, Result};

/// How a producer gives way. A client has none at first: then a full queue is an error at once.
///
/// Whatever it says, no wait goes past the deadline of the [`Context`](crate::Context): a wait for room ends before it,
/// when a tenth of the time is left for a last try, and an answer that would be held back beyond it is given at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// How long a commit waits for room in a full queue before it fails with what the store says. Defaults to 10 s. It
    /// comes back when the store says ([`StoreError::retry_after`](super::StoreError::retry_after)), and once more when
    /// this is over.
    pub wait: Duration,
    /// From this pressure on (0 to 1, [`mainstay_core::op::Enqueued::pressure`] in thousandths), answers are held back.
    /// Defaults to 0.8.
    pub slow_from: f64,
    /// How long an answer is held back at a pressure of 1; in between, in proportion. Defaults to 100 ms.
    pub slow_by: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { wait: Duration::from_secs(10), slow_from: 0.8, slow_by: Duration::from_millis(100) }
    }
}

/// The pauses between two attempts at a full queue, or what the store says if that is longer.
const PAUSES: Backoff = Backoff { base_ms: 50, factor_milli: 2_000, max_ms: 1_000, jitter: Jitter::Equal };

impl Pace {
    /// How much longer a commit that `began` then may wait for room. A last try before the caller's deadline leaves a
    /// tenth of the time to its answer: without one, nobody would know whether it happened.
    fn left(&self, began: Instant) -> Duration {
        let own = self.wait.saturating_sub(began.elapsed());
        match Deadline::current().map(Deadline::left) {
            Ok(Some(left)) => own.min(left - left / 10),
            Ok(None) => own,
            Err(_) => Duration::ZERO,
        }
    }

    fn hold_back(&self, committed: &Committed) -> Duration {
        let pressures = committed.replies.iter().filter_map(|reply| match reply {
            Reply::Enqueued(job) => job.pressure,
            _ => None,
        });
        let pressure = f64::from(pressures.max().unwrap_or(0)) / 1_000.0;
        if pressure < self.slow_from || pressure == 0.0 {
            return Duration::ZERO;
        }
        let above = (1.0 - self.slow_from).max(f64::EPSILON);
        self.slow_by.mul_f64(((pressure - self.slow_from) / above).clamp(0.0, 1.0))
    }
}

impl Client {
    /// A client of the same store whose commits give way to full queues: they wait for room, and are slowed down
    /// before it runs out. It holds for [`Client::enqueue`], [`Client::commit`] and [`Client::batch`].
    ///
    /// Cancel safety is that of any write: what was refused has changed nothing, and an answer that is held back is
    /// about what is durable.
    pub fn paced(&self, pace: Pace) -> Client {
        Client { pace: Some(pace), ..self.clone() }
    }

    pub(super) async fn submit_paced(&self, commit: Commit) -> Result<Committed> {
        let Some(pace) = self.pace else { return self.submit_one(commit).await };
        let began = Instant::now();
        let (mut tried, mut last) = (0, false);
        loop {
            // A refused commit has changed nothing; chance is drawn anew for each.
            let again = Commit { entropy: self.entropy(), ..commit.clone() };
            match self.submit_one(again).await {
                Err(error) if error.is_full() => {
                    tried += 1;
                    let pause = Duration::from_millis(rules::backoff_delay(&PAUSES, tried, self.entropy()));
                    let pause = pause.max(error.retry_after().unwrap_or_default());
                    let left = pace.left(began);
                    if last || left.is_zero() {
                        return Err(error);
                    }
                    last = pause >= left;
                    metrics::counter!("mainstay.store.full").increment(1);
                    // When the store says is a guess: the end of our patience is worth a last look.
                    sleep(pause.min(left)).await;
                }
                Ok(committed) => {
                    let pause = pace.hold_back(&committed);
                    let late =
                        Deadline::current().map_or(true, |d| d.left().is_some_and(|left| left < pause));
                    if !pause.is_zero() && !late {
                        sleep(pause).await;
                    }
                    return Ok(committed);
                }
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mainstay_core::{job::JobState, op::Enqueued, time::Timestamp};

    use super::*;

    #[test]
    fn an_answer_is_held_back_in_proportion_to_the_pressure_above_the_bound() {
        let committed = |pressure| {
            let job = Enqueued {
                id: mainstay_core::JobId::MIN,
                n: 1,
                queue: "q".parse().unwrap(),
                kind: Some(Arc::from("k")),
                state: JobState::Available,
                priority: 5,
                run_at: Timestamp(1),
                created_at: Timestamp(1),
                deduplicated: false,
                pressure,
            };
            Committed { replies: vec![Reply::Done, Reply::Enqueued(job)], repeated: false }
        };
        let held = |pressure| Pace::default().hold_back(&committed(pressure)).as_millis();
        let rows =
            [(None, 0), (Some(0), 0), (Some(799), 0), (Some(800), 0), (Some(900), 50), (Some(1_000), 100)];
        for (pressure, ms) in rows {
            assert!(held(pressure).abs_diff(ms) <= 1, "{pressure:?}: {}", held(pressure));
        }
        let at_once = Pace { slow_from: 1.0, ..Pace::default() };
        assert_eq!(at_once.hold_back(&committed(Some(999))), Duration::ZERO);
    }
}

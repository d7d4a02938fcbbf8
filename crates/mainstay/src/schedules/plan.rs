//! What to do about a tick that has come: pure.

use mainstay_core::{
    schedule::{CatchUp, ScheduleRecord},
    time::Timestamp,
};

use super::Cron;

/// So late may the tick of a schedule be that does not catch up: a restart, or a busy moment, is no reason to lose it.
const GRACE_MS: u64 = 60_000;
/// So many ticks of one schedule are fired in one commit, at most.
pub(super) const CHUNK: usize = 100;
/// So many ticks that are passed over are counted one by one, at most.
const COUNTED: u64 = 1_000;

/// One step of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// What it waits for.
    pub expected: Timestamp,
    /// The tick that is fired.
    pub tick: Option<Timestamp>,
    /// What it waits for then.
    pub next: Option<Timestamp>,
    /// How many ticks are passed over.
    pub missed: u64,
}

/// The steps to take at `now`, in order: none if nothing is due. There may be more to do afterwards.
pub(super) fn steps(record: &ScheduleRecord, cron: &Cron, now: Timestamp) -> Vec<Step> {
    let Some(expected) = record.state.next.filter(|next| *next <= now) else { return vec![] };
    if record.schedule.catch_up == CatchUp::All {
        return every_one(expected, cron, now);
    }
    let last = cron.last_until(expected, now);
    let fires = record.schedule.catch_up == CatchUp::One || now.ms_since(last) <= GRACE_MS;
    let before = count(expected, last, cron);
    let (tick, missed) = if fires { (Some(last), before) } else { (None, before + 1) };
    vec![Step { expected, tick, next: cron.after(last), missed }]
}

fn every_one(first: Timestamp, cron: &Cron, now: Timestamp) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut expected = Some(first);
    while let Some(tick) = expected.filter(|tick| *tick <= now && steps.len() < CHUNK) {
        expected = cron.after(tick);
        steps.push(Step { expected: tick, tick: Some(tick), next: expected, missed: 0 });
    }
    steps
}

/// How many ticks there are from `first` up to `last`, without it.
fn count(first: Timestamp, last: Timestamp, cron: &Cron) -> u64 {
    let mut at = first;
    let mut count = 0;
    while at < last && count < COUNTED {
        count += 1;
        let Some(next) = cron.after(at) else { break };
        at = next;
    }
    count
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mainstay_core::{
        id::JobIds,
        job::{JobBody, NewJob},
        name::Name,
        schedule::{Schedule, ScheduleState},
    };

    use super::*;

    const MINUTE: i64 = 60_000;

    fn record(catch_up: CatchUp, next: Option<i64>) -> ScheduleRecord {
        let queue = Name::new("q").unwrap();
        let job = NewJob::new(JobIds::default().next(0, &queue, 0), queue.clone(), JobBody::new("k", "null"));
        let (cron, timezone) = ("* * * * *".into(), "UTC".into());
        let state = ScheduleState { next: next.map(Timestamp), ..ScheduleState::default() };
        ScheduleRecord {
            schedule: Arc::new(Schedule { name: queue, cron, timezone, catch_up, job }),
            state,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        }
    }

    /// In minutes: what is fired or passed over when the tick of minute 0 is looked at then.
    fn at(catch_up: CatchUp, now_ms: i64) -> Vec<(Option<i64>, Option<i64>, u64)> {
        let cron = Cron::new("* * * * *", "UTC").unwrap();
        let steps = steps(&record(catch_up, Some(0)), &cron, Timestamp(now_ms));
        let minutes = |at: Option<Timestamp>| at.map(|at| at.0 / MINUTE);
        steps.iter().map(|step| (minutes(step.tick), minutes(step.next), step.missed)).collect()
    }

    #[test]
    fn a_tick_in_time_is_fired_whatever_the_policy() {
        for catch_up in [CatchUp::Skip, CatchUp::One, CatchUp::All] {
            assert_eq!(at(catch_up, -1), []);
            assert_eq!(at(catch_up, 0), [(Some(0), Some(1), 0)]);
            assert_eq!(at(catch_up, MINUTE - 1), [(Some(0), Some(1), 0)]);
        }
    }

    #[test]
    fn ticks_that_were_missed_go_by_the_policy() {
        // Three and a half minutes late: the latest tick is half a minute old.
        let late = 3 * MINUTE + MINUTE / 2;
        assert_eq!(at(CatchUp::Skip, late), [(Some(3), Some(4), 3)]);
        assert_eq!(at(CatchUp::One, late), [(Some(3), Some(4), 3)]);
        let all =
            [(Some(0), Some(1), 0), (Some(1), Some(2), 0), (Some(2), Some(3), 0), (Some(3), Some(4), 0)];
        assert_eq!(at(CatchUp::All, late), all);
    }

    #[test]
    fn a_tick_that_is_more_than_a_minute_late_is_left_out_unless_it_is_to_be_caught_up() {
        let cron = Cron::new("0 * * * *", "UTC").unwrap();
        let at = |catch_up, now| {
            let steps = steps(&record(catch_up, Some(0)), &cron, Timestamp(now));
            steps.into_iter().map(|step| (step.tick, step.missed)).collect::<Vec<_>>()
        };
        assert_eq!(at(CatchUp::Skip, MINUTE), [(Some(Timestamp(0)), 0)]);
        assert_eq!(at(CatchUp::Skip, MINUTE + 1), [(None, 1)]);
        assert_eq!(at(CatchUp::One, MINUTE + 1), [(Some(Timestamp(0)), 0)]);
        assert_eq!(at(CatchUp::All, MINUTE + 1), [(Some(Timestamp(0)), 0)]);
    }

    #[test]
    fn a_year_of_ticks_is_caught_up_in_bounded_pieces_and_passed_over_in_one() {
        let year = 365 * 24 * 60;
        let steps = at(CatchUp::All, year * MINUTE);
        assert_eq!(steps.len(), CHUNK);
        assert_eq!(steps.last(), Some(&(Some(99), Some(100), 0)));
        assert_eq!(at(CatchUp::One, year * MINUTE), [(Some(year), Some(year + 1), COUNTED)]);
    }
}

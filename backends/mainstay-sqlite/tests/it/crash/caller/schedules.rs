//! What a caller does to its two schedules.

use std::sync::Arc;

use mainstay_core::{
    Timestamp,
    job::NewJob,
    op::Op,
    schedule::{CatchUp, Fire, Schedule, ScheduleOp},
};

use super::{Caller, name_of};

/// The first tick lies so far back that there is always one to fire.
const FIRST: Timestamp = Timestamp(1_700_000_000_000);
const BETWEEN_TICKS_MS: u64 = 1_000;

impl Caller {
    /// The `what`-th of the things there are to do.
    pub(super) fn schedule(&mut self, what: usize, now: Timestamp) -> Option<Vec<Op>> {
        let name = name_of(&self.ledger.queue, if self.chance.below(2) == 0 { "hourly" } else { "daily" });
        let known = self.ledger.schedules.known.contains_key(&name);
        let op = match what {
            1 => return self.fire(now).map(|op| vec![op]),
            2 if known => ScheduleOp::Pause { name },
            3 if known => ScheduleOp::Delete { name },
            _ => {
                let job = self.new_job(now);
                let cron = if self.chance.below(4) == 0 { "@daily" } else { "@hourly" };
                let schedule = Schedule {
                    name,
                    cron: cron.into(),
                    timezone: "UTC".into(),
                    catch_up: CatchUp::All,
                    job: NewJob { after: vec![], ..job },
                };
                ScheduleOp::Put { schedule: Arc::new(schedule), next: FIRST }
            }
        };
        Some(vec![Op::Schedule(op)])
    }

    /// Fires the next tick of a schedule that has one, or passes it over.
    pub(super) fn fire(&mut self, now: Timestamp) -> Option<Op> {
        let known = &self.ledger.schedules.known;
        let (name, expected) =
            known.iter().find_map(|(name, known)| Some((name.clone(), known.state.next?)))?;
        let fires = self.chance.below(4) > 0;
        let job = fires.then(|| self.new_job(now));
        let fire = Fire {
            name,
            revision: None,
            expected,
            tick: fires.then_some(expected),
            job: job.map(|job| Box::new(NewJob { after: vec![], unique: None, ..job })),
            next: Some(expected.plus_ms(BETWEEN_TICKS_MS)),
            missed: u64::from(!fires),
        };
        Some(Op::Schedule(ScheduleOp::Fire(Box::new(fire))))
    }
}

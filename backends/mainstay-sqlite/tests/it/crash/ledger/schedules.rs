//! Schedules that nobody else touches, as their only caller knows them.

use std::{collections::BTreeMap, sync::Arc};

use mainstay_core::{
    name::Name,
    schedule::{Schedule, ScheduleOp, ScheduleRecord, ScheduleState},
};

#[derive(Clone, Debug, Default)]
pub(in crate::crash) struct Schedules {
    pub(in crate::crash) known: BTreeMap<Name, Known>,
}

#[derive(Clone, Debug)]
pub(in crate::crash) struct Known {
    wanted: Arc<Schedule>,
    /// Its revision is the store's affair, and stays 0.
    pub(in crate::crash) state: ScheduleState,
}

impl Schedules {
    pub(super) fn change(&mut self, op: &ScheduleOp) {
        match op {
            ScheduleOp::Put { schedule, next } => {
                let before = self.known.get(&schedule.name);
                let mut state = before.map(|known| known.state).unwrap_or_default();
                if !state.paused && before.is_none_or(|known| !known.wanted.same_times(schedule)) {
                    state.next = Some(*next);
                }
                self.known.insert(schedule.name.clone(), Known { wanted: schedule.clone(), state });
            }
            ScheduleOp::Delete { name } => drop(self.known.remove(name)),
            ScheduleOp::Pause { name } => {
                let state = self.state(name);
                (state.paused, state.next) = (true, None);
            }
            ScheduleOp::Fire(fire) => {
                let state = self.state(&fire.name);
                assert_eq!(state.next, Some(fire.expected), "callers fire what comes next");
                state.next = fire.next;
                state.missed += fire.missed;
                if let (Some(tick), Some(job)) = (fire.tick, &fire.job) {
                    (state.last, state.last_job) = (Some(tick), Some(job.id));
                    state.fired += 1;
                }
            }
            ScheduleOp::Resume { .. } => panic!("callers do not do this: {op:?}"),
        }
    }

    fn state(&mut self, name: &Name) -> &mut ScheduleState {
        &mut self.known.get_mut(name).expect("callers only touch what they know").state
    }

    pub(super) fn fits(&self, shown: &BTreeMap<Name, ScheduleRecord>) -> Result<(), String> {
        if let Some(name) = shown.keys().find(|name| !self.known.contains_key(*name)) {
            return Err(format!("schedule {name} is there, but nobody was told, or it was deleted"));
        }
        for (name, known) in &self.known {
            let Some(record) = shown.get(name) else { return Err(format!("schedule {name} is lost")) };
            let state = ScheduleState { revision: 0, ..record.state };
            if record.schedule != known.wanted || state != known.state {
                return Err(format!("schedule {name} is {record:?}, not {known:?}"));
            }
        }
        Ok(())
    }
}

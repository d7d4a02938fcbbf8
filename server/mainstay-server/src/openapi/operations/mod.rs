//! Every operation there is, group by group.

mod admin;
mod commit;
mod events;
mod jobs;
mod locks;
mod probes;
mod queues;
mod schedules;
mod store;

use super::operation::Operation;

/// Operations that belong together.
pub(super) struct Group {
    pub name: &'static str,
    pub detail: &'static str,
    /// Whether they are on the admin listener.
    pub on_admin: bool,
    pub operations: Vec<Operation>,
}

/// All groups, in reading order.
pub(super) fn groups() -> Vec<Group> {
    vec![
        jobs::group(),
        queues::group(),
        schedules::group(),
        locks::group(),
        events::group(),
        commit::group(),
        store::group(),
        probes::group(),
        admin::group(),
    ]
}

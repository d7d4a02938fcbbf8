//! Processes that commands start.

use rustix::process::{
    Pid, Signal, kill_process, kill_process_group, test_kill_process, test_kill_process_group,
};
use tokio::process::Child;
use tokio::time::{Instant, sleep_until};

/// Whom a signal goes to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// A process and all it has started, unless they have left its group.
    Group(Pid),
    /// A process alone.
    Process(Pid),
}

impl Target {
    /// The group of a child that was started as its leader. `None` when it has ended.
    pub(crate) fn group(child: &Child) -> Option<Target> {
        pid(child).map(Target::Group)
    }

    /// A child alone. `None` when it has ended.
    pub(crate) fn process(child: &Child) -> Option<Target> {
        pid(child).map(Target::Process)
    }

    pub(crate) fn signal(self, signal: Signal) {
        // Fails when nobody is left, which is what it is for.
        let _ = match self {
            Target::Group(leader) => kill_process_group(leader, signal),
            Target::Process(process) => kill_process(process, signal),
        };
    }

    /// Whether anybody is left to hear a signal.
    pub(crate) fn is_there(self) -> bool {
        match self {
            Target::Group(leader) => test_kill_process_group(leader).is_ok(),
            Target::Process(process) => test_kill_process(process).is_ok(),
        }
    }
}

fn pid(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| Pid::from_raw(id.cast_signed()))
}

/// Resolves at the instant; never, if there is none.
pub(crate) async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

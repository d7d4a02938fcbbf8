//! One direction of all connections: what happens there, and what has passed.

use tokio::sync::watch;

use super::Faults;

#[derive(Debug, Default)]
pub(super) struct Lane {
    rule: watch::Sender<Rule>,
    /// Bytes read here.
    pub received: watch::Sender<u64>,
    /// Bytes written on.
    pub forwarded: watch::Sender<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Rule {
    faults: Faults,
    cut: bool,
}

impl Lane {
    pub fn set(&self, faults: Faults) {
        self.rule.send_modify(|rule| rule.faults = faults);
    }

    pub fn cut(&self, cut: bool) {
        self.rule.send_modify(|rule| rule.cut = cut);
    }

    pub fn faults(&self) -> Faults {
        self.rule.borrow().faults
    }

    /// Waits while nothing may pass; then answers what happens to what does. The test decides how long that is.
    pub async fn flowing(&self) -> Faults {
        let mut rules = self.rule.subscribe();
        let flows = rules.wait_for(|rule| !rule.cut && !rule.faults.stalled).await;
        // The sender is in `self`: the channel is not closed.
        flows.map(|rule| rule.faults).unwrap_or_default()
    }

    /// Waits while there is a partition.
    pub async fn joined(&self) {
        let _ = self.rule.subscribe().wait_for(|rule| !rule.cut).await;
    }
}

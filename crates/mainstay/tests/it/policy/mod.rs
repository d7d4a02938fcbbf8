//! Calls under a policy, in virtual time.

mod budget;
mod call;
mod hedge;
mod jitter;
mod jobs;
mod layer;
mod registry;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::policy::{BreakerRules, BudgetRules, Event, Jitter, Policies, Policy, Retry, Target};

/// No jitter, no breaker, no budget: what a test does not ask for does not disturb it.
pub fn plain() -> Policy {
    Policy {
        retry: Retry { jitter: Jitter::None, ..Retry::default() },
        breaker: BreakerRules { enabled: false, ..BreakerRules::default() },
        budget: BudgetRules { enabled: false, ..BudgetRules::default() },
        ..Policy::default()
    }
}

pub fn target(policy: Policy) -> Target {
    Target::new("target", policy).expect("a valid policy")
}

/// A target whose every decision is written down.
pub fn watched(policy: Policy) -> (Target, Arc<Mutex<Vec<Event>>>) {
    let policies = Policies::new([("target".to_owned(), policy)].into()).expect("a valid policy");
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = events.clone();
    assert!(policies.watch(move |_, event| seen.lock().unwrap().push(event)));
    (policies.target("target"), events)
}

pub fn transient() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

pub fn permanent() -> io::Error {
    io::ErrorKind::PermissionDenied.into()
}

/// Takes `ms` of virtual time, then fails in a way that may pass.
pub async fn fails_after(ms: u64) -> io::Result<()> {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    Err(transient())
}

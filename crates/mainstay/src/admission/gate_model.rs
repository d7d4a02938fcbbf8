//! Admission under a model checker: whoever waits gets its turn, whoever else goes away.

#![allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "the same source over other locks; the model uses what it needs"
)]

#[path = "gate.rs"]
mod gate;
#[path = "permit.rs"]
mod permit;
mod sync {
    pub(super) use mainstay_loom::{Mutex, MutexGuard, oneshot};
}

use std::sync::Arc;

use mainstay_loom::{block_on, check, check_with, poll_and_drop, thread};
use tokio::time::Instant;

use self::gate::{Entered, Inner};
use self::permit::Permit;
use super::{AdmissionRules, Meters, RETRY_AFTER, Shed, ShedReason, limit, line};
use crate::context::Criticality;

/// One at a time, and no line that is cut for having stood.
fn gate() -> Arc<Inner> {
    let rules = AdmissionRules {
        initial: 1,
        min: 1,
        max: 1,
        codel_target_ms: 60_000,
        codel_interval_ms: 600_000,
        ..AdmissionRules::default()
    };
    rules.check().expect("rules that hold");
    Arc::new(Inner::new("model".into(), rules, 7))
}

fn enter(gate: &Arc<Inner>) -> Entered {
    gate.enter(Criticality::Critical, None, Instant::now())
}

/// Waits for as long as it takes.
fn patient(gate: &Arc<Inner>) -> Permit {
    match enter(gate) {
        Entered::Runs(permit) => permit,
        Entered::Waits { answer, .. } => block_on(answer).expect("an answer").expect("a permit"),
    }
}

/// In line, perhaps called, perhaps not: gone in any case.
fn impatient(gate: &Arc<Inner>) {
    match enter(gate) {
        Entered::Runs(permit) => permit.done(),
        Entered::Waits { answer, .. } => drop(poll_and_drop(answer)),
    }
}

fn is_empty(gate: &Inner) {
    assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
}

#[test]
fn a_turn_of_one_who_goes_is_passed_on() {
    check(|| {
        let gate = gate();
        let held = patient(&gate);
        let (goes, waits) = (gate.clone(), gate.clone());
        let going = thread::spawn(move || impatient(&goes));
        let waiting = thread::spawn(move || patient(&waits).done());
        held.done();
        going.join().unwrap();
        waiting.join().unwrap();
        is_empty(&gate);
    });
}

#[test]
fn everybody_has_a_turn_and_never_two_at_once() {
    check_with(2, || {
        let gate = gate();
        let threads = [(), ()].map(|()| {
            let gate = gate.clone();
            thread::spawn(move || {
                let permit = patient(&gate);
                assert_eq!(gate.in_flight(), 1);
                drop(permit);
            })
        });
        let permit = patient(&gate);
        assert_eq!(gate.in_flight(), 1);
        permit.done();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        is_empty(&gate);
    });
}

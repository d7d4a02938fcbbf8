//! The two threads of checkpoints under a model checker.

#![allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "the same source over other locks; the model uses what it needs"
)]

#[path = "due.rs"]
mod due;
mod sync {
    pub(super) use mainstay_loom::{Condvar, Mutex, MutexGuard, atomic};
}

use std::sync::Arc;

use mainstay_loom::{check, thread};

use self::due::Checkpoints;

/// More than may wait for the next tick, which never comes in a model.
const MUCH: usize = 13 << 20;

#[test]
fn much_is_moved_at_once_whenever_it_comes_and_the_tables_hear_of_it() {
    check(|| {
        let checkpoints = Arc::new(Checkpoints::default());
        let (moves, stops) = (checkpoints.clone(), checkpoints.clone());
        let moving = thread::spawn(move || {
            let mut moved = 0;
            while moves.next() {
                moved += 1;
                moves.has_finished(true);
            }
            moved
        });
        // Only both together are urgent.
        checkpoints.committed(MUCH);
        checkpoints.committed(MUCH);
        stops.stop();
        let moved = moving.join().unwrap();
        assert!(moved <= 1);
        assert_eq!(checkpoints.take_finished(), moved == 1);
        assert!(!checkpoints.take_finished() && !checkpoints.is_held_up());
    });
}

#[test]
fn what_is_urgent_does_not_wait_for_a_tick() {
    check(|| {
        let checkpoints = Arc::new(Checkpoints::default());
        let moves = checkpoints.clone();
        // Without a stop: it ends by the commits alone.
        let moving = thread::spawn(move || moves.next());
        checkpoints.committed(MUCH);
        checkpoints.committed(MUCH);
        assert!(moving.join().unwrap());
    });
}

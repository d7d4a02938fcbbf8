//! A pool's job and who waits for it under a model checker.

#![allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "the same source over other locks; the model uses what it needs"
)]

#[path = "ticket.rs"]
mod ticket;
mod sync {
    pub(super) use mainstay_loom::{Mutex, MutexGuard, Notify, atomic};
}

use std::sync::Arc;

use mainstay_loom::{block_on, check, thread};

use tokio::time::Instant;

use self::ticket::{PoolJob, Ticket, Waits};
use super::PoolError;
use crate::Context;

fn ticket() -> Arc<Ticket<&'static str, u32>> {
    let waits = Waits { job: "job", since: None };
    Arc::new(Ticket::new(1, waits, 5, None, Context::default()))
}

#[test]
fn whoever_waits_gets_the_result_whenever_it_comes() {
    let now = Instant::now();
    check(move || {
        let ticket = ticket();
        let runs = ticket.clone();
        let running = thread::spawn(move || {
            let waits = runs.begin().unwrap();
            // Tried twice.
            runs.put_off();
            runs.lay_down(waits.job, now);
            assert!(runs.begin().is_some() && runs.end(Ok(7)));
        });
        assert_eq!(block_on(PoolJob(ticket)), Ok(7));
        running.join().unwrap();
    });
}

#[test]
fn a_cancelled_job_is_ended_before_it_begins_or_its_worker_is_told_and_says_what_became_of_it() {
    check(|| {
        let ticket = ticket();
        let (runs, cancels) = (ticket.clone(), ticket.clone());
        let running = thread::spawn(move || {
            let began = runs.begin().is_some();
            if began {
                block_on(runs.stopped());
                assert!(runs.end(Ok(7)), "nobody else ends what runs");
            }
            began
        });
        let cancelling = thread::spawn(move || cancels.cancel());
        let result = block_on(PoolJob(ticket));
        let began = running.join().unwrap();
        cancelling.join().unwrap();
        assert_eq!(result, if began { Ok(7) } else { Err(PoolError::Cancelled) });
    });
}

#[test]
fn one_end_counts() {
    check(|| {
        let ticket = ticket();
        let (ends, lost) = (ticket.clone(), ticket.clone());
        assert!(ticket.begin().is_some());
        let ending = thread::spawn(move || ends.end(Ok(7)));
        let losing = thread::spawn(move || lost.end(Err(PoolError::Cancelled)));
        let result = block_on(PoolJob(ticket));
        let ended = [ending.join().unwrap(), losing.join().unwrap()];
        assert_eq!(ended, [result.is_ok(), result.is_err()]);
    });
}

#[test]
fn a_job_that_is_put_off_is_cancelled_or_handed_back_and_never_both() {
    let now = Instant::now();
    check(move || {
        let ticket = ticket();
        let (runs, cancels) = (ticket.clone(), ticket.clone());
        let waits = ticket.begin().unwrap();
        let running = thread::spawn(move || {
            runs.put_off();
            runs.lay_down(waits.job, now);
            runs.give_up(PoolError::Stopped)
        });
        let cancelling = thread::spawn(move || cancels.cancel());
        let result = block_on(PoolJob(ticket));
        cancelling.join().unwrap();
        match running.join().unwrap() {
            Some(job) => assert_eq!((job, result), ("job", Err(PoolError::Stopped))),
            None => assert_eq!(result, Err(PoolError::Cancelled)),
        }
    });
}

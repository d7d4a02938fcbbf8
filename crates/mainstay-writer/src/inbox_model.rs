//! The inbox under a model checker: loom runs every interleaving of a few threads (up to three preemptions) over the same
//! source, compiled over loom's locks. A thread that is never woken again is a deadlock, which loom reports.

#![allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "the same source over other locks; the model uses what it needs"
)]

#[path = "inbox.rs"]
mod inbox;
mod sync {
    pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};
}

use loom::{sync::Arc, thread};

use self::inbox::{Inbox, Taken};

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// Takes one at a time, as long as there is any.
fn drain(inbox: &Inbox<u32>) -> Vec<u32> {
    let mut got = vec![];
    loop {
        let mut first = true;
        let mut taken = vec![];
        if inbox.take(&mut taken, None, |_, _| std::mem::take(&mut first)) == Taken::Over {
            return got;
        }
        got.append(&mut taken);
    }
}

#[test]
fn what_is_pushed_is_taken_once_whoever_takes() {
    check(|| {
        let inbox = Arc::new(Inbox::new(10));
        let other = inbox.clone();
        let taking = thread::spawn(move || drain(&other));
        let other = inbox.clone();
        let pushing = thread::spawn(move || {
            assert!(other.push(1, 1).is_ok() && other.push(2, 1).is_ok());
            other.close();
        });
        let mut got = drain(&inbox);
        got.append(&mut taking.join().unwrap());
        pushing.join().unwrap();
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
    });
}

#[test]
fn one_who_sleeps_is_woken_by_each_of_two() {
    check(|| {
        let inbox = Arc::new(Inbox::new(10));
        let pushing = [1, 2].map(|item| {
            let inbox = inbox.clone();
            thread::spawn(move || assert!(inbox.push(item, 1).is_ok()))
        });
        let mut got = vec![];
        while got.len() < 2 {
            inbox.take(&mut got, None, |_, _| true);
        }
        pushing.into_iter().for_each(|thread| thread.join().unwrap());
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
    });
}

#[test]
fn an_alarm_is_heard_whenever_it_rings_and_takes_no_call_away() {
    check(|| {
        let inbox = Arc::new(Inbox::new(10));
        let other = inbox.clone();
        let ringing = thread::spawn(move || other.ring());
        let other = inbox.clone();
        let pushing = thread::spawn(move || assert!(other.push(1, 1).is_ok()));
        let mut got = vec![];
        // Twice at most: one of them may come while it is awake.
        inbox.take(&mut got, None, |_, _| true);
        if got.is_empty() {
            inbox.take(&mut got, None, |_, _| true);
        }
        assert_eq!(got, [1]);
        ringing.join().unwrap();
        pushing.join().unwrap();
    });
}

#[test]
fn what_is_refused_at_the_close_is_not_taken_and_what_was_accepted_is() {
    check(|| {
        let inbox = Arc::new(Inbox::new(10));
        let other = inbox.clone();
        let pushing = thread::spawn(move || other.push(1, 1).is_ok());
        let other = inbox.clone();
        let closing = thread::spawn(move || other.close());
        let got = drain(&inbox);
        let accepted = pushing.join().unwrap();
        closing.join().unwrap();
        assert_eq!(got.len(), usize::from(accepted));
    });
}

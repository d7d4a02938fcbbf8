//! Those who log and the thread that writes, under a model checker. It ends with a line that says so.

#![allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "the same source over other locks; the model uses what it needs"
)]

#[path = "pending.rs"]
mod pending;
mod sync {
    pub(super) use mainstay_loom::{Condvar, Mutex, MutexGuard};
}

use std::sync::Arc;

use mainstay_loom::{check, check_with, thread};

use self::pending::{Pending, Taken};
use crate::secs;

/// The thread's life; what it has written, and how often it has opened its output anew.
fn write(pending: &Pending) -> (String, u32) {
    let (mut written, mut reopened) = (Vec::new(), 0);
    loop {
        let Taken { lines, reopen, .. } = pending.take(Vec::new(), || false);
        let is_last = lines.ends_with(b"!");
        written.extend(lines);
        reopened += u32::from(reopen);
        pending.written(false, reopen.then_some(Ok(())));
        if is_last {
            return (String::from_utf8(written).unwrap(), reopened);
        }
    }
}

#[test]
fn every_line_is_written_and_nobody_has_to_be_called_twice() {
    check(|| {
        let pending = Arc::new(Pending::default());
        let (writes, logs) = (pending.clone(), pending.clone());
        let writing = thread::spawn(move || write(&writes));
        let logging = thread::spawn(move || logs.put(b"a", false));
        pending.put(b"b", true);
        logging.join().unwrap();
        pending.put(b"!", false);
        let (written, _) = writing.join().unwrap();
        assert!(["ab!", "ba!"].contains(&&*written), "{written}");
    });
}

#[test]
fn a_flush_ends_when_what_was_before_it_is_written() {
    check_with(2, || {
        let pending = Arc::new(Pending::default());
        let (writes, logs) = (pending.clone(), pending.clone());
        let writing = thread::spawn(move || write(&writes));
        let logging = thread::spawn(move || {
            logs.put(b"a", false);
            assert!(logs.flush(secs(5)));
        });
        assert!(pending.flush(secs(5)));
        logging.join().unwrap();
        pending.put(b"!", false);
        assert_eq!(writing.join().unwrap().0, "a!");
    });
}

#[test]
fn all_who_want_the_output_opened_anew_hear_that_it_was() {
    check_with(2, || {
        let pending = Arc::new(Pending::default());
        let (writes, asks) = (pending.clone(), pending.clone());
        let writing = thread::spawn(move || write(&writes));
        let asking = thread::spawn(move || asks.reopen(secs(5)).unwrap());
        pending.reopen(secs(5)).unwrap();
        asking.join().unwrap();
        pending.put(b"!", false);
        let (_, reopened) = writing.join().unwrap();
        assert!((1..=2).contains(&reopened));
    });
}

//! The keeper of a client's locks under a model checker: its task comes and goes with what there is to do, and whatever
//! was dropped meanwhile is given back.

#![allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "the same source over other locks; the model uses what it needs"
)]

#[path = "hold.rs"]
mod hold;
#[path = "keeper.rs"]
mod keeper;
mod sync {
    pub(super) use mainstay_loom::{Mutex, MutexGuard, Notify, OnceLock, atomic, timeout, watch};

    /// Tasks as threads.
    pub(super) struct TaskSet;

    impl TaskSet {
        pub fn current() -> Option<Self> {
            Some(TaskSet)
        }

        pub fn spawn(&self, _name: &'static str, task: impl Future<Output = ()> + 'static) {
            mainstay_loom::thread::spawn(move || mainstay_loom::block_on(task));
        }
    }
}

use std::sync::Arc;
use std::time::Duration;

use mainstay_core::{
    MemoryStore, Store,
    lock::{Acquire, LockGrant, LockMode, LockOp, LockReply, Owner, Ticket},
    name::Name,
    op::{Commit, Op, Reply},
    store::{Batch, Key, Record},
    time::StoreTime,
};
use mainstay_loom::{block_on, check_with, poll_and_drop, thread};

use self::hold::Hold;
use self::keeper::Keeper;
use super::Term;
use super::hold_model::Still;

fn name(of: &str) -> Name {
    Name::new(of).unwrap()
}

/// A store in RAM, each call of which is one step.
fn world() -> (Arc<dyn Store>, Arc<Keeper>) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Arc::new(Still)));
    (store.clone(), Keeper::new(store, Arc::new(Still)))
}

fn acquire(store: &Arc<dyn Store>, lock: &str, ticket: Option<Ticket>) -> LockReply {
    let acquire = Acquire {
        name: name(lock),
        owner: Owner::new("ada").unwrap(),
        mode: LockMode::Exclusive,
        ttl_ms: 30_000,
        delay_ms: 0,
        wait_ms: if ticket.is_some() { 60_000 } else { 0 },
        ticket,
        visit: 0,
        again: false,
        keep_place: false,
    };
    let commits = vec![Commit::of(Op::Lock(LockOp::Acquire(Box::new(acquire))), 7)];
    let answers = poll_and_drop(store.submit(Batch { commits, within: None })).expect("at once").unwrap();
    match answers.into_iter().next().unwrap().unwrap().replies.pop().unwrap() {
        Reply::Lock(reply) => reply,
        other => panic!("{other:?}"),
    }
}

fn granted(store: &Arc<dyn Store>, lock: &str) -> LockGrant {
    match acquire(store, lock, None) {
        LockReply::Granted(grant) => grant,
        other => panic!("{other:?}"),
    }
}

/// Who has it, and who waits.
fn seen(store: &Arc<dyn Store>, lock: &str) -> (usize, u64) {
    match poll_and_drop(store.get(&Key::Lock(name(lock)))).expect("at once").unwrap() {
        Some(Record::Lock(lock)) => (lock.holders.len(), lock.waiting),
        _ => (0, 0),
    }
}

#[test]
fn what_is_dropped_is_given_back_whenever_the_task_comes_or_goes() {
    check_with(2, || {
        let (store, keeper) = world();
        let keep = |keeper: &Arc<Keeper>, lock: &str| {
            let term = Term::new(StoreTime(1), Duration::from_secs(30));
            let hold = Hold::new(Arc::new(Still), &granted(&store, lock), term);
            keeper.keep(hold, term, true)
        };
        let first = keep(&keeper, "door");
        let second = keep(&keeper, "gate");
        let dropping = thread::spawn(move || drop(first));
        drop(second);
        dropping.join().unwrap();
        block_on(keeper.give_all_back());
        assert_eq!((seen(&store, "door"), seen(&store, "gate")), ((0, 0), (0, 0)));
    });
}

#[test]
fn a_place_in_line_is_left_whenever_the_task_comes_or_goes() {
    check_with(2, || {
        let (store, keeper) = world();
        let _held = granted(&store, "door");
        let in_line = [1, 2].map(|number| {
            let ticket = Ticket { scope: [number; 16], fingerprint: [number; 16] };
            assert!(matches!(acquire(&store, "door", Some(ticket)), LockReply::Waiting(_)));
            keeper.enter_line(name("door"), ticket)
        });
        let [first, second] = in_line;
        let leaving = thread::spawn(move || drop(first));
        drop(second);
        leaving.join().unwrap();
        block_on(keeper.give_all_back());
        assert_eq!(seen(&store, "door"), (1, 0));
    });
}

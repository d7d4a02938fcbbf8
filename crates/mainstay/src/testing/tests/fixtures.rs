//! Set-up and tear-down.

use std::{
    cell::RefCell,
    future::pending,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::failure;
use crate::{
    secs,
    testing::{Fixture, Gate, Shared, block_on_virtual, with_fixture},
};

thread_local! {
    /// What the fixtures of one test have done.
    static DONE: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn done(what: &str) {
    DONE.with_borrow_mut(|done| done.push(what.to_owned()));
}

fn all_done() -> Vec<String> {
    DONE.take()
}

struct Database;
impl Fixture for Database {
    async fn set_up() -> Self {
        tokio::time::sleep(secs(1)).await;
        done("database up");
        Database
    }
    async fn tear_down(self) {
        tokio::time::sleep(secs(1)).await;
        done("database down");
    }
}

struct Server;
impl Fixture for Server {
    async fn set_up() -> Self {
        done("server up");
        Server
    }
    async fn tear_down(self) {
        done("server down");
    }
}

struct Broken<const IN_SET_UP: bool>;
impl<const IN_SET_UP: bool> Fixture for Broken<IN_SET_UP> {
    async fn set_up() -> Self {
        assert!(!IN_SET_UP, "no disk");
        Broken
    }
    async fn tear_down(self) {
        panic!("cannot unmount");
    }
}

#[test]
fn what_was_set_up_is_torn_down_in_reverse_and_the_value_comes_back() {
    let value = block_on_virtual(with_fixture(async |_: &(Database, Server)| {
        done("test");
        7
    }));
    assert_eq!(value, 7);
    assert_eq!(all_done(), ["database up", "server up", "test", "server down", "database down"]);
}

#[test]
fn a_test_that_panics_is_torn_down_and_fails_as_it_did() {
    let message = failure(|| {
        block_on_virtual(with_fixture(async |_: &Database| {
            tokio::task::yield_now().await;
            panic!("expected 2, found 3");
        }))
    });
    assert_eq!(message, "expected 2, found 3");
    assert_eq!(all_done(), ["database up", "database down"]);
}

#[test]
fn a_test_that_waits_forever_is_torn_down_too() {
    let message = failure(|| block_on_virtual(with_fixture(async |_: &Database| pending::<()>().await)));
    assert!(message.contains("waits for something that never comes"), "{message}");
    assert_eq!(all_done(), ["database up", "database down"]);
}

#[test]
fn a_fixture_that_fails_does_not_keep_the_others_from_their_end() {
    let message =
        failure(|| block_on_virtual(with_fixture(async |_: &(Database, Broken<true>)| done("test"))));
    assert_eq!(message, "no disk");
    assert_eq!(all_done(), ["database up", "database down"]);

    let message = failure(|| {
        block_on_virtual(with_fixture(async |_: &(Database, Server, Broken<false>)| done("test")))
    });
    assert_eq!(message, "cannot unmount");
    assert_eq!(all_done(), ["database up", "server up", "test", "server down", "database down"]);

    let message = failure(|| {
        block_on_virtual(with_fixture(async |_: &(Database, Broken<false>)| panic!("the test's own")))
    });
    assert_eq!(message, "the test's own", "its failure comes before that of the tear-down");
    assert_eq!(all_done(), ["database up", "database down"]);
}

#[test]
fn a_set_up_that_hangs_is_named() {
    struct Stuck;
    impl Fixture for Stuck {
        async fn set_up() -> Self {
            pending().await
        }
    }
    let message = failure(|| block_on_virtual(with_fixture(async |_: &Stuck| ())));
    assert_eq!(message, "the fixture's set-up has not ended after 60s");
}

static LIFE: Mutex<Vec<&str>> = Mutex::new(Vec::new());
static USERS: AtomicUsize = AtomicUsize::new(0);
static POOL: Shared<Pool> = Shared::new();

struct Pool {
    /// Answers from a task on the fixture's own runtime.
    ask: tokio::sync::mpsc::Sender<tokio::sync::oneshot::Sender<usize>>,
    tasks: crate::TaskSet,
}
impl Fixture for Pool {
    async fn set_up() -> Self {
        LIFE.lock().unwrap().push("up");
        let (ask, mut asked) = tokio::sync::mpsc::channel::<tokio::sync::oneshot::Sender<usize>>(8);
        let tasks = crate::TaskSet::current().unwrap();
        drop(tasks.spawn("pool", async move {
            while let Some(answer) = asked.recv().await {
                let _ = answer.send(USERS.fetch_add(1, Ordering::Relaxed) + 1);
            }
        }));
        Pool { ask, tasks }
    }
    async fn tear_down(self) {
        LIFE.lock().unwrap().push("down");
        self.tasks.abort();
    }
}
impl Pool {
    async fn use_it(&self) -> usize {
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.ask.send(answer).await.unwrap();
        crate::testing::real(answered).await.unwrap()
    }
}

#[test]
fn a_shared_fixture_lives_from_its_first_user_to_its_last() {
    let (inside, leave) = (Gate::new(), Gate::new());
    let (theirs, theirs_leave) = (inside.clone(), leave.clone());
    // One test after another on its own runtime, the second while the first is still at it.
    let first = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(POOL.with(async |pool| {
            assert_eq!(pool.use_it().await, 1);
            theirs.pass().await;
            theirs_leave.pass().await;
            panic!("the first fails");
        }))
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    inside.open();
    runtime.block_on(inside.until_arrived(1));
    block_on_virtual(POOL.with(async |pool| assert_eq!(pool.use_it().await, 2)));
    assert_eq!(*LIFE.lock().unwrap(), ["up"], "the first still uses it");
    leave.open();
    let failed: Result<(), _> = first.join();
    assert_eq!(crate::tasks::panic_message(&*failed.unwrap_err()), "the first fails");
    assert_eq!(*LIFE.lock().unwrap(), ["up", "down"]);
    block_on_virtual(POOL.with(async |pool| assert_eq!(pool.use_it().await, 3)));
    assert_eq!(*LIFE.lock().unwrap(), ["up", "down", "up", "down"]);
}

#[test]
fn a_shared_fixture_that_cannot_be_set_up_fails_its_test_and_is_tried_again() {
    static BROKEN: Shared<Broken<true>> = Shared::new();
    for _ in 0..2 {
        let message = failure(|| block_on_virtual(BROKEN.with(async |_| ())));
        assert_eq!(message, "no disk");
    }
    static UNMOUNTABLE: Shared<Broken<false>> = Shared::new();
    let message = failure(|| block_on_virtual(UNMOUNTABLE.with(async |_| ())));
    assert_eq!(message, "cannot unmount");
}

//! Tasks that are left behind.

use std::future::pending;

use super::{failure, says};
use crate::{
    TaskSet, secs,
    testing::{Runtime, assert_no_leaks, block_on_virtual},
};

fn stuck() -> TaskSet {
    let tasks = TaskSet::current().unwrap();
    drop(tasks.spawn("refresh cache", pending::<()>()));
    tasks
}

#[test]
fn a_test_that_leaves_a_task_behind_fails_with_its_name_and_line() {
    let test = async {
        drop(stuck());
        tokio::time::sleep(secs(7200)).await;
    };
    let message = failure(|| block_on_virtual(test));
    says(&message, &["leaves tasks behind", "task refresh cache (7200.0 s, spawned at", "tests/leaks.rs:13"]);
    let dropped = failure(|| drop(Runtime::paused().block_on(async { stuck() })));
    says(&dropped, &["refresh cache"]);
}

#[test]
fn tasks_that_have_ended_or_can_end_are_no_leak() {
    block_on_virtual(async {
        let tasks = stuck();
        let (begin, begun) = tokio::sync::oneshot::channel();
        let _last = tasks.spawn("last", async move {
            begun.await.unwrap();
            tokio::task::yield_now().await;
        });
        let _first = tasks.spawn("first", async move { begin.send(()).unwrap() });
        tasks.abort();
    });
    block_on_virtual(async { drop(TaskSet::current().unwrap().spawn("ready", async {})) });
}

#[test]
fn a_task_that_waits_for_time_is_a_leak_unless_it_is_awaited() {
    let later = || async {
        let tasks = TaskSet::current().unwrap();
        drop(tasks.spawn("later", tokio::time::sleep(secs(1))));
        tasks
    };
    says(&failure(|| block_on_virtual(later())), &["later"]);
    block_on_virtual(async { assert!(later().await.drain(secs(2)).await.is_empty()) });
}

#[test]
fn one_set_can_be_looked_at_within_a_test() {
    Runtime::paused().allow_leaks().block_on(async {
        let (other, tasks) = (stuck(), TaskSet::current().unwrap());
        tasks.spawn("quick", async {}).await.unwrap();
        assert_no_leaks(&tasks).await;
        assert_eq!(other.len(), 1, "another set's task is not its business");
    });
}

#[test]
fn a_leak_within_a_test_says_where_it_was_looked_for() {
    let message = failure(|| {
        Runtime::paused().allow_leaks().block_on(async {
            let tasks = stuck();
            assert_no_leaks(&tasks).await;
        });
    });
    says(&message, &["refresh cache", "tests/leaks.rs:13", "looked for at", "tests/leaks.rs"]);
}

#[test]
fn tasks_of_no_set_are_counted() {
    #[expect(clippy::disallowed_methods, reason = "what a user's dependency may do")]
    let leak = || tokio::spawn(pending::<()>());
    let message = failure(|| block_on_virtual(async { drop((leak(), stuck())) }));
    says(&message, &["refresh cache", "1 of no TaskSet"]);
}

#[test]
fn what_a_failing_test_leaves_behind_does_not_hide_its_failure() {
    let message = failure(|| {
        block_on_virtual(async {
            stuck();
            panic!("the real one");
        })
    });
    assert_eq!(message, "the real one");
}

#[test]
fn a_runtime_that_is_used_again_still_has_its_tasks() {
    let runtime = Runtime::paused();
    let tasks = runtime.block_on(async { stuck() });
    runtime.block_on(async { assert_eq!(tasks.len(), 1) });
    tasks.abort();
    runtime.end();
}

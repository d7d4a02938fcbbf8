//! Scripts and gates.

use tokio::time::{Instant, timeout};

use super::{failure, says};
use crate::{
    TaskSet, millis, secs,
    tasks::TaskError,
    testing::{Gate, Script, block_on_virtual},
};

type Answer = Result<u32, &'static str>;

fn find() -> Script<u64, Answer> {
    Script::named("find")
}

#[test]
fn steps_are_used_in_order_and_take_their_virtual_time() {
    block_on_virtual(async {
        let find = find().ok(1).err("busy").delay(millis(50)).ok(2).answer(|id| Ok(*id as u32 * 10));
        let began = Instant::now();
        assert_eq!(find.call(1).await, Ok(1));
        assert_eq!(find.call(2).await, Err("busy"));
        assert_eq!(began.elapsed(), millis(0));
        assert_eq!(find.call(3).await, Ok(2));
        assert_eq!(began.elapsed(), millis(50));
        assert_eq!(find.call(4).await, Ok(40));
        find.assert_used_up();
        find.assert_calls([1, 2, 3, 4]);
    });
}

#[test]
fn the_last_step_repeats_with_its_delay_if_it_is_told_to() {
    block_on_virtual(async {
        let find = find().ok(1).delay(secs(1)).err("down").repeat_last();
        let began = Instant::now();
        let mut answers = Vec::new();
        for id in 0..4 {
            answers.push(find.call(id).await);
        }
        assert_eq!(answers, [Ok(1), Err("down"), Err("down"), Err("down")]);
        assert_eq!(began.elapsed(), secs(3));
    });
}

#[test]
fn otherwise_answers_every_further_call_without_cloning() {
    struct NotClone;
    block_on_virtual(async {
        let script = Script::<u64, Result<u64, NotClone>>::new()
            .ok(0)
            .otherwise(|id| if *id > 5 { Err(NotClone) } else { Ok(*id) });
        assert!(matches!(script.call(1).await, Ok(0)));
        assert!(matches!(script.call(2).await, Ok(2)));
        assert!(script.call(6).await.is_err());
    });
}

#[test]
fn a_call_beyond_the_last_step_names_the_script_and_the_call() {
    block_on_virtual(async {
        let find = find().ok(1);
        assert_eq!(find.call(7).await, Ok(1));
        says(
            &failure(|| find.call(8)),
            &["script `find` has no step left for call 2", "1. 7: awaited", "2. 8: beyond the last step"],
        );
        find.assert_calls([7, 8]);
        let nameless = Script::<(), Answer>::new();
        says(&failure(|| nameless.call(())), &["made at", "scripts.rs"]);
        let dangling = Script::<(), Answer>::named("late").delay(secs(1));
        says(&failure(|| dangling.call(())), &["no step left for call 1", "belongs to no step"]);
    });
}

#[test]
fn nothing_follows_a_step_that_repeats() {
    says(&failure(|| find().ok(1).repeat_last().ok(2)), &["script `find`", "nothing can follow"]);
    says(&failure(|| find().repeat_last()), &["script `find`", "behind a step"]);
    says(&failure(|| find().ok(1).delay(secs(1)).repeat_last()), &["behind a step"]);
}

#[test]
fn a_call_is_pending_until_its_gate_lets_it_pass() {
    block_on_virtual(async {
        let (gate, tasks) = (Gate::new(), TaskSet::current().unwrap());
        let find = find().pending_until(&gate).ok(1).pending_until(&gate).ok(2).pending_until(&gate).ok(3);
        let calls: Vec<_> = (1..=3).map(|id| tasks.spawn("call", find.call(id))).collect();
        gate.until_arrived(3).await;
        find.assert_not_awaited();
        gate.release(1);
        find.until_awaited(1).await;
        tokio::task::yield_now().await;
        find.assert_awaited_once_with(1);
        gate.open();
        find.until_awaited(3).await;
        gate.pass().await;
        for (call, answer) in calls.into_iter().zip([1, 2, 3]) {
            assert_eq!(call.await, Ok(Ok(answer)));
        }
    });
}

#[test]
fn waiting_for_a_call_that_never_comes_says_what_was_waited_for() {
    let message = failure(|| block_on_virtual(Gate::new().until_arrived(1)));
    says(&message, &["0 instead of 1 have come to the gate made at", "scripts.rs", "waited for at"]);
    let message = failure(|| block_on_virtual(find().until_called(2)));
    says(&message, &["script `find` was called 0 instead of 2 times"]);
}

#[test]
fn calls_that_are_dropped_count_as_cancelled_also_if_they_were_never_polled() {
    block_on_virtual(async {
        let find = find().hang().ok(1).delay(secs(5)).ok(2);
        timeout(secs(1), find.call(1)).await.unwrap_err();
        drop(find.call(2));
        find.call(3).await.unwrap();
        assert_eq!((find.called(), find.awaited(), find.cancelled()), (3, 1, 2));
        find.assert_cancelled_times(2);
        find.assert_awaited_once_with(3);
        find.until_cancelled(2).await;
        says(
            &failure(|| find.assert_not_awaited()),
            &["was awaited 1 instead of 0 times", "1. 1: cancelled, at +0ns", "3. 3: awaited, at +1s, from"],
        );
    });
}

#[test]
fn a_step_may_panic_and_is_neither_awaited_nor_cancelled() {
    block_on_virtual(async {
        let (find, tasks) = (find().panic("disk on fire"), TaskSet::current().unwrap());
        let ended = tasks.spawn("call", find.call(1)).await;
        assert_eq!(ended, Err(TaskError::Panicked("disk on fire".into())));
        assert_eq!((find.called(), find.awaited(), find.cancelled()), (1, 0, 0));
        says(&failure(|| find.assert_awaited_times(1)), &["1. 1: panicked"]);
    });
}

#[test]
fn every_assertion_fails_when_it_should_and_shows_the_history() {
    let fresh = find();
    fresh.assert_not_called();
    says(
        &failure(|| fresh.assert_called_times(1)),
        &["was called 0 instead of 1 times", "it was never called"],
    );
    says(&failure(|| fresh.assert_called_with(1)), &["was not called last with 1", "it was never called"]);
    block_on_virtual(async {
        let find = find().ok(1).repeat_last();
        find.call(7).await.unwrap();
        find.assert_called_once_with(7);
        find.assert_awaited_once_with(7);
        find.call(8).await.unwrap();
        find.assert_called_times(2);
        find.assert_awaited_times(2);
        find.assert_called_with(8);
        find.assert_any_call(7);
        find.assert_calls([7, 8]);
        let history = "1. 7: awaited, at +0ns, from";
        for (message, expected) in [
            (failure(|| find.assert_not_called()), "should not have been called"),
            (failure(|| find.assert_called_with(7)), "was not called last with 7"),
            (failure(|| find.assert_any_call(9)), "was never called with 9"),
            (failure(|| find.assert_called_once_with(8)), "was not called exactly once, with 8"),
            (failure(|| find.assert_awaited_once_with(8)), "was not awaited exactly once, with 8"),
            (failure(|| find.assert_awaited_once_with(7)), "was not awaited exactly once, with 7"),
            (failure(|| find.assert_calls([8, 7])), "was not called exactly with [8, 7]"),
            (failure(|| find.assert_calls([7])), "was not called exactly with [7]"),
            (failure(|| find.assert_cancelled_times(1)), "was cancelled 0 instead of 1 times"),
        ] {
            says(&message, &["script `find` ", expected, history, "scripts.rs"]);
        }
        let unused = Script::<u64, Answer>::named("unused").ok(1);
        says(&failure(|| unused.assert_used_up()), &["script `unused` has 1 steps"]);
    });
}

#[test]
fn a_long_history_shows_its_end() {
    block_on_virtual(async {
        let find = find().ok(1).repeat_last();
        for id in 0..100 {
            find.call(id).await.unwrap();
        }
        let message = failure(|| find.assert_not_called());
        says(&message, &["70 before these", "  100. 99: awaited"]);
        assert!(!message.contains("\n    70. "), "{message}");
    });
}

#[test]
fn a_script_is_a_closure() {
    async fn twice<F: Future<Output = Answer>>(ask: impl Fn(u64) -> F) -> Answer {
        Ok(ask(1).await? + ask(2).await?)
    }
    block_on_virtual(async {
        let find = find().ok(1).ok(2).ok(3).err("busy");
        assert_eq!(twice(find.clone().into_fn()).await, Ok(3));
        assert_eq!(twice(|id| find.call(id)).await, Err("busy"));
        find.assert_calls([1, 2, 1, 2]);
    });
}

#[test]
fn a_hand_written_trait_needs_one_line_a_method() {
    trait Users {
        fn find(&self, id: u64) -> impl Future<Output = Answer> + Send;
        fn rename(&self, id: u64, name: &str) -> impl Future<Output = Answer> + Send;
    }
    struct MockUsers {
        find: Script<u64, Answer>,
        rename: Script<(u64, String), Answer>,
    }
    impl Users for MockUsers {
        async fn find(&self, id: u64) -> Answer {
            self.find.call(id).await
        }
        async fn rename(&self, id: u64, name: &str) -> Answer {
            self.rename.call((id, name.to_owned())).await
        }
    }
    block_on_virtual(async {
        let users = MockUsers { find: find().ok(1), rename: Script::new().err("taken") };
        assert_eq!(users.find(7).await, Ok(1));
        assert_eq!(users.rename(7, "ann").await, Err("taken"));
        users.find.assert_awaited_once_with(7);
        users.rename.assert_awaited_once_with((7, "ann".into()));
    });
}

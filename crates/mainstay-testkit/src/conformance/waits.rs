//! Waiting for work and for ends: woken when there is something, left alone when there is not.

use std::time::Duration;

use mainstay_core::{
    Error,
    job::{NewJob, Retry, When},
    op::{Claim, Op},
    store::{Interest, Wake},
};
use tokio::task::JoinSet;

use crate::world::{LEASE_MS, World, claim_of, fail, name};

/// Longer than any case lasts on its clock, but for those about the end of a wait.
pub(super) const LONG: Duration = Duration::from_secs(1_000_000);

/// Waiters that have been polled at least once.
pub(super) struct Waiters(JoinSet<Result<Wake, Error>>);

impl Waiters {
    pub(super) async fn on(w: &World, count: usize, interests: &[Interest], at_most: Duration) -> Waiters {
        let mut waiters = JoinSet::new();
        for _ in 0..count {
            let (store, interests) = (w.store().clone(), interests.to_vec());
            waiters.spawn(async move { store.wait(&interests, at_most).await });
        }
        settle_down(w).await;
        Waiters(waiters)
    }

    /// The next to end; the test is stuck if none does.
    pub(super) async fn next(&mut self) -> Wake {
        let joined = self.0.join_next().await.expect("somebody waits");
        joined.expect("a wait does not panic").expect("a wait of an open store")
    }

    /// Those that have ended by now.
    pub(super) async fn ended(&mut self, w: &World) -> Vec<Wake> {
        settle_down(w).await;
        let mut ended = vec![];
        while let Some(joined) = self.0.try_join_next() {
            ended.push(joined.expect("a wait does not panic").expect("a wait of an open store"));
        }
        ended
    }
}

/// Gives every task its turn, with round trips to the store between.
async fn settle_down(w: &World) {
    for _ in 0..8 {
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        w.store().ping().await.expect("ping");
    }
}

fn queue(queue: &str) -> [Interest; 1] {
    [Interest::Queue(name(queue))]
}

pub(super) async fn a_wait_ends_at_once_when_there_is_work(w: &mut World) {
    w.enqueue(w.job("q")).await;
    let wake = w.store().wait(&queue("q"), LONG).await.expect("wait");
    assert!(wake.is_woken());
}

pub(super) async fn an_enqueue_wakes_a_waiter(w: &mut World) {
    let mut waiters = Waiters::on(w, 1, &queue("q"), LONG).await;
    w.enqueue(w.job("other")).await;
    assert!(waiters.ended(w).await.is_empty(), "work of another queue");
    let id = w.enqueue(w.job("q")).await;
    assert!(waiters.next().await.is_woken());
    assert_eq!(w.claim("q").await.id, id);
}

pub(super) async fn a_waiter_on_several_queues_is_woken_by_each(w: &mut World) {
    let both = [Interest::Queue(name("a")), Interest::Queue(name("b"))];
    for queue in ["a", "b"] {
        let mut waiters = Waiters::on(w, 1, &both, LONG).await;
        w.enqueue(w.job(queue)).await;
        assert!(waiters.next().await.is_woken());
        w.claim(queue).await;
    }
}

pub(super) async fn a_job_that_becomes_due_wakes_a_waiter(w: &mut World) {
    w.enqueue(NewJob { run_at: Some(When::In(5_000)), ..w.job("q") }).await;
    let mut waiters = Waiters::on(w, 1, &queue("q"), LONG).await;
    w.advance(4_999);
    assert!(waiters.ended(w).await.is_empty());
    w.advance(1);
    assert!(waiters.next().await.is_woken());
    w.claim("q").await;
}

pub(super) async fn a_nearer_due_time_moves_the_alarm(w: &mut World) {
    w.enqueue(NewJob { run_at: Some(When::In(60_000)), ..w.job("q") }).await;
    let mut waiters = Waiters::on(w, 1, &queue("q"), LONG).await;
    w.enqueue(NewJob { run_at: Some(When::In(5_000)), ..w.job("q") }).await;
    w.advance(5_000);
    assert!(waiters.next().await.is_woken());
    w.claim("q").await;
}

pub(super) async fn the_end_of_a_back_off_wakes_a_waiter(w: &mut World) {
    w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    let mut waiters = Waiters::on(w, 1, &queue("q"), LONG).await;
    w.settle(&grant, fail(Retry::After(5_000))).await.expect("fail");
    assert!(waiters.ended(w).await.is_empty());
    w.advance(5_000);
    assert!(waiters.next().await.is_woken());
    w.claim("q").await;
}

pub(super) async fn a_release_wakes_a_waiter(w: &mut World) {
    w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    let mut waiters = Waiters::on(w, 1, &queue("q"), LONG).await;
    assert!(waiters.ended(w).await.is_empty());
    w.release(&grant, 0).await;
    assert!(waiters.next().await.is_woken());
    w.claim("q").await;
}

pub(super) async fn a_crash_wakes_a_waiter(w: &mut World) {
    w.enqueue(w.job("q")).await;
    w.claim("q").await;
    let mut waiters = Waiters::on(w, 1, &queue("q"), LONG).await;
    w.lose(LEASE_MS).await;
    assert!(waiters.next().await.is_woken());
    assert_eq!(w.claim("q").await.crashes, 1);
}

pub(super) async fn a_retry_by_hand_wakes_a_waiter(w: &mut World) {
    let id = w.dead("q").await;
    let mut waiters = Waiters::on(w, 1, &queue("q"), LONG).await;
    w.op(Op::Retry { id }).await;
    assert!(waiters.next().await.is_woken());
    w.claim("q").await;
}

pub(super) async fn a_resume_wakes_a_waiter(w: &mut World) {
    w.set_paused("q", true).await;
    w.enqueue(w.job("q")).await;
    let mut waiters = Waiters::on(w, 1, &queue("q"), LONG).await;
    w.enqueue(w.job("q")).await;
    assert!(waiters.ended(w).await.is_empty(), "a paused queue hands out none");
    w.set_paused("q", false).await;
    assert!(waiters.next().await.is_woken());
    w.claim("q").await;
}

pub(super) async fn the_end_of_a_job_wakes_who_waits_for_it(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    let other = w.enqueue(w.job("q")).await;
    let mut waiters = Waiters::on(w, 3, &[Interest::Finished(id)], LONG).await;
    let grant = w.claim("q").await;
    w.op(Op::Cancel { id: other }).await;
    assert!(waiters.ended(w).await.is_empty());
    w.complete(&grant).await;
    for _ in 0..3 {
        assert!(waiters.next().await.is_woken(), "all of them: a look takes nothing away");
    }
    let late = w.store().wait(&[Interest::Finished(id)], LONG).await.expect("wait");
    assert!(late.is_woken(), "it has finished already");
}

pub(super) async fn what_is_gone_is_not_waited_for(w: &mut World) {
    let deleted = w.enqueue(w.job("q")).await;
    let mut waiters = Waiters::on(w, 2, &[Interest::Finished(deleted)], LONG).await;
    w.op(Op::Delete { id: deleted }).await;
    assert!(waiters.next().await.is_woken());
    assert!(waiters.next().await.is_woken());
    for interest in [Interest::Finished(deleted), Interest::CancelRequested(w.id("q"))] {
        assert!(w.store().wait(&[interest], LONG).await.expect("wait").is_woken());
    }
}

pub(super) async fn a_cancel_request_wakes_who_waits_for_the_job(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    w.claim("q").await;
    let mut waiters = Waiters::on(w, 1, &[Interest::CancelRequested(id)], LONG).await;
    let mut end = Waiters::on(w, 1, &[Interest::Finished(id)], LONG).await;
    w.op(Op::Cancel { id }).await;
    assert!(waiters.next().await.is_woken());
    assert!(end.ended(w).await.is_empty(), "it runs on until its worker hears of it");
    let late = w.store().wait(&[Interest::CancelRequested(id)], LONG).await.expect("wait");
    assert!(late.is_woken(), "it was asked for already");
}

pub(super) async fn the_end_of_a_job_ends_the_wait_for_its_cancellation(w: &mut World) {
    let id = w.enqueue(w.job("q")).await;
    let grant = w.claim("q").await;
    let mut waiters = Waiters::on(w, 1, &[Interest::CancelRequested(id)], LONG).await;
    assert!(waiters.ended(w).await.is_empty());
    w.complete(&grant).await;
    assert!(waiters.next().await.is_woken());
}

pub(super) async fn no_more_waiters_are_woken_than_there_is_work(w: &mut World) {
    let mut waiters = Waiters::on(w, 5, &queue("q"), LONG).await;
    let jobs = [w.job("q"), w.job("q")];
    let commit = w.ops(jobs.into_iter().map(|job| Op::Enqueue(Box::new(job))));
    w.commit(commit).await.expect("enqueue");
    let mut woken = vec![waiters.next().await];
    woken.extend(waiters.ended(w).await);
    assert!(woken.len() <= 2, "{} woken for two jobs", woken.len());
    // Each takes its job and is done with its wake-up; who was not woken yet comes for what is left.
    let mut taken = 0;
    while taken < 2 {
        let wake = match woken.pop() {
            Some(wake) => wake,
            None => waiters.next().await,
        };
        taken += usize::from(w.try_claim("q").await.is_some());
        drop(wake);
    }
    assert!(waiters.ended(w).await.is_empty(), "nobody is woken for nothing");
}

pub(super) async fn a_wake_up_that_is_not_used_is_passed_on(w: &mut World) {
    let mut waiters = Waiters::on(w, 2, &queue("q"), LONG).await;
    w.enqueue(w.job("q")).await;
    let wake = waiters.next().await;
    assert!(waiters.ended(w).await.is_empty(), "one job, one waiter");
    drop(wake);
    assert!(waiters.next().await.is_woken(), "the job is still there");
    w.claim("q").await;
}

pub(super) async fn a_waiter_that_goes_away_takes_no_wake_up_along(w: &mut World) {
    let mut gone = Waiters::on(w, 2, &queue("q"), LONG).await;
    let mut stays = Waiters::on(w, 1, &queue("q"), LONG).await;
    gone.0.shutdown().await;
    w.enqueue(w.job("q")).await;
    assert!(stays.next().await.is_woken());
}

pub(super) async fn a_woken_waiter_that_goes_away_passes_it_on(w: &mut World) {
    let mut gone = Waiters::on(w, 1, &queue("q"), LONG).await;
    let mut stays = Waiters::on(w, 1, &queue("q"), LONG).await;
    w.enqueue(w.job("q")).await;
    // Whether the wake-up has reached the first waiter or is still on its way: it must not be lost with it.
    gone.0.shutdown().await;
    assert!(stays.next().await.is_woken());
}

pub(super) async fn every_waiter_gets_its_turn_as_work_comes(w: &mut World) {
    let mut waiters = Waiters::on(w, 4, &queue("q"), LONG).await;
    for _ in 0..4 {
        w.enqueue(w.job("q")).await;
        let wake = waiters.next().await;
        assert!(wake.is_woken());
        w.claim("q").await;
    }
}

pub(super) async fn a_wait_ends_when_its_time_is_up(w: &mut World) {
    let interests = queue("q");
    let mut waiters = Waiters::on(w, 1, &interests, Duration::from_millis(500)).await;
    w.advance(500);
    assert!(!waiters.next().await.is_woken());
    let wake = w.store().wait(&interests, Duration::ZERO).await.expect("wait");
    assert!(!wake.is_woken(), "no time at all");
}

pub(super) async fn waiting_takes_nothing(w: &mut World) {
    let mut waiters = Waiters::on(w, 1, &queue("q"), LONG).await;
    let id = w.enqueue(w.job("q")).await;
    let wake = waiters.next().await;
    let claim = Claim { max: 2, ..claim_of(&["q"], 2) };
    assert_eq!(crate::world::ids(&w.claims(claim).await), [id], "anybody may be quicker");
    drop(wake);
}

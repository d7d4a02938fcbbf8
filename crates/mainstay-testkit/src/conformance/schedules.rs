//! Schedules: a tick is fired once, whoever sees it.

use std::sync::Arc;

use mainstay_core::{
    JobId, Timestamp,
    job::{JobBody, NewJob, Unique},
    op::{Op, Reason, Reply},
    queue::QueueConfig,
    schedule::{CatchUp, Fire, Schedule, ScheduleOp, ScheduleOrder, ScheduleRecord, ScheduleReply},
    store::{Interest, JobFilter, Key, Page, Query, Record},
};

use super::waits::{LONG, Waiters};
use crate::world::{World, name};

const MINUTE: u64 = 60_000;

fn schedule(w: &World, text: &str) -> Schedule {
    Schedule {
        name: name(text),
        cron: "* * * * *".into(),
        timezone: "UTC".into(),
        catch_up: CatchUp::Skip,
        job: w.job("q"),
    }
}

async fn put(w: &World, schedule: Schedule, next: Timestamp) -> Option<Timestamp> {
    match w.op(Op::Schedule(ScheduleOp::Put { schedule: Arc::new(schedule), next })).await {
        Reply::Schedule(ScheduleReply::Put { next, .. }) => next,
        other => panic!("a schedule that is put was answered with {other:?}"),
    }
}

async fn try_get(w: &World, text: &str) -> Option<ScheduleRecord> {
    match w.store().get(&Key::Schedule(name(text))).await.expect("get") {
        Some(Record::Schedule(record)) => Some(record),
        None => None,
        other => panic!("a schedule was asked for, {other:?} came"),
    }
}

async fn get(w: &World, text: &str) -> ScheduleRecord {
    try_get(w, text).await.unwrap_or_else(|| panic!("there is a schedule `{text}`"))
}

async fn names(w: &World, order: ScheduleOrder, limit: u32) -> Vec<String> {
    let records = w.list_by(&Query::Schedules(order), limit).await;
    let of = |record| match record {
        Record::Schedule(record) => record.name().to_string(),
        other => panic!("a list of schedules held {other:?}"),
    };
    records.into_iter().map(of).collect()
}

/// The tick `at` with the one after it, a minute later.
fn fire(w: &World, text: &str, at: Timestamp) -> Fire {
    Fire {
        name: name(text),
        revision: None,
        expected: at,
        tick: Some(at),
        job: Some(Box::new(w.job("q"))),
        next: Some(at.plus_ms(MINUTE)),
        missed: 0,
    }
}

fn op(fire: Fire) -> Op {
    Op::Schedule(ScheduleOp::Fire(Box::new(fire)))
}

async fn fired(w: &World, fire: Fire) -> (Option<JobId>, bool) {
    match w.op(op(fire)).await {
        Reply::Schedule(ScheduleReply::Fired { job, deduplicated }) => (job, deduplicated),
        other => panic!("a tick was answered with {other:?}"),
    }
}

async fn conflicts(w: &World, fire: Fire) {
    let reason = w.refused(op(fire)).await;
    assert!(matches!(reason, Reason::StateConflict(_)), "{reason:?}");
}

pub(super) async fn a_schedule_is_kept_whole_and_listed_by_name(w: &mut World) {
    let next = w.now().plus_ms(5);
    let mut wanted = vec![];
    for text in ["b", "a", "c"] {
        let mut schedule = schedule(w, text);
        schedule.catch_up = CatchUp::All;
        schedule.job.priority = 2;
        schedule.job.body = Arc::new(JobBody { tags: vec!["é".into()], ..JobBody::new("k", "[1]") });
        wanted.push(schedule.clone());
        assert_eq!(put(w, schedule, next).await, Some(next));
    }
    let record = get(w, "b").await;
    assert_eq!(*record.schedule, wanted[0]);
    assert_eq!((record.state.next, record.state.last, record.state.paused), (Some(next), None, false));
    assert_eq!((record.created_at, record.updated_at), (w.now(), w.now()));
    assert_eq!(try_get(w, "z").await, None);
    assert_eq!(names(w, ScheduleOrder::Name, 2).await, ["a", "b", "c"]);
}

pub(super) async fn schedules_are_listed_by_their_next_tick(w: &mut World) {
    for (text, ms) in [("a", 30), ("b", 10), ("c", 20), ("d", 20)] {
        put(w, schedule(w, text), w.now().plus_ms(ms)).await;
    }
    w.op(Op::Schedule(ScheduleOp::Pause { name: name("c") })).await;
    assert_eq!(names(w, ScheduleOrder::Next, 1).await, ["b", "d", "a"]);
    w.advance(10);
    let at = w.now();
    fired(w, fire(w, "b", at)).await;
    assert_eq!(names(w, ScheduleOrder::Next, 2).await, ["d", "a", "b"]);
    let query = Query::Schedules(ScheduleOrder::Next);
    let page = Page { limit: 1, cursor: Some("0000000000000000.x".into()) };
    w.store().list(&query, &page).await.expect_err("that is no cursor of this query");
}

pub(super) async fn a_tick_is_fired_once(w: &mut World) {
    let at = w.now();
    put(w, schedule(w, "s"), at).await;
    let (id, deduplicated) = fired(w, fire(w, "s", at)).await;
    assert!(!deduplicated);
    // Another node saw the same tick; and the one that fired it asks again, because the answer was lost.
    conflicts(w, fire(w, "s", at)).await;
    conflicts(w, fire(w, "s", at)).await;
    let state = get(w, "s").await.state;
    assert_eq!((state.next, state.last), (Some(at.plus_ms(MINUTE)), Some(at)));
    assert_eq!((state.last_job, state.fired, state.missed), (id, 1, 0));
    assert_eq!(w.drain("q").await, [id.expect("a job")]);
    w.advance(MINUTE);
    fired(w, fire(w, "s", at.plus_ms(MINUTE))).await;
    assert_eq!(w.jobs(JobFilter::default()).await.len(), 2);
}

pub(super) async fn a_tick_is_not_fired_before_its_time(w: &mut World) {
    let at = w.now().plus_ms(1_000);
    put(w, schedule(w, "s"), at).await;
    conflicts(w, fire(w, "s", at)).await;
    w.advance(999);
    conflicts(w, fire(w, "s", at)).await;
    // Nor is a later one with its name.
    let later = Fire { tick: Some(at.plus_ms(1)), ..fire(w, "s", at) };
    w.advance(1);
    conflicts(w, later).await;
    fired(w, fire(w, "s", at)).await;
    // The wall clock is set back: the tick was, and the next has not come.
    w.clock().step_wall(-3_600_000);
    conflicts(w, fire(w, "s", at)).await;
    conflicts(w, fire(w, "s", at.plus_ms(MINUTE))).await;
    assert_eq!(w.drain("q").await.len(), 0, "its job is due at the time of the clock before");
    assert_eq!(get(w, "s").await.state.fired, 1);
    let backwards = Fire { next: Some(at.plus_ms(MINUTE)), ..fire(w, "s", at.plus_ms(MINUTE)) };
    w.clock().step_wall(3_600_000 + MINUTE as i64);
    assert!(matches!(w.refused(op(backwards)).await, Reason::Invalid { field: "next", .. }));
}

pub(super) async fn a_tick_that_could_not_be_enqueued_stays(w: &mut World) {
    let config = QueueConfig { max_depth: Some(1), ..QueueConfig::default() };
    w.op(Op::PutQueue { queue: name("q"), config }).await;
    w.enqueue(w.job("q")).await;
    let at = w.now();
    put(w, schedule(w, "s"), at).await;
    let before = get(w, "s").await;
    assert!(matches!(w.refused(op(fire(w, "s", at))).await, Reason::QueueFull { .. }));
    assert_eq!(get(w, "s").await, before);
    w.drain("q").await;
    fired(w, fire(w, "s", at)).await;
}

pub(super) async fn a_schedule_that_is_put_again_keeps_its_tick(w: &mut World) {
    let at = w.now();
    let first = schedule(w, "s");
    put(w, first.clone(), at).await;
    let before = get(w, "s").await;
    w.advance(MINUTE);
    // Word for word, but for the id in the template, which says nothing.
    let again = Schedule { job: NewJob { id: w.id("q"), ..first.job.clone() }, ..first.clone() };
    assert_eq!(put(w, again, at.plus_ms(2 * MINUTE)).await, Some(at), "a tick that was missed is not lost");
    assert_eq!(get(w, "s").await, before);
    let changed = Schedule { catch_up: CatchUp::One, ..first };
    assert_eq!(put(w, changed, at.plus_ms(2 * MINUTE)).await, Some(at));
    let after = get(w, "s").await;
    assert_eq!(after.schedule.catch_up, CatchUp::One);
    assert!(after.state.revision > before.state.revision);
    assert_eq!((after.created_at, after.updated_at), (before.created_at, w.now()));
}

pub(super) async fn a_schedule_with_other_times_begins_anew(w: &mut World) {
    let at = w.now();
    put(w, schedule(w, "s"), at).await;
    let later = at.plus_ms(7);
    let cron = Schedule { cron: "0 * * * *".into(), ..schedule(w, "s") };
    assert_eq!(put(w, cron.clone(), later).await, Some(later));
    let zone = Schedule { timezone: "Europe/Berlin".into(), ..cron };
    assert_eq!(put(w, zone, later.plus_ms(1)).await, Some(later.plus_ms(1)));
    conflicts(w, fire(w, "s", at)).await;
}

pub(super) async fn a_paused_schedule_does_not_fire_and_a_resumed_one_does(w: &mut World) {
    let at = w.now();
    put(w, schedule(w, "s"), at).await;
    let pause = Op::Schedule(ScheduleOp::Pause { name: name("s") });
    assert_eq!(w.op(pause.clone()).await, Reply::Done);
    assert_eq!(w.op(pause).await, Reply::Done);
    conflicts(w, fire(w, "s", at)).await;
    let cron = Schedule { cron: "0 * * * *".into(), ..schedule(w, "s") };
    assert_eq!(put(w, cron, at).await, None, "it stays paused whatever is put");
    let paused = get(w, "s").await.state;
    assert_eq!((paused.paused, paused.next), (true, None));
    let next = at.plus_ms(5);
    let resume = |revision| Op::Schedule(ScheduleOp::Resume { name: name("s"), revision, next });
    assert!(matches!(w.refused(resume(paused.revision - 1)).await, Reason::StateConflict(_)));
    assert_eq!(w.op(resume(paused.revision)).await, Reply::Done);
    assert_eq!(get(w, "s").await.state.next, Some(next));
    // Twice is once.
    assert_eq!(w.op(resume(0)).await, Reply::Done);
    w.advance(5);
    fired(w, fire(w, "s", next)).await;
    for op in
        [ScheduleOp::Pause { name: name("z") }, ScheduleOp::Resume { name: name("z"), revision: 0, next }]
    {
        assert!(matches!(w.refused(Op::Schedule(op)).await, Reason::NotFound(_)));
    }
}

pub(super) async fn an_answer_from_before_a_change_fires_nothing(w: &mut World) {
    let at = w.now();
    put(w, schedule(w, "s"), at).await;
    let revision = Some(get(w, "s").await.state.revision);
    let other_job = Schedule { catch_up: CatchUp::All, ..schedule(w, "s") };
    put(w, other_job, at).await;
    conflicts(w, Fire { revision, ..fire(w, "s", at) }).await;
    let revision = Some(get(w, "s").await.state.revision);
    fired(w, Fire { revision, ..fire(w, "s", at) }).await;
    assert_eq!(Some(get(w, "s").await.state.revision), revision, "firing is no change of what is wanted");
}

pub(super) async fn ticks_that_are_passed_over_are_counted(w: &mut World) {
    let at = w.now();
    put(w, schedule(w, "s"), at).await;
    w.advance(3 * MINUTE);
    // The last of three is fired.
    let third = at.plus_ms(2 * MINUTE);
    let next = Some(third.plus_ms(MINUTE));
    fired(w, Fire { tick: Some(third), next, missed: 2, ..fire(w, "s", at) }).await;
    // None of them is.
    let none = Fire { tick: None, job: None, missed: 1, ..fire(w, "s", third.plus_ms(MINUTE)) };
    assert_eq!(fired(w, none).await, (None, false));
    let state = get(w, "s").await.state;
    assert_eq!((state.fired, state.missed, state.last), (1, 3, Some(third)));
    // The last tick of all.
    w.advance(MINUTE);
    fired(w, Fire { next: None, ..fire(w, "s", third.plus_ms(2 * MINUTE)) }).await;
    assert_eq!(get(w, "s").await.state.next, None);
    assert_eq!(names(w, ScheduleOrder::Next, 10).await.len(), 0);
    assert_eq!(w.drain("q").await.len(), 2);
}

pub(super) async fn ticks_of_one_commit_follow_each_other(w: &mut World) {
    let at = w.now();
    put(w, schedule(w, "s"), at).await;
    w.advance(5 * MINUTE);
    let ticks = |from: u64| (from..from + 3).map(|n| at.plus_ms(n * MINUTE));
    let chain = |from| w.ops(ticks(from).map(|tick| op(fire(w, "s", tick))));
    w.commit(chain(0)).await.expect("three ticks, one after the other");
    let state = get(w, "s").await.state;
    assert_eq!((state.fired, state.next), (3, Some(at.plus_ms(3 * MINUTE))));
    // One of them has not come: none is fired.
    w.commit(chain(4)).await.expect_err("the fourth is the next");
    let before = get(w, "s").await;
    w.commit(chain(3)).await.map(drop).expect("up to now");
    assert_ne!(get(w, "s").await, before);
    w.commit(chain(6)).await.expect_err("the sixth has not come");
    assert_eq!(w.drain("q").await.len(), 6);
}

pub(super) async fn a_schedule_that_is_deleted_is_gone_and_its_jobs_stay(w: &mut World) {
    let at = w.now();
    put(w, schedule(w, "s"), at).await;
    fired(w, fire(w, "s", at)).await;
    let delete = Op::Schedule(ScheduleOp::Delete { name: name("s") });
    assert_eq!(w.op(delete.clone()).await, Reply::Done);
    assert_eq!(try_get(w, "s").await, None);
    assert!(matches!(w.refused(delete).await, Reason::NotFound(_)));
    assert!(matches!(w.refused(op(fire(w, "s", at))).await, Reason::NotFound(_)));
    assert_eq!(w.drain("q").await.len(), 1);
}

pub(super) async fn a_tick_of_a_schedule_that_was_made_anew_is_not_the_old_one(w: &mut World) {
    let at = w.now();
    put(w, schedule(w, "s"), at).await;
    let revision = Some(get(w, "s").await.state.revision);
    w.op(Op::Schedule(ScheduleOp::Delete { name: name("s") })).await;
    put(w, schedule(w, "s"), at).await;
    conflicts(w, Fire { revision, ..fire(w, "s", at) }).await;
    let state = get(w, "s").await.state;
    assert_eq!((state.fired, state.next), (0, Some(at)));
}

pub(super) async fn a_unique_key_keeps_firings_from_piling_up(w: &mut World) {
    let at = w.now();
    put(w, schedule(w, "s"), at).await;
    w.advance(MINUTE);
    let unique = || Some(Unique { key: "s".into(), for_ms: None });
    let fire =
        |at| Fire { job: Some(Box::new(NewJob { unique: unique(), ..w.job("q") })), ..fire(w, "s", at) };
    let (first, _) = fired(w, fire(at)).await;
    assert_eq!(fired(w, fire(at.plus_ms(MINUTE))).await, (first, true));
    assert_eq!(get(w, "s").await.state.fired, 2);
    assert_eq!(w.drain("q").await.len(), 1);
}

pub(super) async fn a_change_of_schedules_wakes_who_waits_for_it(w: &mut World) {
    let at = w.now();
    put(w, schedule(w, "s"), at).await;
    let changes = [
        ScheduleOp::Put { schedule: Arc::new(schedule(w, "t")), next: at },
        ScheduleOp::Fire(Box::new(fire(w, "s", at))),
        ScheduleOp::Delete { name: name("s") },
    ];
    for change in changes {
        let mut waiters = Waiters::on(w, 2, &[Interest::Schedules], LONG).await;
        w.enqueue(w.job("other")).await;
        assert!(waiters.ended(w).await.is_empty(), "a job is none of their business");
        w.op(Op::Schedule(change)).await;
        assert!(waiters.next().await.is_woken() && waiters.next().await.is_woken());
    }
}

pub(super) async fn schedules_are_as_they_were_after_a_restart(w: &mut World) {
    let at = w.now();
    put(w, schedule(w, "a"), at).await;
    put(w, schedule(w, "b"), at.plus_ms(9)).await;
    put(w, schedule(w, "c"), at).await;
    put(w, schedule(w, "gone"), at).await;
    fired(w, fire(w, "a", at)).await;
    w.op(Op::Schedule(ScheduleOp::Pause { name: name("c") })).await;
    w.op(Op::Schedule(ScheduleOp::Delete { name: name("gone") })).await;
    w.reopen().await;
    // What is read now is what was written in one go; what comes is written on top.
    let before = [get(w, "a").await, get(w, "b").await, get(w, "c").await];
    assert_eq!((before[0].state.last, before[0].state.fired), (Some(at), 1));
    assert!(before[2].state.paused);
    assert_eq!(try_get(w, "gone").await, None);
    w.advance(2 * MINUTE);
    fired(w, fire(w, "a", at.plus_ms(MINUTE))).await;
    conflicts(w, fire(w, "a", at)).await;
    let moved = get(w, "a").await;
    w.reopen().await;
    assert_eq!(get(w, "a").await, moved);
    assert_eq!([get(w, "b").await, get(w, "c").await], before[1..]);
    assert_eq!(names(w, ScheduleOrder::Next, 10).await, ["b", "a"]);
}

pub(super) async fn a_refused_commit_moves_no_schedule(w: &mut World) {
    let at = w.now();
    for text in ["fired", "paused", "deleted", "changed"] {
        put(w, schedule(w, text), at).await;
    }
    let all = async |w: &World| (names(w, ScheduleOrder::Next, 10).await, get(w, "changed").await);
    let before = all(w).await;
    let mut changed = schedule(w, "changed");
    changed.cron = "0 0 * * *".into();
    let schedules = |op| Op::Schedule(op);
    let ops = [
        op(fire(w, "fired", at)),
        schedules(ScheduleOp::Pause { name: name("paused") }),
        schedules(ScheduleOp::Delete { name: name("deleted") }),
        schedules(ScheduleOp::Put { schedule: Arc::new(changed), next: at.plus_ms(7) }),
        schedules(ScheduleOp::Put { schedule: Arc::new(schedule(w, "made")), next: at }),
        Op::Delete { id: w.id("q") },
    ];
    w.commit(w.ops(ops)).await.expect_err("the last op finds nothing");
    assert_eq!(all(w).await, before);
    assert_eq!(try_get(w, "made").await, None);
    // Its tick is still to come, and comes.
    assert!(fired(w, fire(w, "fired", at)).await.0.is_some());
}

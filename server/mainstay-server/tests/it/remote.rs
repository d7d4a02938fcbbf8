//! The store of a program that is a server elsewhere: the same seam, over real sockets.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mainstay::config::Loader;
use mainstay::core::event::{DeadEventFilter, EventItem, LogBudget, Position};
use mainstay::core::job::{Backoff, Jitter, JobState};
use mainstay::core::store::{Batch, Interest, JobFilter, Page, Record, Store};
use mainstay::core::{ErrorKind, JobId};
use mainstay::event::EventContext;
use mainstay::{App, Boot, Client, Context, Event, Job, JobContext, JobError, Result, Workers, millis, secs};
use mainstay_testkit::clock::ManualClock;
use mainstay_testkit::{Harness, async_trait, conformance};
use serde::{Deserialize, Serialize};

use crate::changing::Changing;
use crate::server::{Setup, TestServer};

fn open(server: &TestServer) -> Client {
    mainstay::store::open(&format!("http://{}", server.api)).expect("the server answers")
}

/// One server for all cases, on a store in memory whose clock they move, and which is a new one for each.
struct Shared {
    clock: Arc<ManualClock>,
    store: Arc<Changing>,
    server: TestServer,
}

impl Shared {
    fn start() -> Arc<Shared> {
        let clock = ManualClock::new();
        let store = Arc::new(Changing::new(clock.clone()));
        let server = Setup::default().on_store(store.clone(), clock.clone()).start();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Arc::new(Shared { server: runtime.block_on(server), clock, store })
    }
}

/// A case.
struct Remote {
    shared: Arc<Shared>,
    opened: AtomicBool,
}

#[async_trait]
impl Harness for Remote {
    fn clock(&self) -> &Arc<ManualClock> {
        &self.shared.clock
    }

    async fn open(&self) -> Arc<dyn Store> {
        // Opened again, it is the store that was there before: what restarts is the client.
        if !self.opened.swap(true, Ordering::SeqCst) {
            self.shared.store.renew();
        }
        open(&self.shared.server).store().clone()
    }
}

/// What cannot hold over the wire, and why. What the store refuses by name (firing schedules, access tokens, the audit
/// trail) is not here: it says so itself.
const NOT_HERE: &[(&str, &str)] = &[
    ("a_claim_shows_the_whole_job", "the server's request is a span of its own in the trace"),
    ("a_claim_stops_at_max_bytes", "a server has its own bound for the bytes of a claim"),
    ("a_claim_takes_one_job_however_large", "the same"),
    ("a_purge_spares_running_and_dead_jobs", "a server purges all of a queue, whatever the limit"),
    ("a_purge_stops_when_its_jobs_wait_for_too_many", "the same"),
    ("an_id_of_another_queue_is_refused", "refused it is, but which queue that is, a server does not tell"),
    (
        "a_repeated_commit_gets_the_first_answer",
        "a server gives the first answer, and does not say that it is it",
    ),
    ("a_repeat_is_answered_although_the_queue_is_full_by_now", "the same"),
    ("a_repeated_settle_is_answered_from_its_key", "the same"),
    ("a_repeated_claim_returns_the_grants_that_live", "the same"),
    ("a_key_is_kept_for_a_day", "the same"),
    ("a_repeat_in_the_same_batch_is_recognised", "the same"),
    (
        "the_same_key_with_another_body_is_a_mistake",
        "a server compares bodies itself, not what a caller says of them",
    ),
    ("the_key_goes_before_the_id_and_the_unique_key", "the same"),
    ("the_store_reads_the_clock_it_was_given", "the clock of a server is its own"),
    ("finished_jobs_stay_a_day_and_dead_ones_a_month", "a server does its housekeeping itself"),
    ("a_queue_keeps_the_newest_so_many", "the same"),
    ("a_new_retention_holds_for_old_jobs", "the same"),
    ("a_job_may_have_a_retention_of_its_own", "the same"),
    ("jobs_to_be_forgotten_at_one_instant_stay_two", "the same"),
    ("housekeeping_keeps_to_its_budget", "the same"),
    ("a_queue_that_is_too_far_behind_refuses", "a server says `queue-full` of both bounds"),
    ("a_job_after_a_cancelled_one_is_born_cancelled", "a server takes no queue without room"),
    ("an_unknown_job_is_refused_by_its_place", "a server names the place in words of its own"),
    ("all_unknown_jobs_of_a_commit_are_named", "the same"),
    ("an_op_can_only_name_an_earlier_enqueue", "the same"),
    ("a_job_may_not_wait_for_more", "the same"),
    ("keys_and_limits_out_of_bounds_are_refused_by_name", "the same"),
    ("a_store_says_whether_it_is_durable", "the server of this test is in memory"),
    ("a_lease_that_lived_gets_its_full_time_again", "only the client restarts here"),
    ("time_stands_still_for_leases_while_no_server_runs", "the same"),
    (
        "a_lock_is_not_reentrant",
        "whoever waits is there by a connection, and the place in the line is not told",
    ),
    ("other_modes_wait_for_a_semaphore", "the same"),
    ("the_next_token_after_a_break_is_higher", "the same"),
    ("waiters_are_served_in_the_order_they_came", "the same"),
    ("a_release_hands_over_in_the_same_commit", "the same"),
    ("a_reader_behind_a_waiting_writer_waits", "the same"),
    ("those_in_front_who_fit_together_are_granted_together", "the same"),
    ("a_semaphore_hands_on_each_permit", "the same"),
    ("nobody_overtakes_one_who_waits", "the same"),
    ("a_dead_waiter_is_skipped", "the same"),
    ("a_waiter_that_comes_again_in_time_keeps_its_place", "the same"),
    ("the_last_look_leaves_the_line", "the same"),
    ("those_behind_a_waiter_that_leaves_pass", "the same"),
    ("those_behind_a_waiter_that_dies_pass", "the same"),
    ("a_grant_that_nobody_collects_goes_to_the_next", "the same"),
    ("one_who_gives_up_gives_back_what_it_was_handed", "the same"),
    ("a_ticket_whose_grant_has_ended_is_an_ordinary_acquire", "the same"),
    ("the_same_ticket_with_another_body_is_a_mistake", "the same"),
    ("a_ticket_without_a_wait_gets_a_place_too", "the same"),
    ("a_ticket_keeps_its_place_for_ten_seconds", "the same"),
    ("a_poller_that_waits_longer_than_a_minute_keeps_its_place", "the same"),
    ("an_absent_ticket_is_passed_over_and_keeps_its_place", "the same"),
    ("a_ticket_without_a_connection_may_return", "the same"),
    ("places_are_kept_over_a_restart", "the same"),
    ("another_number_of_permits_waits_behind_those_who_wait", "the same"),
    ("the_end_of_an_old_connection_is_not_the_end_of_the_new_one", "the same"),
    ("a_last_look_does_not_end_the_wait_of_another_request", "the same"),
    ("who_asked_something_else_under_the_same_key_withdraws_nothing", "the same"),
    ("a_request_that_waits_is_over_when_its_ticket_is_withdrawn", "it is the server whose requests wait"),
    ("who_comes_anew_under_a_withdrawn_ticket_waits_as_usual", "the same"),
    ("the_delay_after_an_expiry_keeps_others_out", "the same"),
    ("a_grant_that_ran_out_is_not_collected_while_it_keeps_others_out", "the same"),
    ("a_lock_may_live_for_a_millisecond", "a lock of a server is held for a second at least"),
    ("a_renewal_never_shortens", "the same"),
    ("the_time_of_a_handed_over_grant_begins_when_it_is_collected", "the same"),
    ("a_commit_that_has_to_wait_is_not_kept_under_a_key", "a ticket is its own key"),
    ("a_lock_survives_a_restart_with_its_full_time", "only the client restarts here"),
    ("a_delivery_that_lived_gets_its_full_time_again", "the same"),
    ("events_of_one_commit_stand_together", "the data of these events is no JSON"),
    ("a_piece_of_the_log_keeps_its_budget_and_says_where_to_go_on", "the same"),
    ("the_same_event_again_is_not_stored", "the same"),
    ("bytes_keep_the_newest_that_fit", "the same"),
    ("a_topic_that_is_deleted_is_gone_with_its_events", "the same"),
    ("a_fetch_stops_at_max_bytes_but_takes_one", "the same"),
    ("a_publish_under_a_key_is_answered_once", "a server compares bodies itself"),
    (
        "an_id_that_was_made_for_the_call_is_not_looked_up",
        "an id goes along, and makes a repeated call harmless",
    ),
    (
        "a_repeated_fetch_shows_what_still_lives",
        "a server gives the first answer, and does not say that it is it",
    ),
    ("answers_stand_in_the_order_ack_nack_extend", "a lease is extended by a second at least"),
    (
        "a_requeued_dead_letter_is_delivered_again_and_the_cursor_stays",
        "which letter a delivery was is not told",
    ),
    ("a_schedule_is_kept_whole_and_listed_by_name", "a server works the first tick out itself"),
    ("a_schedule_that_is_put_again_keeps_its_tick", "the same"),
    ("a_schedule_with_other_times_begins_anew", "the same"),
    ("a_worker_is_known_after_a_restart_by_what_it_has", "only the client restarts here"),
    ("idempotency_keys_survive_a_restart", "a server gives the first answer, and does not say that it is it"),
];

/// What is not played here, and why.
const NOT_PLAYED: &[(&str, &str)] = &[
    (
        "a_bridge_that_was_too_slow_enqueues_nothing",
        "it holds or not, depending on when a server does its housekeeping",
    ),
    (
        "who_waits_is_woken_when_its_place_is_gone",
        "a wait is an acquire here, which takes a new place and waits a minute and a half for it",
    ),
];

/// How a store says that it cannot do something over the wire.
const BY_NAME: [&str; 2] = ["is not supported over a server's HTTP API", "a commit to a server has at most"];

#[test]
fn locks_of_a_server_elsewhere_behave_like_those_of_a_store() {
    behaves_like_a_store(|area| area.starts_with("lock"), 36);
}

#[test]
fn events_of_a_server_elsewhere_behave_like_those_of_a_store() {
    behaves_like_a_store(|area| area.starts_with("event"), 100);
}

#[test]
fn jobs_of_a_server_elsewhere_behave_like_those_of_a_store() {
    behaves_like_a_store(|area| !area.starts_with("lock") && !area.starts_with("event"), 200);
}

/// All cases of these areas hold, but for those that are listed; at least `least` do.
fn behaves_like_a_store(of: fn(&str) -> bool, least: usize) {
    let (mut wrong, mut held) = (Vec::new(), 0);
    let shared = Shared::start();
    for case in conformance::cases().filter(|case| of(case.area)) {
        if NOT_PLAYED.iter().any(|(name, _)| *name == case.name) {
            continue;
        }
        let known = NOT_HERE.iter().any(|(name, _)| *name == case.name);
        let harness = Remote { shared: shared.clone(), opened: AtomicBool::new(false) };
        let ended = catch_unwind(AssertUnwindSafe(|| conformance::run(harness, case.name)));
        let said = |panic: &(dyn std::any::Any + Send)| match panic.downcast_ref::<String>() {
            Some(said) => said.clone(),
            None => panic.downcast_ref::<&str>().copied().unwrap_or_default().to_owned(),
        };
        match ended {
            Ok(()) if known => wrong.push(format!("{} holds: take it off the list", case.name)),
            Ok(()) => held += 1,
            Err(panic) if known || BY_NAME.iter().any(|words| said(&*panic).contains(words)) => {}
            Err(panic) => wrong.push(format!("{}: {}", case.name, said(&*panic))),
        }
    }
    assert!(wrong.is_empty(), "{held} hold, but not\n{}", wrong.join("\n"));
    assert!(held >= least, "only {held} behaviours hold");
}

#[derive(Serialize, Deserialize)]
struct Note(String);
impl Job for Note {
    const KIND: &'static str = "note";
    const QUEUE: &'static str = "notes";
}

async fn shout(job: Note, cx: JobContext<()>) -> Result<String, JobError> {
    match job.0.as_str() {
        "cancelled" => {
            cx.cancelled().await;
            Err(JobError::retry("told to stop"))
        }
        "follow" => {
            let next = cx.store().commit().require_job(cx.id(), cx.lease()).enqueue(Note("next".into()));
            next.await?;
            Ok("followed".to_owned())
        }
        "progress" => {
            cx.progress(&serde_json::json!({ "done": 1 })).await?;
            Ok(job.0)
        }
        "broken" => Err(JobError::permanent("broken")),
        text => Ok(text.to_uppercase()),
    }
}

async fn ended(store: &Client, id: JobId) -> mainstay::core::job::JobRecord {
    store.finished(id, secs(20), std::future::pending()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_run_the_jobs_of_a_server_elsewhere() {
    let server = TestServer::start().await;
    let store = open(&server);
    let workers = Workers::new("notes", ()).on(shout).concurrency(1..=4).lease(secs(3)).from(store.clone());
    let loader = Loader::new("test").variables::<String, String>([]).flag("admin_listen", "off", "test");
    let boot = async |b: &mut Boot<()>| -> Result<()> {
        b.workers(workers);
        Ok(())
    };
    let during = async {
        let add = async |text: &str| store.enqueue(Note(text.into())).await.unwrap().id;
        let job = ended(&store, add("hello").await).await;
        assert_eq!((job.state, job.result.as_deref()), (JobState::Completed, Some("\"HELLO\"")));
        let job = ended(&store, add("broken").await).await;
        assert_eq!((job.state, &*job.failures[0].failure.message), (JobState::Dead, "broken"));
        let job = ended(&store, add("progress").await).await;
        assert_eq!((job.state, job.progress.as_deref()), (JobState::Completed, Some("{\"done\":1}")));
        let job = ended(&store, add("follow").await).await;
        assert_eq!(job.result.as_deref(), Some("\"followed\""));
        let id = add("cancelled").await;
        while store.job(id).await.unwrap().unwrap().state != JobState::Running {
            tokio::time::sleep(millis(5)).await;
        }
        store.cancel(id).await.unwrap();
        assert_eq!(ended(&store, id).await.state, JobState::Cancelled);
        let next = JobFilter { kind: Some("note".into()), ..JobFilter::default() };
        let jobs = store.jobs(next, Page { limit: 10, cursor: None }).await.unwrap();
        assert_eq!(jobs.items.len(), 6, "the follower too: {jobs:?}");
    };
    let life = App::new("test").config(loader.flag("lame_duck_ms", 0, "test")).run_until(boot, during).await;
    assert_eq!(life.exit_code(), 0, "{life:?}");
    assert_eq!(server.stop().await.exit_code(), 0);
}

/// Ends with as much text as asked for, all at once.
async fn large(job: Note, cx: JobContext<Arc<tokio::sync::Barrier>>) -> Result<String, JobError> {
    let (how, bytes) = job.0.split_once(' ').unwrap();
    let text = "é".repeat(bytes.parse::<usize>().unwrap() / 2);
    cx.state().wait().await;
    match how {
        "fail" => Err(JobError::permanent(text)),
        _ => Ok(text),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_end_that_a_server_does_not_take_spoils_no_other() {
    let server = TestServer::start().await;
    let store = open(&server);
    // More than one call takes, one that is too large, and an error that is too long.
    let mut works = vec!["ok 900000"; 24];
    works.extend(["ok 2000000", "fail 40000", "ok 2"]);
    let mut ids = Vec::new();
    for work in &works {
        ids.push(store.enqueue(Note((*work).into())).await.unwrap().id);
    }
    let all = Arc::new(tokio::sync::Barrier::new(works.len()));
    let workers = Workers::new("notes", all).on(large).concurrency(works.len()).from(store.clone());
    let loader = Loader::new("test").variables::<String, String>([]).flag("admin_listen", "off", "test");
    let boot = async |b: &mut Boot<()>| -> Result<()> {
        b.workers(workers);
        Ok(())
    };
    let during = async {
        for (id, work) in ids.into_iter().zip(works) {
            let job = ended(&store, id).await;
            let message = job.failures.first().map(|it| it.failure.message.to_string()).unwrap_or_default();
            assert_eq!((job.attempt, job.crashes), (1, 0), "{work}: {message}");
            match work {
                "ok 2000000" => assert!(message.contains("does not take the result"), "{message}"),
                "fail 40000" => assert_eq!(message.len(), 16 << 10),
                _ => assert_eq!(job.state, JobState::Completed, "{work}: {message}"),
            }
        }
    };
    let life = App::new("test").config(loader.flag("lame_duck_ms", 0, "test")).run_until(boot, during).await;
    assert_eq!(life.exit_code(), 0, "{life:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_drains_is_not_asked_again_at_once() {
    let server = Setup::default().set("lame_duck_ms", 20000).start().await;
    let store = open(&server);
    server.shutdown.begin();
    server.shutdown.draining().await;
    let queue = Interest::Queue("notes".parse().unwrap());
    let began = tokio::time::Instant::now();
    let wake = store.store().wait(&[queue], millis(200)).await.unwrap();
    assert!(!wake.is_woken());
    // The server answers at once.
    assert!(began.elapsed() >= millis(200), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_goes_on_over_the_wire() {
    let server = TestServer::start().await;
    let store = open(&server);
    let trace = mainstay::context::Trace::root();
    let context = Context::current().with_trace(trace);
    let id = context.scope(store.enqueue(Note("traced".into()))).await.unwrap().id;
    let job = store.job(id).await.unwrap().unwrap();
    let told = job.body.traceparent.as_deref().unwrap_or_default().to_owned();
    assert!(told.contains(&trace.trace_id_text()), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_refuses_is_told_as_a_store_tells_it() {
    let server = TestServer::start().await;
    let store = open(&server);
    let queue: mainstay::core::QueueName = "notes".parse().unwrap();
    let config = mainstay::core::queue::QueueConfig { max_depth: Some(1), ..Default::default() };
    store.put_queue(queue.clone(), config).await.unwrap();
    store.enqueue(Note("1".into())).await.unwrap();
    let refused = store.enqueue(Note("2".into())).await.unwrap_err();
    let reason = refused.reason().unwrap_or_else(|| panic!("{refused:?}"));
    let full = mainstay::core::op::Reason::QueueFull { queue: queue.clone(), max_depth: 1, retry_ms: 1_000 };
    assert_eq!(*reason, full, "{refused:?}");
    let unknown = store.cancel(store.new_id(&queue)).await.unwrap_err();
    assert_eq!(unknown.reason(), Some(&mainstay::core::op::Reason::NotFound("job")));
    let cannot = mainstay::core::op::Op::Audit(mainstay::core::access::AuditRecord {
        at: Default::default(),
        actor: "me".into(),
        action: "test".into(),
        subject: "it".into(),
        detail: String::new(),
    });
    let refused = store.apply(cannot).await.unwrap_err();
    assert_eq!(refused.failure().map(|error| error.kind()), Some(ErrorKind::NotSupported));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_gone_is_trouble_that_may_pass() {
    let server = TestServer::start().await;
    let store = open(&server);
    server.stop().await;
    let within = Batch { commits: Vec::new(), within: Some(millis(300)) };
    assert!(store.store().submit(within).await.unwrap().is_empty(), "nothing to do is done");
    let soon = Context::current().with_time_limit(millis(500));
    let error = soon.scope(store.enqueue(Note("lost".into()))).await.unwrap_err();
    assert!(error.is_retryable() && !error.may_have_happened(), "{error:?}");
    let error = store.store().ping().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let error = mainstay::store::open("http://127.0.0.1:1").unwrap_err();
    assert_eq!(error.exit_code(), 69, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_sent_and_never_shown() {
    let server = TestServer::start().await;
    let created = server
        .on_admin("POST", "/admin/tokens")
        .json(serde_json::json!({ "name": "worker", "scopes": ["jobs:work", "jobs:produce"] }))
        .send()
        .await
        .is(201);
    let token = created["token"].as_str().unwrap().to_owned();
    let url = format!("http://{}", server.api);
    let refused = mainstay::store::open(&url).unwrap_err();
    assert!(refused.to_string().contains("token"), "{refused}");
    let wrong = mainstay::store::open_with_token(&url, "sesame".to_owned()).unwrap_err();
    assert!(!format!("{wrong:?} {wrong}").contains("sesame"), "{wrong:?}");
    let store = mainstay::store::open_with_token(&url, token.clone()).unwrap();
    store.enqueue(Note("allowed".into())).await.unwrap();
    assert!(!format!("{store:?}").contains(&token));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_of_a_server_elsewhere_is_handed_on_and_given_back() {
    let server = TestServer::start().await;
    let (one, other) = (open(&server), open(&server));
    let first = one.lock("door").unwrap().ttl(secs(2)).acquire().await.unwrap();
    assert!(other.lock("door").unwrap().try_acquire().await.unwrap().is_none());
    let waiting = mainstay::TaskSet::current().unwrap().spawn("waiter", {
        let lock = other.lock("door").unwrap().owner("second").ttl(secs(2)).wait(secs(60));
        async move { lock.acquire().await }
    });
    // It has its place, and is there.
    let name = "door".parse().unwrap();
    loop {
        let record = one.lock_record(&name).await.unwrap().expect("held");
        if record.waiters.iter().any(|waiter| waiter.present && waiter.owner.as_str() == "second") {
            break;
        }
        tokio::task::yield_now().await;
    }
    let token = first.token();
    first.release().await.unwrap();
    let second = waiting.await.unwrap().unwrap();
    assert!(second.token() > token);
    assert!(one.check_lock(&name, second.token()).await.unwrap());
    let guarded = other.commit().require_lock(&second).enqueue(Note("guarded".into()));
    guarded.await.unwrap();
    drop(second);
    // Dropped, it is given back.
    one.lock("door").unwrap().wait(secs(60)).acquire().await.unwrap().release().await.unwrap();
    let short = one.lock("door").unwrap().ttl(millis(500)).acquire().await.unwrap_err();
    assert!(
        matches!(short.reason(), Some(mainstay::core::op::Reason::Invalid { field: "ttl_ms", .. })),
        "{short:?}"
    );
}

#[derive(Clone, Serialize, Deserialize)]
struct Placed {
    order: u32,
}
impl Event for Placed {
    const TOPIC: &'static str = "orders.placed";
}

fn soon() -> Backoff {
    Backoff { base_ms: 1, max_ms: 1, jitter: Jitter::None, ..Backoff::default() }
}

async fn place(event: Placed, cx: EventContext<tokio::sync::mpsc::Sender<String>>) -> Result<(), JobError> {
    let _ = cx.send(format!("{}.{}", event.order, cx.attempt())).await;
    match (event.order, cx.attempt()) {
        (1, 1) => Err(JobError::retry("again")),
        (2, _) => Err(JobError::permanent("no such street")),
        _ => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_handle_the_events_of_a_server_elsewhere() {
    let server = TestServer::start().await;
    let store = open(&server);
    let (told, mut seen) = tokio::sync::mpsc::channel(16);
    let theirs = store.clone();
    let loader = Loader::new("test").variables::<String, String>([]).flag("admin_listen", "off", "test");
    let boot = async move |b: &mut Boot<()>| -> Result<()> {
        b.subscribe(theirs.group("orders").with(told).on(place).start_at(Position::Earliest).backoff(soon()));
        Ok(())
    };
    let during = async {
        for order in 0..3 {
            store.publish(&Placed { order }).await.unwrap();
        }
        let mut all = Vec::new();
        while all.len() < 4 {
            all.push(tokio::time::timeout(secs(20), seen.recv()).await.expect("in time").unwrap());
        }
        all.sort();
        assert_eq!(all, ["0.1", "1.1", "1.2", "2.1"]);
        let group = "orders".parse().unwrap();
        loop {
            let record = store.group_record(&group).await.unwrap().expect("it is there");
            if (record.lag, record.in_flight, record.dead) == (0, 0, 1) {
                break;
            }
            tokio::task::yield_now().await;
        }
        let filter = "orders.>".parse().unwrap();
        let log = store.read_log(&[filter], Position::Seq(2), LogBudget::default()).await.unwrap();
        assert_eq!(log.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [2, 3]);
        assert!(log.events.iter().all(|event| event.published_at > Default::default()));
    };
    let life = App::new("test").config(loader.flag("lame_duck_ms", 0, "test")).run_until(boot, during).await;
    assert_eq!(life.exit_code(), 0, "{life:?}");
}

async fn odd(event: Placed, cx: EventContext<Arc<tokio::sync::Barrier>>) -> Result<(), JobError> {
    cx.wait().await;
    match event.order {
        0 => Err(JobError::permanent("é".repeat(20_000))),
        1 => Err(JobError::retry_after(Duration::MAX, "x".repeat(40_000))),
        2 => Err(JobError::snooze(Duration::MAX)),
        _ => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_of_a_delivery_that_says_too_much_spoils_no_other() {
    let server = TestServer::start().await;
    let store = open(&server);
    // All end at the same time, so that they are told in one call.
    let all = Arc::new(tokio::sync::Barrier::new(16));
    let theirs = store.clone();
    let loader = Loader::new("test").variables::<String, String>([]).flag("admin_listen", "off", "test");
    let boot = async move |b: &mut Boot<()>| -> Result<()> {
        b.subscribe(theirs.group("orders").with(all).on(odd).start_at(Position::Earliest).max_deliver(2));
        Ok(())
    };
    let group: mainstay::core::GroupName = "orders".parse().unwrap();
    let during = async {
        for order in 0..16 {
            store.publish(&Placed { order }).await.unwrap();
        }
        loop {
            let record = store.group_record(&group).await.unwrap().expect("it is there");
            if record.cursor > 16 && record.in_flight == 0 {
                assert_eq!(
                    (record.dead, record.waiting, record.redelivered),
                    (1, 2, 0),
                    "the others are done"
                );
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    let life = App::new("test").config(loader.flag("lame_duck_ms", 0, "test")).run_until(boot, during).await;
    assert_eq!(life.exit_code(), 0, "{life:?}");
    let filter = DeadEventFilter { group, kind: None, error_type: None };
    let dead = store.dead_events(filter, Page { limit: 10, cursor: None }).await.unwrap().items;
    let [Record::Event(EventItem::Dead(dead))] = &dead[..] else { panic!("one dead letter: {dead:?}") };
    assert_eq!((dead.seq, dead.error.as_ref().map(|error| error.message.len())), (1, Some(16 << 10)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedules_are_made_at_a_server_elsewhere_and_fired_there() {
    let server = TestServer::start().await;
    let store = open(&server);
    let name = "nightly".parse().unwrap();
    let next = store.put_schedule("nightly", "* * * * * *", Note("tick".into())).await.unwrap();
    assert!(next.is_some());
    let record = store.schedule(&name).await.unwrap().expect("it is there");
    assert_eq!((&*record.schedule.cron, record.schedule.job.queue.as_str()), ("* * * * * *", "notes"));
    store.pause_schedule(name.clone()).await.unwrap();
    assert!(store.schedule(&name).await.unwrap().expect("it is there").state.paused);
    store.resume_schedule(&name).await.unwrap();
    let id = store.trigger_schedule(&name).await.unwrap().id;
    assert_eq!(store.job(id).await.unwrap().expect("it is made").body.payload.as_ref(), "\"tick\"");
    store.delete_schedule(name.clone()).await.unwrap();
    let gone = store.delete_schedule(name).await.unwrap_err();
    assert_eq!(gone.reason(), Some(&mainstay::core::op::Reason::NotFound("schedule")));
}

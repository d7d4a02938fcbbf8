//! The store of a program that is a server elsewhere: the same seam, over real sockets.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use mainstay::config::Loader;
use mainstay::core::job::JobState;
use mainstay::core::store::{Batch, JobFilter, Page, Store};
use mainstay::core::{ErrorKind, JobId};
use mainstay::{App, Boot, Client, Context, Job, JobContext, JobError, Result, Workers, millis, secs};
use mainstay_testkit::clock::ManualClock;
use mainstay_testkit::{Harness, async_trait, conformance};
use serde::{Deserialize, Serialize};

use crate::server::{Setup, TestServer};

fn open(server: &TestServer) -> Client {
    mainstay::store::open(&format!("http://{}", server.api)).expect("the server answers")
}

/// A server a case, on a store in memory whose clock the case moves.
struct Remote {
    clock: Arc<ManualClock>,
    server: Mutex<Option<TestServer>>,
}

#[async_trait]
impl Harness for Remote {
    fn clock(&self) -> &Arc<ManualClock> {
        &self.clock
    }

    async fn open(&self) -> Arc<dyn Store> {
        // Opened again, it is the server that was there before: what restarts is the client.
        let before = self.server.lock().unwrap().take();
        let server = match before {
            Some(server) => server,
            None => Setup::default().on_clock(self.clock.clone()).start().await,
        };
        let store = open(&server).store().clone();
        *self.server.lock().unwrap() = Some(server);
        store
    }
}

/// What cannot hold over the wire, and why. What the store refuses by name (locks, events, access tokens, the audit
/// trail: the API has them, this store has not) is not here: it says so itself.
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
    ("unfinished_jobs_are_never_forgotten", "the same"),
    ("housekeeping_keeps_to_its_budget", "the same"),
    ("a_queue_that_is_too_far_behind_refuses", "a server says `queue-full` of both bounds"),
    ("a_job_after_a_cancelled_one_is_born_cancelled", "a server takes no queue without room"),
    ("every_other_end_cancels_those_that_wait", "a server does its housekeeping itself"),
    ("a_forgotten_job_strands_nobody", "the same"),
    ("an_unknown_job_is_refused_by_its_place", "a server names the place in words of its own"),
    ("all_unknown_jobs_of_a_commit_are_named", "the same"),
    ("an_op_can_only_name_an_earlier_enqueue", "the same"),
    ("a_job_may_not_wait_for_more", "the same"),
    ("keys_and_limits_out_of_bounds_are_refused_by_name", "the same"),
    ("a_store_says_whether_it_is_durable", "the server of this test is in memory"),
    ("a_lease_that_lived_gets_its_full_time_again", "only the client restarts here"),
    ("time_stands_still_for_leases_while_no_server_runs", "the same"),
    ("retention_goes_on_after_a_restart", "a server does its housekeeping itself"),
    ("idempotency_keys_survive_a_restart", "a server gives the first answer, and does not say that it is it"),
];

/// How a store says that it cannot do something over the wire.
const BY_NAME: [&str; 2] = ["is not supported over a server's HTTP API", "a commit to a server has at most"];

#[test]
fn a_server_elsewhere_behaves_like_a_store() {
    let (mut wrong, mut held) = (Vec::new(), 0);
    for case in conformance::cases() {
        let known = NOT_HERE.iter().any(|(name, _)| *name == case.name);
        let harness = Remote { clock: ManualClock::new(), server: Mutex::new(None) };
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
    assert!(held > 100, "only {held} behaviours hold");
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
    let full = Client::new(store.store().clone());
    let within = Context::current().with_time_limit(millis(300));
    let refused = within.scope(full.enqueue(Note("2".into()))).await.unwrap_err();
    let reason = refused.reason().unwrap_or_else(|| panic!("{refused:?}"));
    assert_eq!(
        *reason,
        mainstay::core::op::Reason::QueueFull { queue: queue.clone(), max_depth: 1 },
        "{refused:?}"
    );
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

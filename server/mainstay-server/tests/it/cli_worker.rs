//! `mainstay worker run` against a server.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Child;
use tokio::time::timeout;

use crate::cli::{Ran, at, command, ended, gate, open, pass, run, signal};
use crate::server::{Setup, TestServer};

const PATIENCE: Duration = Duration::from_secs(120);

/// A worker of queue `q` that ends when there is nothing to do.
async fn work(server: &TestServer, more: &[&str], script: &str) -> Ran {
    let mut line = vec!["worker", "run", "--queue", "q", "--until-empty"];
    line.extend(more);
    line.extend(["--", "sh", "-c", script]);
    run(server, &line).await
}

/// A worker of queue `q` that goes on.
fn start(server: &TestServer, more: &[&str], script: &str) -> Child {
    let mut line = vec!["worker", "run", "--queue", "q"];
    line.extend(more);
    line.extend(["--", "sh", "-c", script]);
    at(server, &line).spawn().unwrap()
}

/// The last line a worker says.
fn summary(ran: &Ran) -> &str {
    ran.err.lines().rev().find(|line| line.contains(" done, ")).unwrap_or_else(|| panic!("{ran:?}"))
}

struct Place {
    _folder: tempfile::TempDir,
    /// The command says here that it runs.
    begun: PathBuf,
    /// It waits here to go on.
    go: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (begun, go) = (gate(folder.path(), "begun"), gate(folder.path(), "go"));
        Self { _folder: folder, begun, go }
    }

    fn script(&self, after: &str) -> String {
        format!("echo > {}; read x < {}; {after}", self.begun.display(), self.go.display())
    }
}

#[tokio::test]
async fn a_job_goes_from_enqueue_to_result() {
    let server = TestServer::start().await;
    let id = run(&server, &["jobs", "enqueue", "q", "hash", r#"{"a": 1.10}"#]).await.ok();
    let ran = work(&server, &[], "sha256sum | cut -d' ' -f1").await;
    assert!(summary(&ran).contains("1 done, 0 failed, 0 lost"), "{ran:?}");
    ran.ok();
    let result = run(&server, &["jobs", "result", &id]).await.ok();
    let direct = std::process::Command::new("sh")
        .args(["-c", r#"printf '{"a": 1.10}' | sha256sum | cut -d' ' -f1"#])
        .output()
        .unwrap();
    assert_eq!(result, format!("\"{}\"", String::from_utf8(direct.stdout).unwrap().trim()));
}

#[tokio::test]
async fn json_on_standard_output_is_the_result_to_the_byte() {
    let server = TestServer::start().await;
    let id = server.enqueue("q", json!({ "payload": 1 })).await;
    work(&server, &[], r#"printf '{"n":1.10}\n'"#).await.ok();
    assert_eq!(run(&server, &["jobs", "result", &id]).await.ok(), r#"{"n":1.10}"#);
}

#[tokio::test]
async fn a_result_that_two_readers_could_understand_differently_spoils_no_others() {
    let server = TestServer::start().await;
    let ids = [server.enqueue("q", json!({})).await, server.enqueue("q", json!({})).await];
    let script = r#"if [ "$MAINSTAY_ATTEMPT" ]; then printf '{"a":1,"a":2}'; fi"#;
    work(&server, &["--concurrency", "2"], script).await.ok();
    for id in ids {
        assert_eq!(server.job(&id).await["result"], json!(r#"{"a":1,"a":2}"#));
    }
}

#[tokio::test]
async fn how_long_a_result_may_be_is_the_servers_to_say() {
    let long = "head -c 1500000 /dev/zero | tr '\\0' x";
    let more = Setup::default().set("limits__result_bytes", 2 << 20).start().await;
    let id = more.enqueue("q", json!({})).await;
    work(&more, &[], long).await.ok();
    assert_eq!(more.job(&id).await["result"].as_str().unwrap().len(), 1_500_000);

    let usual = TestServer::start().await;
    let ids = [usual.enqueue("q", json!({ "payload": 1 })).await, usual.enqueue("q", json!({})).await];
    let script = format!("if [ \"$(cat)\" = 1 ]; then {long}; else echo fine; fi");
    let ran = work(&usual, &["--concurrency", "2"], &script).await;
    assert!(summary(&ran).contains("1 done, 1 failed"), "{ran:?}");
    let job = usual.job(&ids[0]).await;
    assert_eq!((&job["state"], &job["errors"][0]["type"]), (&json!("dead"), &json!("result-too-large")));
    let message = job["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("1048576"), "what the server says: {message}");
    assert_eq!(usual.job(&ids[1]).await["result"], "fine");
}

#[tokio::test]
async fn leases_are_renewed_in_as_many_calls_as_the_server_wants() {
    let server = Setup::default().set("limits__batch", 2).manual_clock().start().await;
    for _ in 0..5 {
        server.enqueue("q", json!({})).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.02; done", go.display());
    let worker = start(&server, &["--concurrency", "5", "--lease-ms", "1000", "--until-empty"], &script);
    let lives_until = |list: &Value| -> Vec<String> {
        let jobs = list["items"].as_array().unwrap().iter();
        jobs.filter_map(|job| job["lease_expires_at"].as_str().map(str::to_owned)).collect()
    };
    let running = "/v1/jobs?queue=q&state=running";
    let first = lives_until(&server.get_until(running, |list| lives_until(list).len() == 5).await);
    server.advance(Duration::from_millis(500));
    server.get_until(running, |list| lives_until(list).iter().all(|at| *at > first[0])).await;
    std::fs::write(&go, "").unwrap();
    let ran = ended(worker).await;
    assert!(summary(&ran).contains("5 done, 0 failed, 0 lost"), "{ran:?}");
}

#[tokio::test]
async fn a_worker_says_at_once_that_it_waits() {
    let server = TestServer::start().await;
    let mut worker = start(&server, &["--wait-ms", "60000"], "true");
    let mut lines = BufReader::new(worker.stderr.take().unwrap()).lines();
    // Before the claim that waits is over.
    let line = timeout(Duration::from_secs(50), lines.next_line()).await.expect("at once").unwrap().unwrap();
    assert!(line.contains("takes jobs of q"), "{line}");
    signal(&worker, Signal::TERM);
    worker.wait().await.unwrap();
}

#[tokio::test]
async fn many_jobs_run_side_by_side_and_each_once() {
    let server = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ran");
    let jobs: Vec<Value> = (0..200).map(|n| json!({ "kind": "k", "payload": n })).collect();
    server.post("/v1/queues/q/jobs/bulk", json!({ "jobs": jobs })).await.is(200);
    let script = format!("echo $MAINSTAY_JOB_ID >> {}; cat", file.display());
    let ran = work(&server, &["--concurrency", "8", "--output", "json"], &script).await;
    let tally = ran.json();
    assert_eq!((&tally["done"], &tally["failed"], &tally["lost"]), (&json!(200), &json!(0), &json!(0)));
    let text = std::fs::read_to_string(file).unwrap();
    let ids: std::collections::HashSet<&str> = text.lines().collect();
    assert_eq!((text.lines().count(), ids.len()), (200, 200));
    let page = server.get("/v1/jobs?queue=q&limit=1000").await.is(200);
    for job in page["items"].as_array().unwrap() {
        assert_eq!((&job["state"], &job["result"]), (&json!("completed"), &job["payload"]));
    }
}

#[tokio::test]
async fn a_failing_command_is_tried_again_and_then_dead() {
    let server = TestServer::start().await;
    let backoff = json!({ "base_ms": 0, "max_ms": 0, "jitter": "none" });
    let id = server.enqueue("q", json!({ "max_attempts": 2, "backoff": backoff })).await;
    let ran = work(&server, &[], "echo out of paper >&2; exit 3").await;
    assert!(ran.err.contains("exit-3: out of paper") && ran.err.contains("it is dead"), "{ran:?}");
    assert!(summary(&ran).contains("0 done, 2 failed"), "{ran:?}");
    ran.ok();
    let job = server.job(&id).await;
    assert_eq!((&job["state"], &job["reason"]), (&json!("dead"), &json!("exhausted")));
    let errors = job["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 2);
    assert_eq!((&errors[1]["type"], &errors[1]["message"]), (&json!("exit-3"), &json!("out of paper")));
    let error = run(&server, &["jobs", "result", &id]).await.failed(1);
    assert!(error.contains("exit-3: out of paper"), "{error}");
}

#[tokio::test]
async fn a_permanent_exit_code_is_not_tried_again() {
    let server = TestServer::start().await;
    let id = server.enqueue("q", json!({})).await;
    work(&server, &["--permanent-exit", "65"], "exit 65").await.ok();
    let job = server.job(&id).await;
    assert_eq!((&job["reason"], &job["attempt"]), (&json!("permanent"), &json!(1)));
}

#[tokio::test]
async fn an_attempt_beyond_its_time_limit_fails() {
    let server = TestServer::start().await;
    let id = server.enqueue("q", json!({ "timeout_ms": 100, "max_attempts": 1 })).await;
    work(&server, &[], "exec sleep 600").await.ok();
    assert_eq!(server.job(&id).await["errors"][0]["type"], "timeout");
}

#[tokio::test]
async fn a_command_that_cannot_be_run_spends_no_attempt() {
    let server = TestServer::start().await;
    let id = server.enqueue("q", json!({})).await;
    let error =
        run(&server, &["worker", "run", "--queue", "q", "--", "/nonexistent/command"]).await.failed(1);
    assert!(error.contains("/nonexistent/command"), "{error}");
    let job = server.job(&id).await;
    assert_eq!((&job["state"], &job["attempt"]), (&json!("available"), &json!(0)));
}

#[tokio::test]
async fn sigterm_lets_commands_end_and_takes_no_more() {
    let server = TestServer::start().await;
    let place = Place::new();
    let first = server.enqueue("q", json!({})).await;
    let mut worker = start(&server, &["--concurrency", "1"], &place.script("echo fine"));
    pass(&place.begun).await;
    let second = server.enqueue("q", json!({})).await;
    signal(&worker, Signal::TERM);
    let mut said = BufReader::new(worker.stderr.take().unwrap()).lines();
    let mut next = async || timeout(PATIENCE, said.next_line()).await.expect("it goes on").unwrap();
    // A command that ends before the signal has been seen makes it take the second job, and hand it back.
    while !next().await.expect("it has heard it").contains("a second signal hurries") {}
    open(&place.go).await;
    let mut last = String::new();
    while let Some(line) = next().await {
        last = line;
    }
    assert!(last.contains("1 done, 0 failed, 0 lost, 0 released"), "{last}");
    ended(worker).await.ok();
    assert_eq!(server.job(&first).await["result"], "fine");
    assert_eq!(server.job(&second).await["state"], "available");
}

#[tokio::test]
async fn what_overstays_the_drain_goes_back_without_spending_an_attempt() {
    let server = TestServer::start().await;
    let place = Place::new();
    let id = server.enqueue("q", json!({})).await;
    let worker = start(&server, &["--drain-ms", "0"], &place.script("echo never"));
    pass(&place.begun).await;
    signal(&worker, Signal::TERM);
    let ran = ended(worker).await;
    assert!(summary(&ran).contains("0 done, 0 failed, 0 lost, 1 released"), "{ran:?}");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let job = server.job(&id).await;
    assert_eq!(
        (&job["state"], &job["attempt"], &job["crashes"]),
        (&json!("available"), &json!(0), &json!(0))
    );
}

#[tokio::test]
async fn a_second_signal_hurries_the_drain() {
    let server = TestServer::start().await;
    let place = Place::new();
    let id = server.enqueue("q", json!({})).await;
    let mut worker = start(&server, &["--drain-ms", "600000"], &place.script("echo never"));
    pass(&place.begun).await;
    let mut stderr = worker.stderr.take().unwrap();
    signal(&worker, Signal::INT);
    let mut said = String::new();
    let heard = async {
        while !said.contains("a second signal hurries") {
            let mut buffer = [0; 1024];
            let read = stderr.read(&mut buffer).await.unwrap();
            assert!(read > 0, "{said}");
            said.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    };
    timeout(PATIENCE, heard).await.expect("it waits for the command");
    signal(&worker, Signal::INT);
    assert_eq!(timeout(PATIENCE, worker.wait()).await.expect("it ends").unwrap().code(), Some(1));
    assert_eq!(server.job(&id).await["state"], "available");
}

#[tokio::test]
async fn an_idle_worker_ends_at_once() {
    let server = TestServer::start().await;
    let mut worker = start(&server, &["--wait-ms", "60000"], "cat");
    let mut stderr = worker.stderr.take().unwrap();
    // It says nothing before its first answer; this job makes the waiting claim end.
    let id = server.enqueue("q", json!({})).await;
    let result = server.get(&format!("/v1/jobs/{id}/result?wait_ms=60000")).await.is(200);
    assert_eq!(result["state"], "completed");
    signal(&worker, Signal::TERM);
    let code = timeout(Duration::from_secs(30), worker.wait()).await.expect("it ends").unwrap().code();
    let mut said = String::new();
    stderr.read_to_string(&mut said).await.unwrap();
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn a_cancelled_job_is_told_to_stop() {
    let server = TestServer::start().await;
    let place = Place::new();
    let id = server.enqueue("q", json!({})).await;
    let worker = start(&server, &["--lease-ms", "1000"], &place.script("echo never"));
    pass(&place.begun).await;
    run(&server, &["jobs", "cancel", &id]).await.ok();
    let result = server.get(&format!("/v1/jobs/{id}/result?wait_ms=60000")).await.is(200);
    assert_eq!(result["state"], "cancelled");
    signal(&worker, Signal::TERM);
    let ran = ended(worker).await;
    assert!(summary(&ran).contains("0 failed, 0 lost, 0 released, 1 cancelled"), "{ran:?}");
    ran.ok();
}

#[tokio::test]
async fn a_lost_lease_stops_the_command_and_nothing_is_settled() {
    let server = Setup::default().manual_clock().start().await;
    let place = Place::new();
    let id = server.enqueue("q", json!({})).await;
    let script =
        format!("if [ $MAINSTAY_ATTEMPT = 1 ]; then {}; else echo second; fi", place.script("echo first"));
    let worker = start(&server, &["--lease-ms", "1500", "--concurrency", "1"], &script);
    pass(&place.begun).await;
    // On the store's clock the lease runs out; the worker learns of it when it renews.
    server.advance(Duration::from_secs(60));
    let line = ["jobs", "result", &id, "--wait-ms", "100000"];
    assert_eq!(run(&server, &line).await.ok(), "\"second\"");
    let job = server.job(&id).await;
    assert_eq!((&job["attempt"], &job["crashes"]), (&json!(2), &json!(1)));
    signal(&worker, Signal::TERM);
    let ran = ended(worker).await;
    assert!(summary(&ran).contains("1 done, 0 failed, 1 lost"), "{ran:?}");
    ran.ok();
}

#[tokio::test]
async fn a_long_job_keeps_its_lease() {
    let server = TestServer::start().await;
    let id = server.enqueue("q", json!({})).await;
    // Three times its lease.
    work(&server, &["--lease-ms", "1000"], "sleep 3; echo done").await.ok();
    let job = server.job(&id).await;
    assert_eq!((&job["result"], &job["attempt"], &job["crashes"]), (&json!("done"), &json!(1), &json!(0)));
}

#[tokio::test]
async fn a_token_without_the_scope_ends_the_worker_with_its_reason() {
    let server = TestServer::start().await;
    run(&server, &["token", "create", "--name", "admin", "--scope", "admin"]).await.ok();
    let error = run(&server, &["worker", "run", "--queue", "q", "--", "cat"]).await.failed(1);
    assert!(error.contains("MAINSTAY_AUTH_TOKEN"), "{error}");
}

#[tokio::test]
async fn enqueue_waits_for_the_result() {
    let server = TestServer::start().await;
    let worker = start(&server, &[], "cat");
    let result = run(&server, &["jobs", "enqueue", "q", "k", "[1]", "--wait"]).await.ok();
    assert_eq!(result, "[1]");
    signal(&worker, Signal::TERM);
    ended(worker).await.ok();
    let line = ["jobs", "enqueue", "q", "k", "[2]", "--wait-ms", "1"];
    let error = run(&server, &line).await.failed(1);
    assert!(error.contains("has not finished"), "{error}");
}

/// A server of its own process, on the embedded store.
pub struct Served {
    pub child: Child,
    pub api: String,
}

pub async fn serve(folder: &Path, listen: &str) -> Served {
    let store = format!("sqlite:{}", folder.join("m.db").display());
    let addresses = folder.join("addresses.json");
    let _ = std::fs::remove_file(&addresses);
    let file = addresses.to_str().unwrap();
    let line = [
        "serve",
        "--store",
        &store,
        "--listen",
        listen,
        "--admin-listen",
        "127.0.0.1:0",
        "--addr-file",
        file,
    ];
    let mut starting = command(&line);
    starting.env("MAINSTAY_LAME_DUCK_MS", "0").stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = starting.spawn().unwrap();
    let bound = async {
        loop {
            // Written whole, by rename: there or not there.
            if let Ok(text) = std::fs::read_to_string(&addresses) {
                let addresses: Value = serde_json::from_str(&text).unwrap();
                return addresses["api"].as_str().unwrap().to_owned();
            }
            let ended = timeout(Duration::from_millis(5), child.wait()).await;
            assert!(ended.is_err(), "the server ended: {ended:?}");
        }
    };
    let api = timeout(PATIENCE, bound).await.expect("it listens");
    Served { child, api }
}

#[tokio::test]
async fn a_worker_survives_the_death_of_the_server_and_settles_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new();
    let mut server = serve(folder.path(), "127.0.0.1:0").await;
    let url = format!("http://{}", server.api);
    let cli = |line: &[&str]| {
        let mut all = vec!["--server", url.as_str()];
        all.extend(line);
        command(&all).spawn().unwrap()
    };
    let id = ended(cli(&["jobs", "enqueue", "q", "k"])).await.ok();
    let script = place.script("echo survived");
    let worker = cli(&[
        "worker",
        "run",
        "--queue",
        "q",
        "--lease-ms",
        "5000",
        "--concurrency",
        "2",
        "--",
        "sh",
        "-c",
        &script,
    ]);
    pass(&place.begun).await;
    server.child.kill().await.unwrap();
    // The command ends while nobody is there to be told.
    open(&place.go).await;
    let server = serve(folder.path(), &server.api).await;
    let result = ended(cli(&["jobs", "result", &id, "--wait-ms", "100000"])).await.ok();
    assert_eq!(result, "\"survived\"");
    let job = ended(cli(&["jobs", "show", &id, "--output", "json"])).await.json();
    assert_eq!((&job["attempt"], &job["crashes"]), (&json!(1), &json!(0)));
    signal(&worker, Signal::TERM);
    let ran = ended(worker).await;
    assert!(summary(&ran).contains("1 done, 0 failed, 0 lost"), "{ran:?}");
    ran.ok();
    drop(server);
}

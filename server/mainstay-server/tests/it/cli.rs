//! The command line, run as people run it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::server::{Setup, TestServer};

/// No command of a test takes longer, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a command came to.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Standard output, without the end of its last line.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out.trim_end_matches('\n').to_owned()
    }

    #[track_caller]
    pub fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// Standard error of a command that failed in this way.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        self.err
    }
}

/// The command, knowing nothing of this process's environment but where programs are.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// The command, as it is told where a server is.
pub fn at(server: &TestServer, arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    command.env("MAINSTAY_SERVER", format!("http://{}", server.api));
    command.env("MAINSTAY_ADMIN", format!("http://{}", server.admin));
    command
}

/// Waits for the end of a command.
pub async fn ended(child: Child) -> Ran {
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

pub async fn run(server: &TestServer, arguments: &[&str]) -> Ran {
    ended(at(server, arguments).spawn().unwrap()).await
}

async fn run_with_input(server: &TestServer, arguments: &[&str], input: &str) -> Ran {
    let mut child = at(server, arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feed = async {
        // It may have seen enough.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
    };
    let ((), ran) = tokio::join!(feed, ended(child));
    ran
}

pub fn signal(child: &Child, signal: Signal) {
    let pid = child.id().expect("it runs").cast_signed();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[tokio::test]
async fn a_job_is_made_listed_and_shown() {
    let server = TestServer::start().await;
    let line = ["jobs", "enqueue", "mail", "send", r#"{"to":"ada"}"#, "--tag", "x", "--priority", "2"];
    let id = run(&server, &line).await.ok();
    let job = server.job(&id).await;
    assert_eq!(
        (&job["payload"], &job["tags"], &job["priority"]),
        (&json!({"to":"ada"}), &json!(["x"]), &json!(2))
    );

    let list = run(&server, &["jobs", "list", "--queue", "mail"]).await.ok();
    assert!(list.contains(&id) && list.contains("available"), "{list}");
    assert_eq!(run(&server, &["jobs", "list", "--ids"]).await.ok(), id);
    let shown = run(&server, &["jobs", "show", &id]).await.ok();
    assert!(shown.contains(r#"{"to":"ada"}"#), "{shown}");
    let shown = run(&server, &["jobs", "show", &id, "--output", "json"]).await.json();
    assert_eq!(shown["id"], json!(id));

    let line = ["jobs", "enqueue", "mail", "send", "--concurrency-key", "smtp", "--fairness-key", "eu"];
    let id = run(&server, &line).await.ok();
    let shown = run(&server, &["jobs", "show", &id]).await.ok();
    assert!(shown.contains("smtp") && shown.contains("eu"), "{shown}");
}

#[tokio::test]
async fn a_payload_comes_from_standard_input_and_as_text() {
    let server = TestServer::start().await;
    let id = run_with_input(&server, &["jobs", "enqueue", "q", "k", "-"], "[1.10, 2]\n").await.ok();
    let text = String::from_utf8(server.get(&format!("/v1/jobs/{id}")).await.body).unwrap();
    assert!(text.contains("[1.10, 2]"), "{text}");
    let id = run(&server, &["jobs", "enqueue", "q", "k", "a b", "--text"]).await.ok();
    assert_eq!(server.job(&id).await["payload"], json!("a b"));
    let error = run(&server, &["jobs", "enqueue", "q", "k", "a b"]).await.failed(2);
    assert!(error.contains("--text"), "{error}");
}

#[tokio::test]
async fn without_a_server_it_is_said_how_to_start_one() {
    // Nobody listens on port 9.
    let ran = ended(command(&["jobs", "list", "--server", "http://127.0.0.1:9"]).spawn().unwrap()).await;
    let error = ran.failed(69);
    assert!(error.contains("http://127.0.0.1:9") && error.contains("mainstay serve"), "{error}");
}

#[tokio::test]
async fn every_wrong_field_is_told_and_json_is_the_servers_own() {
    let server = TestServer::start().await;
    let line = ["jobs", "enqueue", "q", "k", "--priority", "12", "--max-attempts", "0"];
    let error = run(&server, &line).await.failed(1);
    assert!(error.contains("/priority") && error.contains("/max_attempts"), "{error}");
    let mut line = line.to_vec();
    line.extend(["--output", "json"]);
    let problem: Value = serde_json::from_str(&run(&server, &line).await.failed(1)).unwrap();
    assert_eq!(problem["code"], "validation-failed");
    assert_eq!(problem["errors"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn bulk_goes_in_chunks_and_prints_every_id() {
    let server = TestServer::start().await;
    let lines: String = (0..10_500).map(|n| format!("{{\"kind\":\"k\",\"payload\":{n}}}\n")).collect();
    let ids = run_with_input(&server, &["jobs", "enqueue", "q", "--bulk", "-"], &lines).await.ok();
    let different: std::collections::HashSet<&str> = ids.lines().collect();
    assert_eq!(different.len(), 10_500);
    let queue = server.get("/v1/queues/q").await.is(200);
    assert_eq!(queue["depth"]["available"], 10_500);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.ndjson");
    std::fs::write(&file, "{\"kind\":\"k\"}\n\n{\"kind\":\"k\"}").unwrap();
    let line = ["jobs", "enqueue", "q", "--bulk", file.to_str().unwrap(), "--output", "json"];
    let made = run(&server, &line).await.json();
    assert_eq!(made["results"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_wrong_line_is_named_and_what_came_before_its_chunk_exists() {
    let server = TestServer::start().await;
    let lines = "{\"kind\":\"k\"}\n".repeat(10_001) + "{\"kind\":\"k\",\"prio\":1}\n";
    let ran = run_with_input(&server, &["jobs", "enqueue", "q", "--bulk", "-"], &lines).await;
    assert_eq!(ran.out.lines().count(), 10_000);
    let error = ran.failed(1);
    assert!(error.contains("line 10002") && error.contains("/prio"), "{error}");
    assert!(error.contains("10000 jobs") && error.contains("line 10001"), "{error}");
    let queue = server.get("/v1/queues/q").await.is(200);
    assert_eq!(queue["depth"]["available"], 10_000);
}

#[tokio::test]
async fn each_job_is_acted_on_alone() {
    let server = TestServer::start().await;
    let one = server.enqueue("q", json!({})).await;
    let unknown = "019aae51-4f2b-7c3d-8e4f-0123456789ab";
    let two = server.enqueue("q", json!({})).await;
    let ran = run(&server, &["jobs", "cancel", &one, unknown, &two]).await;
    assert!(
        ran.out.contains(&format!("{one} is cancelled")) && ran.out.contains(&format!("{two} is cancelled"))
    );
    let error = ran.failed(1);
    assert!(error.contains(unknown) && error.contains("not-found"), "{error}");

    run(&server, &["jobs", "retry", &one]).await.ok();
    assert_eq!(server.job(&one).await["state"], "available");
    let done = run(&server, &["jobs", "delete", &one, &two, "--output", "json"]).await.json();
    assert_eq!(done["results"].as_array().unwrap().len(), 2);
    server.get(&format!("/v1/jobs/{one}")).await.problem(404, "not-found");
}

#[tokio::test]
async fn dead_letters_are_counted_requeued_and_forgotten() {
    let server = TestServer::start().await;
    for kind in ["a", "a", "b"] {
        server.enqueue("q", json!({ "kind": kind })).await;
    }
    for job in server.claim("q", 3).await {
        let body =
            json!({ "lease": job["lease"], "error": { "type": "T", "message": "boom" }, "retry": "never" });
        server.post(&format!("/v1/jobs/{}/fail", job["id"].as_str().unwrap()), body).await.is(200);
    }
    let list = run(&server, &["jobs", "dead", "list", "q"]).await.ok();
    assert_eq!(list.lines().filter(|line| line.contains("permanent: boom")).count(), 3, "{list}");
    let dry = run(&server, &["jobs", "dead", "requeue", "q", "--kind", "a", "--dry-run"]).await.ok();
    assert_eq!(dry, "2 dead letters would be requeued");
    let done = run(&server, &["jobs", "dead", "requeue", "q", "--kind", "a", "--limit", "1"]).await.ok();
    assert_eq!(done, "1 of 2 dead letters requeued");
    let done = run(&server, &["jobs", "dead", "delete", "q", "--all", "--output", "json"]).await.json();
    assert_eq!(done, json!({ "matched": 2, "changed": 2 }));
}

#[tokio::test]
async fn queues_are_paused_configured_and_emptied() {
    let server = TestServer::start().await;
    assert_eq!(run(&server, &["queues", "list"]).await.ok(), "");
    server.enqueue("q", json!({})).await;
    run(&server, &["queues", "pause", "q"]).await.ok();
    let list = run(&server, &["queues", "list"]).await.ok();
    assert!(list.lines().nth(1).unwrap().ends_with("paused"), "{list}");
    run(&server, &["queues", "resume", "q"]).await.ok();
    run(&server, &["queues", "set", "q", r#"{"max_depth":1}"#]).await.ok();
    let error = run(&server, &["jobs", "enqueue", "q", "k"]).await.failed(1);
    assert!(error.contains("queue-full") && error.contains("queues set"), "{error}");
    let shown = run(&server, &["queues", "show", "q", "--output", "json"]).await.json();
    assert_eq!((&shown["paused"], &shown["config"]["max_depth"]), (&json!(false), &json!(1)));
    let error = run(&server, &["queues", "set", "q", r#"{"max_dept":1}"#]).await.failed(1);
    assert!(error.contains("max_dept"), "{error}");
    assert_eq!(run(&server, &["queues", "purge", "q", "--yes"]).await.ok(), "1 job purged");
    run(&server, &["queues", "delete", "q"]).await.ok();
    server.get("/v1/queues/q").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_token_is_all_that_is_printed_and_is_needed_from_then_on() {
    let server = TestServer::start().await;
    let create = ["token", "create", "--name", "ops", "--scope", "admin"];
    let admin = run(&server, &create).await.ok();
    assert!(!admin.contains(char::is_whitespace) && admin.len() > 20, "{admin:?}");

    let error = run(&server, &["jobs", "list"]).await.failed(1);
    assert!(error.contains("MAINSTAY_AUTH_TOKEN"), "{error}");
    let with = |arguments: &[&str]| {
        let child = at(&server, arguments).env("MAINSTAY_AUTH_TOKEN", &admin).spawn().unwrap();
        ended(child)
    };
    with(&["jobs", "list"]).await.ok();
    with(&["token", "create", "--name", "mail", "--scope", "jobs:work=mail", "--scope", "read"]).await.ok();
    let error = with(&create).await.failed(1);
    assert!(error.contains("state-conflict"), "{error}");
    let list = with(&["token", "list"]).await.ok();
    assert!(list.contains("jobs:work=mail read") && !list.contains(&admin), "{list}");
    with(&["token", "revoke", "mail"]).await.ok();
    with(&["token", "revoke", "mail"]).await.failed(1);
}

#[tokio::test]
async fn a_token_is_made_in_a_store_that_no_server_has_open() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("m.db").display());
    let create = ["token", "create", "--store", &url, "--name", "ops", "--scope", "admin"];
    let token = ended(command(&create).spawn().unwrap()).await.ok();
    let list = ended(command(&["token", "list", "--store", &url]).spawn().unwrap()).await.ok();
    assert!(list.contains("ops") && !list.contains(&token), "{list}");

    let server = Setup::default().set("store", &url).start().await;
    run(&server, &["jobs", "list"]).await.failed(1);
    let line = at(&server, &["jobs", "list"]).env("MAINSTAY_AUTH_TOKEN", &token).spawn().unwrap();
    ended(line).await.ok();
    // Now the server has it.
    let error = ended(command(&create).spawn().unwrap()).await.failed(1);
    assert!(error.contains("--admin"), "{error}");
}

#[tokio::test]
async fn looking_at_tokens_makes_no_store() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("typo.db").display());
    for line in [&["token", "list", "--store", &url][..], &["token", "revoke", "ops", "--store", &url]] {
        let error = ended(command(line).spawn().unwrap()).await.failed(69);
        assert!(error.contains("there is no store at") && error.contains("typo.db"), "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_job_that_is_waited_for_is_named_to_programs() {
    let server = TestServer::start().await;
    let enqueue = ["jobs", "enqueue", "q", "k", "--wait-ms", "0", "--output", "json"];
    let ran = run(&server, &enqueue).await;
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &told["state"]), (Some(1), &json!("available")), "{ran:?}");
    let id = told["id"].as_str().expect("the id").to_owned();
    let (claimed, lease) = server.claim_one("q").await;
    assert_eq!(claimed, id);
    let complete = json!({ "lease": lease, "result": [1] });
    server.post(&format!("/v1/jobs/{id}/complete"), complete).await.is(200);
    let told = run(&server, &["jobs", "result", &id, "--output", "json"]).await.json();
    assert_eq!(told, json!({ "id": id, "state": "completed", "result": [1] }));
}

#[tokio::test]
async fn what_is_said_beside_an_answer_for_programs_is_for_programs() {
    let server = TestServer::start().await;
    let ran = run(&server, &["jobs", "enqueue", "q", "--output", "json", "--frobnicate"]).await;
    let error: Value = serde_json::from_str(&ran.failed(2)).expect("one document");
    assert!(error["title"].as_str().unwrap().contains("--frobnicate"), "{error}");
    let error = run(&server, &["jobs", "enqueue", "q", "--frobnicate"]).await.failed(2);
    assert!(error.starts_with("error: ") && error.contains("Usage:"), "{error}");

    let twice = ["jobs", "enqueue", "q", "k", "--unique-key", "u", "--output", "json"];
    run(&server, &twice).await.ok();
    let ran = run(&server, &twice).await;
    let note: Value = serde_json::from_str(&ran.err).expect("one document");
    assert!(note["note"].as_str().unwrap().contains("an earlier job"), "{note}");
}

#[tokio::test]
async fn how_large_jobs_may_be_is_the_servers_to_say() {
    let more = Setup::default().set("limits__payload_bytes", 3 << 20).set("limits__bulk", 3).start().await;
    let long = format!("{{\"kind\":\"k\",\"payload\":\"{}\"}}", "x".repeat(2 << 20));
    let short = "{\"kind\":\"k\"}\n".repeat(7);
    let bulk = ["jobs", "enqueue", "q", "--bulk", "-"];
    let ids = run_with_input(&more, &bulk, &format!("{short}\n{long}\n")).await.ok();
    assert_eq!(ids.lines().count(), 8);
    assert_eq!(more.get("/v1/queues/q").await.is(200)["depth"]["available"], 8);

    let less = Setup::default().set("limits__payload_bytes", 10).start().await;
    let lines = "{\"kind\":\"k\"}\n\n{\"kind\":\"k\",\"payload\":\"0123456789\"}\n";
    let error = run_with_input(&less, &bulk, lines).await.failed(1);
    assert!(error.contains("payload-too-large") && error.contains("line 3: /payload: "), "{error}");
    less.get("/v1/queues/q").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_memory_store_takes_tokens_from_the_printed_configuration() {
    let line = ["token", "create", "--store", "memory:", "--name", "ops", "--scope", "admin"];
    let ran = ended(command(&line).spawn().unwrap()).await;
    let part = ran.err.split_once("\n\n").expect("a part to copy").1.to_owned();
    let token = ran.ok();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mainstay.toml");
    std::fs::write(&file, part).unwrap();
    let server = Setup::default().set("config", file.display()).start().await;
    run(&server, &["jobs", "list"]).await.failed(1);
    let with = |line: &[&str]| ended(at(&server, line).env("MAINSTAY_AUTH_TOKEN", &token).spawn().unwrap());
    with(&["jobs", "list"]).await.ok();
    let error = with(&["token", "revoke", "ops"]).await.failed(1);
    assert!(
        error.contains("is defined in the server's configuration") && !error.contains("jobs show"),
        "{error}"
    );
    assert!(with(&["token", "revoke", "none"]).await.failed(1).contains("not-found"));
}

#[tokio::test]
async fn a_queue_that_a_pause_makes_is_told() {
    let server = TestServer::start().await;
    let ran = run(&server, &["queues", "pause", "typo"]).await;
    assert!(ran.err.contains("there was no queue typo"), "{ran:?}");
    ran.ok();
    assert_eq!(run(&server, &["queues", "pause", "typo"]).await.err, "");
}

#[tokio::test]
async fn the_configuration_is_shown_with_the_source_of_each_value() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.toml");
    std::fs::write(&file, "grace_ms = 9000\n").unwrap();
    let line = ["config", "--config", file.to_str().unwrap(), "--store", "memory:"];
    let shown = |more: &[&str]| {
        let line: Vec<&str> = line.iter().chain(more).copied().collect();
        ended(
            command(&line)
                .env("MAINSTAY_LISTEN", "127.0.0.1:1")
                .env("MAINSTAY_SERVER", "http://x")
                .spawn()
                .unwrap(),
        )
    };
    let ran = shown(&[]).await;
    assert_eq!(ran.err, "");
    let text = ran.ok();
    for (key, source) in [("grace_ms", "m.toml:1"), ("store", "--store"), ("listen", "MAINSTAY_LISTEN")] {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{key} = ")))
            .unwrap_or_else(|| panic!("{text}"));
        assert!(line.contains(source), "{line}");
    }
    let items = shown(&["--output", "json"]).await.json();
    let grace = items.get("grace_ms").cloned();
    assert_eq!(grace.unwrap()["value"], 9000);

    std::fs::write(&file, "grase_ms = 1\nlisten = 5\nthreads = \"many\"\n").unwrap();
    let error = ended(command(&line).spawn().unwrap()).await.failed(78);
    for part in ["3 problems", "grace_ms", "listen", "threads"] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[tokio::test]
async fn a_healthcheck_says_yes_or_no() {
    let server = TestServer::start().await;
    assert_eq!(run(&server, &["healthcheck"]).await.ok(), "ready");
    let admin = server.admin;
    server.stop().await;
    let line = ["healthcheck", "--admin", &format!("http://{admin}")];
    ended(command(&line).spawn().unwrap()).await.failed(1);
}

#[tokio::test]
async fn drain_ends_the_server() {
    let server = TestServer::start().await;
    run(&server, &["drain"]).await.ok();
    timeout(PATIENCE, server.shutdown.draining()).await.expect("it drains");
    assert_eq!(server.stop().await.exit_code(), 0);
}

#[tokio::test]
async fn completions_and_version_need_no_server() {
    for shell in ["bash", "zsh", "fish"] {
        let script = ended(command(&["completions", shell]).spawn().unwrap()).await.ok();
        assert!(script.contains("mainstay") && script.contains("enqueue"), "{shell}");
    }
    let version = ended(command(&["version", "--output", "json"]).spawn().unwrap()).await.json();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_panic() {
    let server = TestServer::start().await;
    server.enqueue("q", json!({})).await;
    let mut child = at(&server, &["jobs", "list"]).spawn().unwrap();
    drop(child.stdout.take());
    let ran = ended(child).await;
    assert_eq!(ran.err, "", "{ran:?}");
}

/// A place where a command and its test meet: opening it for writing waits for a reader, and the other way round.
pub fn gate(folder: &Path, name: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

/// Waits at a gate for the other side.
pub async fn pass(gate: &Path) {
    let gate = gate.to_owned();
    let passed = tokio::task::spawn_blocking(move || std::fs::read(gate));
    timeout(PATIENCE, passed).await.expect("the other side comes").unwrap().unwrap();
}

/// Lets the other side through a gate.
pub async fn open(gate: &Path) {
    let gate = gate.to_owned();
    let opened = tokio::task::spawn_blocking(move || std::fs::write(gate, "\n"));
    timeout(PATIENCE, opened).await.expect("the other side comes").unwrap().unwrap();
}

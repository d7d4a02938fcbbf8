//! What the log of a real process says. They run the example `traced`.

use std::net::SocketAddr;
use std::process::Stdio;

use mainstay::secs;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use crate::harness::{Answer, PATIENCE, Raw, get};
use crate::process::example;

struct Traced {
    child: Child,
    api: SocketAddr,
}

impl Traced {
    async fn start(variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(example("traced"))
            .env("TRACED_ADMIN_LISTEN", "127.0.0.1:0")
            .env("TRACED_LAME_DUCK_MS", "0")
            .env("TRACED_LOG_FORMAT", "json")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(PATIENCE, out.next_line()).await.expect("an address in time").unwrap();
        Self { child, api: line.expect("an address").parse().unwrap() }
    }

    fn log(&mut self) -> Log {
        Log(BufReader::new(self.child.stderr.take().unwrap()).lines())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id().unwrap() as i32).unwrap(), signal).unwrap();
    }

    async fn ask(&self, path: &str, headers: &str) -> Answer {
        let mut raw = Raw::open(self.api).await;
        raw.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n")).await;
        raw.answer().await.expect("an answer")
    }

    async fn end(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap().code()
    }
}

struct Log(Lines<BufReader<ChildStderr>>);

impl Log {
    /// All lines up to and with the one that is sought.
    async fn until(&mut self, found: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut all = Vec::new();
        let reading = async {
            while let Some(line) = self.0.next_line().await.unwrap() {
                all.push(serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}")));
                if all.last().is_some_and(&found) {
                    return;
                }
            }
            panic!("the log ended: {all:#?}");
        };
        timeout(PATIENCE, reading).await.expect("a line in time");
        all
    }
}

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn one_id_leads_from_the_request_through_task_and_job_to_every_attempt() {
    let mut traced = Traced::start(&[]).await;
    let mut log = traced.log();
    let answer = traced.ask("/order", &format!("x-request-id: me-1\r\ntraceparent: {TRACEPARENT}\r\n")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-request-id"), Some("me-1"));
    // Another request in between, whose lines must not be mixed in.
    traced.ask("/order", "x-request-id: other\r\n").await;

    let is = |line: &Value, id: &str, what: &str| line["request_id"] == id && line["msg"] == what;
    let second = |line: &Value| is(line, "me-1", "shipping") && line["attempt"] == 2;
    let all = log.until(second).await;
    let of = |id: &str| all.iter().filter(|line| line["request_id"] == id).cloned().collect::<Vec<_>>();
    let (mine, others) = (of("me-1"), of("other"));
    let said = |what: &str| {
        let line = mine.iter().find(|line| line["msg"] == what);
        line.unwrap_or_else(|| panic!("`{what}` is missing: {mine:#?}")).clone()
    };

    // The task, another library in it, the handler, the access log, the first attempt, its failure, the second attempt.
    for what in ["sending a mail", "mail sent", "order taken", "request", "shipping", "job failed"] {
        let line = said(what);
        assert_eq!(line["trace_id"], "0af7651916cd43dd8448eb211c80319c", "{line}");
    }
    assert_eq!(said("mail sent")["target"], "smtp");
    // Set after the task was spawned; carried into the job.
    for what in ["order taken", "request", "shipping"] {
        assert_eq!(said(what)["order"], 7, "{what}");
    }
    let access = said("request");
    assert_eq!(
        (&access["outcome"], &access["status"], &access["route"]),
        (&"ok".into(), &200.into(), &"/order".into())
    );
    let attempts: Vec<_> = mine.iter().filter(|line| line["msg"] == "shipping").collect();
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[0]["job.id"], attempts[1]["job.id"]);
    assert!(!others.is_empty() && others.iter().all(|line| line["trace_id"] != mine[0]["trace_id"]));
    assert_eq!(traced.end().await, Some(0));
}

#[tokio::test]
async fn a_panic_is_one_record_with_its_place_and_context() {
    let mut traced = Traced::start(&[]).await;
    let mut log = traced.log();
    let answer = traced.ask("/panic", "x-request-id: p-1\r\n").await;
    assert_eq!(answer.status, 500);
    let all = log.until(|line| line["msg"] == "request").await;
    let panics: Vec<_> = all.iter().filter(|line| line.to_string().contains("oh no")).collect();
    assert_eq!(panics.len(), 1, "{all:#?}");
    let panic = panics[0];
    assert_eq!(
        (&panic["level"], &panic["msg"], &panic["request_id"]),
        (&"error".into(), &"panicked".into(), &"p-1".into())
    );
    assert!(panic["location"].as_str().unwrap().contains("traced.rs:"), "{panic}");
    let access = all.last().unwrap();
    assert_eq!((&access["outcome"], &access["level"]), (&"panicked".into(), &"error".into()));
    assert_eq!(traced.end().await, Some(0));
}

#[tokio::test]
async fn a_full_log_pipe_never_blocks_the_service() {
    let unlimited = ("TRACED_LOG_LINES_PER_SECOND", "0");
    let mut traced = Traced::start(&[unlimited, ("TRACED_FLUSH_MS", "800")]).await;
    // Far more than a pipe and the log's own buffer hold, and nobody reads it.
    assert_eq!(traced.ask("/noise", "").await.status, 200);
    for _ in 0..3 {
        assert_eq!(get(traced.api, "/hello").await.status, 200);
    }
    // Nor its end.
    traced.signal(Signal::TERM);
    let status = timeout(PATIENCE, traced.child.wait()).await.expect("it ends").unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn lines_that_a_full_pipe_cost_are_confessed_once_it_is_read_again() {
    let mut traced = Traced::start(&[("TRACED_LOG_LINES_PER_SECOND", "0")]).await;
    assert_eq!(traced.ask("/noise", "").await.status, 200);
    let mut log = traced.log();
    let all = log.until(|line| line["dropped"].is_u64()).await;
    let dropped = all.last().unwrap()["dropped"].as_u64().unwrap();
    let written = all.iter().filter(|line| line["msg"] == "noise").count() as u64;
    assert!(dropped > 0 && written > 0 && written + dropped >= 60_000, "{written} {dropped}");
    assert_eq!(traced.ask("/order", "").await.status, 200, "and goes on");
    log.until(|line| line["msg"] == "order taken").await;
    assert_eq!(traced.end().await, Some(0));
}

#[tokio::test]
async fn a_noisy_place_is_limited_and_the_rest_is_heard() {
    let mut traced = Traced::start(&[("TRACED_LOG_LINES_PER_SECOND", "50")]).await;
    let mut log = traced.log();
    traced.ask("/noise", "").await;
    let mut all = log.until(|line| line["msg"] == "request").await;
    let shown = all.iter().filter(|line| line["msg"] == "noise").count();
    let mut owed = |line: &Value| line["suppressed"].as_u64().unwrap_or(0);
    let mut told: u64 = all.iter().map(&mut owed).sum();
    while told + (shown as u64) < 60_000 {
        let more = log.until(|line| line["suppressed"].is_u64()).await;
        told += more.iter().map(&mut owed).sum::<u64>();
        all.extend(more);
    }
    assert_eq!(told + shown as u64, 60_000, "every line is written or confessed");
    let confession = all.iter().find(|line| line["suppressed"].is_u64()).unwrap();
    assert!(confession["msg"].as_str().unwrap().ends_with("similar lines suppressed"), "{confession}");
    assert!(confession["place"].as_str().unwrap().contains("traced.rs:"), "{confession}");
    traced.end().await;
}

#[tokio::test]
async fn the_access_log_can_be_switched_off_or_to_errors_only() {
    for (setting, lines) in [("off", 0), ("errors", 1), ("all", 2)] {
        let mut traced = Traced::start(&[("TRACED_ACCESS_LOG", setting)]).await;
        let mut log = traced.log();
        traced.ask("/hello", "").await;
        traced.ask("/panic", "").await;
        traced.signal(Signal::TERM);
        let all = log.until(|line| line["msg"] == "stopped, everything drained").await;
        let access = all.iter().filter(|line| line["target"] == "mainstay::access").count();
        assert_eq!(access, lines, "{setting}: {all:#?}");
    }
}

#[tokio::test]
async fn a_log_file_is_written_and_a_wrong_one_is_refused_with_78() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("service.log");
    let output = ("TRACED_LOG_OUTPUT", path.to_str().unwrap());
    let traced = Traced::start(&[output]).await;
    traced.ask("/hello", "x-request-id: f-1\r\n").await;
    // A rotation: the file is moved away, and SIGHUP makes a new one.
    let old = folder.path().join("service.log.1");
    std::fs::rename(&path, &old).unwrap();
    traced.signal(Signal::HUP);
    let reopened = async {
        while !path.exists() {
            traced.ask("/hello", "").await;
        }
    };
    timeout(PATIENCE, reopened).await.expect("the file is opened anew");
    traced.ask("/hello", "x-request-id: f-2\r\n").await;
    assert_eq!(traced.end().await, Some(0));
    let (old, new) = (std::fs::read_to_string(&old).unwrap(), std::fs::read_to_string(&path).unwrap());
    assert!(old.contains(r#""msg":"request","request_id":"f-1""#) && !old.contains("f-2"), "{old}");
    assert!(new.contains(r#""msg":"request","request_id":"f-2""#) && !new.contains(r#""f-1""#), "{new}");

    let wrong = Command::new(example("traced"))
        .env("TRACED_LOG_OUTPUT", folder.path().join("no/such/folder.log"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut wrong = wrong.unwrap();
    let status = timeout(secs(20), wrong.wait()).await.expect("it ends").unwrap();
    let mut said = String::new();
    wrong.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(said.contains("no/such/folder.log"), "{said}");
}

//! Health on a running app: the runtime's lag, loops, checks that come with the chassis.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use axum::Router;
use mainstay::health::{self, CheckOptions};
use mainstay::{Weight, millis, secs};
use serde_json::Value;

use crate::harness::{PATIENCE, app, get, with_boot};

/// For when the runtime of the test cannot.
fn blocking_get(to: SocketAddr, path: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
}

/// Asks until the answer is as wanted; a test that does not get it hangs, and is ended by its runner.
fn until(to: SocketAddr, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
    loop {
        let (status, body) = blocking_get(to, path);
        if wanted(status, &body) {
            return body;
        }
        thread::yield_now();
    }
}

#[tokio::test]
async fn a_blocked_runtime_shows_as_lag_while_it_is_blocked_and_is_well_again_after() {
    with_boot(
        &[("lame_duck_ms", "0")],
        async |b| {
            let often = CheckOptions::degraded().every(millis(20)).failures(1).successes(1);
            b.check("lag", often.every_when_down(millis(20)), b.health().runtime_lag(millis(100)));
            b.http("127.0.0.1:0", Router::new())
        },
        async |running| {
            let admin = running.admin;
            let (seen, wait) = sync_channel(1);
            let witness = thread::spawn(move || {
                let blocked = |_, body: &Value| body["checks"]["lag"]["error"].is_string();
                let body = until(admin, "/readyz?verbose", blocked);
                seen.send(()).unwrap();
                let well = |_, body: &Value| body["checks"]["lag"]["status"] == "up";
                until(admin, "/readyz?verbose", well);
                body
            });
            // The runtime of this test is the app's, and has one thread.
            wait.recv_timeout(PATIENCE).expect("it is seen while it lasts");
            let body = tokio::task::spawn_blocking(|| witness.join().unwrap()).await.unwrap();
            assert_eq!(body["status"], "ready", "it is not critical: {body}");
            let error = body["checks"]["lag"]["error"].as_str().unwrap();
            assert!(error.contains("a task that is ready waits"), "{error}");
            let text = get(admin, "/metrics").await.body;
            let slow =
                text.lines().find(|line| line.starts_with("mainstay_runtime_poll_delay_seconds_count"));
            assert!(slow.is_some_and(|line| !line.ends_with(" 0")), "{text}");
        },
    )
    .await;
}

#[tokio::test]
async fn a_loop_that_does_not_advance_makes_the_service_unlive_until_it_does() {
    let (hand_over, heartbeat) = sync_channel(1);
    with_boot(
        &[("lame_duck_ms", "0")],
        async |b| {
            hand_over.send(b.heartbeat("importer", millis(30))).unwrap();
            b.http("127.0.0.1:0", Router::new())
        },
        async |running| {
            let heartbeat = heartbeat.recv().unwrap();
            let admin = running.admin;
            let body = tokio::task::spawn_blocking(move || {
                until(admin, "/livez?verbose", |status, _| status == 503)
            });
            let body = body.await.unwrap();
            assert_eq!(
                (&body["status"], &body["reason"]),
                (&"unhealthy".into(), &"stalled".into()),
                "{body}"
            );
            assert_eq!(body["loops"]["importer"]["stalled"], true, "{body}");
            assert_eq!(body["loops"]["runtime"]["stalled"], false, "{body}");
            assert!(get(admin, "/metrics").await.body.contains("\nmainstay_health_live 0\n"));
            assert_eq!(get(admin, "/readyz").await.status, 200, "readiness is another question");
            heartbeat.rest();
            assert_eq!(get(admin, "/livez").await.status, 200);
        },
    )
    .await;
}

#[tokio::test]
async fn a_store_and_workers_bring_their_loops_and_checks() {
    use mainstay::{Job, JobContext, JobError, Workers};
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Note;
    impl Job for Note {
        const KIND: &'static str = "note";
        const QUEUE: &'static str = "notes";
    }
    async fn note(_: Note, _: JobContext<()>) -> Result<(), JobError> {
        Ok(())
    }
    with_boot(
        &[("lame_duck_ms", "0")],
        async |b| {
            b.store("memory:").await.unwrap();
            b.workers(Workers::new("notes", ()).on(note));
            b.http("127.0.0.1:0", Router::new())
        },
        async |running| {
            let answer = get(running.admin, "/livez?verbose").await;
            let body: Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(answer.status, 200, "{body}");
            let loops: Vec<_> = body["loops"].as_object().unwrap().keys().collect();
            assert_eq!(loops, ["fetch notes", "runtime", "scheduler", "store writer"]);
            assert_eq!(body["checks"]["store"]["critical"], true, "{body}");
        },
    )
    .await;
}

#[tokio::test]
async fn disk_and_memory_are_one_line_each() {
    with_boot(
        &[("lame_duck_ms", "0")],
        async |b| {
            let here = std::env::temp_dir();
            b.check("disk", Weight::Degraded, health::disk(&here).min_free_percent(0.0));
            b.check("no disk", Weight::Degraded, health::disk(here).min_free_bytes(u64::MAX));
            b.check("memory", Weight::Degraded, health::memory().max_resident_bytes(1));
            b.http("127.0.0.1:0", Router::new())
        },
        async |running| {
            let admin = running.admin;
            let all = |_, body: &Value| {
                let known = |check: &Value| !check["age_ms"].is_null();
                body["checks"].as_object().is_some_and(|checks| checks.values().all(known))
            };
            let body =
                tokio::task::spawn_blocking(move || until(admin, "/readyz?verbose", all)).await.unwrap();
            let checks = &body["checks"];
            assert_eq!(checks["disk"]["status"], "up", "{body}");
            assert!(checks["no disk"]["error"].as_str().unwrap().contains("are free"), "{body}");
            assert!(checks["memory"]["error"].as_str().unwrap().contains("by this process"), "{body}");
        },
    )
    .await;
}

#[tokio::test]
async fn a_check_that_cannot_be_meant_ends_the_start_and_says_which() {
    let ended = app(&[]).run_until(
        async |b: &mut mainstay::Boot<()>| {
            let fine = || async { Ok::<_, mainstay::Error>(()) };
            b.check("db", CheckOptions::critical().within(Duration::ZERO), fine);
            Ok(())
        },
        tokio::time::sleep(secs(20)),
    );
    let error = ended.await.error.expect("an error");
    assert_eq!(error.exit_code(), 78);
    assert!(error.chain().contains("check `db`: `within`"), "{}", error.chain());
}

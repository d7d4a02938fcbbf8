//! `mainstay locks` and `mainstay lock run`, as people run them.

use std::io::{BufRead, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::secs;
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use crate::cli::{Ran, at, command, ended, gate, open, pass, run, signal};
use crate::cli_worker::serve;
use crate::server::{Setup, TestServer};

const PATIENCE: Duration = Duration::from_secs(120);

/// `mainstay lock run NAME … -- sh -c SCRIPT`.
fn line<'a>(more: &[&'a str], script: &'a str) -> Vec<&'a str> {
    let mut line = vec!["lock", "run", "nightly"];
    line.extend(more);
    line.extend(["--", "sh", "-c", script]);
    line
}

async fn locked(server: &TestServer, more: &[&str], script: &str) -> Ran {
    run(server, &line(more, script)).await
}

async fn take(server: &TestServer) -> String {
    let grant = server.post("/v1/locks/nightly/acquire", json!({ "owner": "somebody" })).await.is(200);
    grant["lease"].as_str().unwrap().to_owned()
}

struct Place {
    folder: tempfile::TempDir,
    begun: PathBuf,
    go: PathBuf,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let (begun, go) = (gate(folder.path(), "begun"), gate(folder.path(), "go"));
        Place { folder, begun, go }
    }

    /// Says that it runs, and waits.
    fn script(&self, after: &str) -> String {
        format!("echo > {}; read x < {}; {after}", self.begun.display(), self.go.display())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[tokio::test]
async fn a_command_runs_under_the_lock_with_its_token_and_gives_it_back() {
    let server = TestServer::start().await;
    let place = Place::new();
    let script = place.script("echo $MAINSTAY_LOCK $MAINSTAY_FENCING_TOKEN; echo to stderr >&2; exit 7");
    let child = at(&server, &line(&["--owner", "me"], &script)).spawn().unwrap();
    pass(&place.begun).await;
    let lock = server.get("/v1/locks/nightly").await.is(200);
    assert_eq!(lock["holders"][0]["owner"], "me");
    open(&place.go).await;
    let ran = ended(child).await;
    assert_eq!(ran.out, format!("nightly {}\n", lock["holders"][0]["token"]));
    assert_eq!((ran.err.as_str(), ran.code), ("to stderr\n", Some(7)), "the command's own, and nothing else");
    server.get("/v1/locks/nightly").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_lock_that_is_held_is_75_and_the_command_does_not_run() {
    let server = TestServer::start().await;
    take(&server).await;
    for more in [&["--skip"][..], &["--wait", "100ms"]] {
        let ran = locked(&server, more, "echo ran").await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(75), ""), "{ran:?}");
        assert!(ran.err.contains("held by somebody"), "{ran:?}");
        assert_eq!(server.get("/v1/locks/nightly").await.is(200)["waiters"], json!([]), "{more:?}");
    }
}

#[tokio::test]
async fn a_command_waits_for_its_turn() {
    let server = TestServer::start().await;
    let lease = take(&server).await;
    let child = at(&server, &line(&["--wait"], "echo ran")).spawn().unwrap();
    server.get_until("/v1/locks/nightly", |lock| lock["waiters"][0]["position"] == 1).await;
    server.post("/v1/locks/nightly/release", json!({ "lease": lease })).await.is(200);
    assert_eq!(ended(child).await.ok(), "ran");
}

#[tokio::test]
async fn a_lock_is_kept_for_longer_than_its_ttl() {
    let server = TestServer::start().await;
    // Three times its TTL.
    let ran = locked(&server, &["--ttl", "1s"], "sleep 3; echo done").await;
    assert_eq!(ran.ok(), "done");
}

#[tokio::test]
async fn a_lost_lock_ends_the_command_and_all_it_started() {
    let server = TestServer::start().await;
    let place = Place::new();
    let heard = place.file("heard");
    // The inner one is what has to hear it.
    let inner = format!("trap 'echo heard > {}; exit' TERM; while :; do sleep 0.01; done", heard.display());
    let script = format!("sh -c \"{inner}\" & {}", place.script("echo never"));
    let child = at(&server, &line(&["--ttl", "1s"], &script)).spawn().unwrap();
    pass(&place.begun).await;
    let broken = run(&server, &["locks", "break", "nightly", "--yes", "--reason", "test"]).await;
    assert_eq!(broken.ok(), "nightly is taken away");
    let ran = ended(child).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(76), ""), "{ran:?}");
    assert!(ran.err.contains("nightly is lost") && ran.err.contains("lock-lost"), "{ran:?}");
    assert_eq!(std::fs::read_to_string(heard).unwrap(), "heard\n");
}

#[tokio::test]
async fn a_command_that_ignores_sigterm_is_killed_when_the_lock_is_lost() {
    let server = TestServer::start().await;
    let place = Place::new();
    let script = format!("trap '' TERM; echo > {}; while :; do sleep 0.05; done", place.begun.display());
    let child = at(&server, &line(&["--ttl", "1s", "--kill-after", "100ms"], &script)).spawn().unwrap();
    pass(&place.begun).await;
    assert_eq!(server.delete("/v1/locks/nightly").await.status, 204);
    let ran = ended(child).await;
    assert_eq!(ran.code, Some(76), "{ran:?}");
}

#[tokio::test]
async fn a_server_that_is_gone_for_too_long_is_a_lost_lock() {
    let server = TestServer::start().await;
    let place = Place::new();
    let child = at(&server, &line(&["--ttl", "2s"], &place.script("echo never"))).spawn().unwrap();
    pass(&place.begun).await;
    server.stop().await;
    let ran = ended(child).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(76), ""), "{ran:?}");
    assert!(ran.err.contains("could not be renewed in time"), "{ran:?}");
}

#[tokio::test]
async fn a_lock_survives_a_short_absence_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new();
    let mut server = serve(folder.path(), "127.0.0.1:0").await;
    let url = format!("http://{}", server.api);
    let mut starting = command(&line(&["--ttl", "20s"], &place.script("echo survived")));
    let child = starting.env("MAINSTAY_SERVER", &url).spawn().unwrap();
    pass(&place.begun).await;
    server.child.kill().await.unwrap();
    let _server = serve(folder.path(), &server.api).await;
    let mut second = command(&line(&["--skip"], "echo both"));
    let skipped = ended(second.env("MAINSTAY_SERVER", &url).spawn().unwrap()).await;
    assert_eq!(skipped.code, Some(75), "the store remembers who has it: {skipped:?}");
    open(&place.go).await;
    assert_eq!(ended(child).await.ok(), "survived");
}

/// A server that grants the lock after a third of a TTL of 1 s and more, and hangs up on so many renewals before it
/// answers them. Its address, and the calls it has heard so far.
fn slow_server(mut hang_ups: usize) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let calls = Arc::new(Mutex::new(Vec::new()));
    let heard = calls.clone();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = std::io::BufReader::new(connection.unwrap());
            let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
            connection.read_line(&mut first).unwrap();
            while connection.read_line(&mut line).unwrap() > 2 {
                let (name, value) = line.split_once(':').unwrap();
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            std::io::copy(&mut connection.by_ref().take(length), &mut std::io::sink()).unwrap();
            let Some(path) = first.split(' ').nth(1) else { continue };
            let verb = path.rsplit('/').next().unwrap().to_owned();
            heard.lock().unwrap().push(verb.clone());
            let expires_at = "2030-01-01T00:00:00.000Z";
            let answer = match verb.as_str() {
                "acquire" => {
                    std::thread::sleep(Duration::from_millis(500));
                    json!({ "name": "nightly", "lease": "1-1", "token": 1, "expires_at": expires_at })
                }
                "renew" if hang_ups > 0 => {
                    hang_ups -= 1;
                    continue;
                }
                "renew" => json!({ "expires_at": expires_at }),
                _ => json!({ "released": true }),
            };
            let answer = answer.to_string();
            write!(
                connection.get_mut(),
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
                answer.len()
            )
            .unwrap();
        }
    });
    (url, calls)
}

#[tokio::test]
async fn a_lock_whose_first_renewal_does_not_come_through_is_renewed_and_the_command_runs() {
    let (url, calls) = slow_server(1);
    let mut starting = command(&line(&["--ttl", "1s"], "echo ran"));
    let ran = ended(starting.env("MAINSTAY_SERVER", &url).spawn().unwrap()).await;
    assert_eq!(ran.ok(), "ran");
    let calls = calls.lock().unwrap();
    assert_eq!(
        (&calls[..3], calls.last().unwrap().as_str()),
        (&["acquire".to_owned(), "renew".to_owned(), "renew".to_owned()][..], "release")
    );
}

#[tokio::test]
async fn a_lock_that_cannot_be_renewed_before_the_command_begins_is_given_back() {
    let (url, calls) = slow_server(usize::MAX);
    let mut starting = command(&line(&["--ttl", "1s"], "echo ran"));
    let ran = ended(starting.env("MAINSTAY_SERVER", &url).spawn().unwrap()).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(75), ""), "{ran:?}");
    assert_eq!(calls.lock().unwrap().last().unwrap(), "release");
}

#[tokio::test]
async fn who_is_interrupted_before_the_command_begins_gives_the_lock_back() {
    let (url, calls) = slow_server(usize::MAX);
    let mut starting = command(&line(&["--ttl", "1s"], "echo ran"));
    let mut child = starting.env("MAINSTAY_SERVER", &url).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let tries = timeout(PATIENCE, said.next_line()).await.expect("it says so").unwrap().unwrap();
    assert!(tries.contains("cannot renew nightly"), "{tries}");
    signal(&child, Signal::INT);
    let ran = ended(child).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(130), ""), "{ran:?}");
    assert_eq!(calls.lock().unwrap().last().unwrap(), "release");
}

#[tokio::test]
async fn signals_are_passed_on_and_the_lock_is_given_back() {
    let server = TestServer::start().await;
    let place = Place::new();
    let script = format!(
        "trap 'echo got it; exit 3' TERM; echo > {}; while :; do sleep 0.01; done",
        place.begun.display()
    );
    let child = at(&server, &line(&[], &script)).spawn().unwrap();
    pass(&place.begun).await;
    signal(&child, Signal::TERM);
    let ran = ended(child).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(3), "got it\n"), "{ran:?}");
    server.get("/v1/locks/nightly").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_command_that_a_signal_ends_is_128_and_its_number() {
    let server = TestServer::start().await;
    assert_eq!(locked(&server, &[], "kill -9 $$").await.code, Some(137));
}

#[tokio::test]
async fn who_is_interrupted_while_waiting_leaves_the_line_and_takes_nothing() {
    let server = TestServer::start().await;
    let lease = take(&server).await;
    let mut child = at(&server, &line(&["--wait"], "echo ran")).spawn().unwrap();
    server.get_until("/v1/locks/nightly", |lock| lock["waiters"][0]["position"] == 1).await;
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let waits = timeout(PATIENCE, said.next_line()).await.expect("it says so").unwrap().unwrap();
    assert!(waits.contains("held by somebody; waiting"), "{waits}");
    signal(&child, Signal::INT);
    let ran = ended(child).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(130), ""), "{ran:?}");
    assert_eq!(server.get("/v1/locks/nightly").await.is(200)["waiters"], json!([]));
    server.post("/v1/locks/nightly/release", json!({ "lease": lease })).await.is(200);
    // Passed over: the next one has the lock at once.
    let next = server.post("/v1/locks/nightly/acquire", json!({ "owner": "next", "wait_ms": 60000 })).await;
    next.is(200);
}

#[tokio::test]
async fn a_command_that_cannot_be_run_gives_the_lock_back() {
    let server = TestServer::start().await;
    let ran = run(&server, &["lock", "run", "nightly", "--", "/nonexistent/command"]).await;
    assert!(ran.err.contains("/nonexistent/command"), "{ran:?}");
    assert_eq!(ran.code, Some(127));
    let folder = tempfile::tempdir().unwrap();
    let ran = run(&server, &["lock", "run", "nightly", "--", folder.path().to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(126), "{ran:?}");
    server.get("/v1/locks/nightly").await.problem(404, "not-found");
}

#[tokio::test]
async fn no_server_is_69_and_a_wrong_span_is_usage() {
    let mut none = command(&line(&["--skip"], "echo ran"));
    // Port 9 of this machine: nobody listens there.
    let ran = ended(none.env("MAINSTAY_SERVER", "http://127.0.0.1:9").spawn().unwrap()).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(69), ""), "{ran:?}");
    for wrong in [&["--ttl", "30"][..], &["--ttl", "10ms"], &["--skip", "--wait"], &["--permits", "0"]] {
        let ran = ended(command(&line(wrong, "echo ran")).spawn().unwrap()).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{wrong:?}: {ran:?}");
    }
}

#[tokio::test]
async fn only_as_many_commands_run_as_there_are_permits() {
    let server = TestServer::start().await;
    let place = Place::new();
    let permits = ["--permits", "2", "--skip"];
    let first = at(&server, &line(&permits, &place.script("echo one"))).spawn().unwrap();
    pass(&place.begun).await;
    assert_eq!(locked(&server, &permits, "echo two").await.ok(), "two");
    let third = server.post("/v1/locks/nightly/acquire", json!({ "owner": "x", "permits": 2 })).await.is(200);
    assert_eq!(locked(&server, &permits, "echo three").await.code, Some(75));
    server.post("/v1/locks/nightly/release", json!({ "lease": third["lease"] })).await.is(200);
    open(&place.go).await;
    assert_eq!(ended(first).await.ok(), "one");
}

#[tokio::test]
async fn locks_are_listed_shown_and_broken() {
    let server = Setup::default().manual_clock().start().await;
    let none = run(&server, &["locks", "list"]).await;
    assert!(none.err.contains("no locks"), "{none:?}");
    take(&server).await;
    server.post("/v1/locks/other/acquire", json!({ "owner": "o", "permits": 3 })).await.is(200);
    let list = run(&server, &["locks", "list", "--prefix", "night"]).await.ok();
    assert!(list.contains("nightly") && list.contains("somebody") && !list.contains("other"), "{list}");
    let shown = run(&server, &["locks", "show", "other"]).await.ok();
    assert!(shown.contains("semaphore") && shown.contains("3 permits"), "{shown}");
    let shown = run(&server, &["locks", "show", "nightly", "--output", "json"]).await.json();
    assert_eq!(shown["holders"][0]["owner"], "somebody");
    assert_eq!(run(&server, &["locks", "break", "nightly"]).await.code, Some(2), "it wants a yes");
    run(&server, &["locks", "break", "nightly", "--yes"]).await.ok();
    let gone = run(&server, &["locks", "show", "nightly"]).await.failed(1);
    assert!(gone.contains("not-found"), "{gone}");
    server.advance(secs(30));
}

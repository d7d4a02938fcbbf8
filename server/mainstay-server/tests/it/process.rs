//! The binary: exit codes, addresses, signals.

use std::path::Path;
use std::process::{ExitStatus, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::client::Request;

fn serve(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    command.arg("serve").args(args).current_dir(dir).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs a server that is not to start; answers its exit code and what it said.
async fn refused(dir: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = serve(dir, args).output().await.unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Starts a server; it is up when this returns.
async fn start(dir: &Path, args: &[&str]) -> (Child, String) {
    let free = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-level", "warn"];
    let args: Vec<_> = free.iter().chain(args).copied().collect();
    up(serve(dir, &args)).await
}

async fn up(mut command: Command) -> (Child, String) {
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    match lines.next_line().await.unwrap() {
        Some(line) => (child, line),
        None => {
            let mut error = String::new();
            child.stderr.take().unwrap().read_to_string(&mut error).await.unwrap();
            panic!("the server did not start: {error}");
        }
    }
}

fn signal(child: &Child, number: rustix::process::Signal) {
    let id = rustix::process::Pid::from_raw(child.id().unwrap() as i32).unwrap();
    rustix::process::kill_process(id, number).unwrap();
}

async fn terminated(mut child: Child) -> ExitStatus {
    signal(&child, rustix::process::Signal::TERM);
    child.wait().await.unwrap()
}

#[tokio::test]
async fn an_ephemeral_server_goes_with_the_process_that_started_it() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$0\" serve --ephemeral --log-level warn & wait", env!("CARGO_BIN_EXE_mainstay")]);
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut parent = shell.spawn().unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    assert!(lines.next_line().await.unwrap().unwrap().starts_with("mainstay api http://127.0.0.1:"));
    parent.kill().await.unwrap();
    // Its end of the pipe closes when it has gone.
    let end = tokio::time::timeout(mainstay::secs(20), lines.next_line()).await;
    assert_eq!(end.expect("the server has gone").unwrap(), None);
}

#[test]
fn a_test_has_a_server_of_its_own() {
    let server = mainstay::testing::TestServer::of(env!("CARGO_BIN_EXE_mainstay"), &["--log-level", "warn"]);
    let address = server.url().trim_start_matches("http://").to_owned();
    assert!(std::net::TcpStream::connect(&address).is_ok(), "{address}");
    assert_ne!(server.url(), server.admin_url());
    assert_eq!(server.stop(), 0);
    assert!(std::net::TcpStream::connect(&address).is_err());
}

#[test]
#[should_panic(expected = "unexpected argument")]
fn a_server_that_does_not_start_tells_the_test_why() {
    mainstay::testing::TestServer::of(env!("CARGO_BIN_EXE_mainstay"), &["--frobnicate"]);
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_with_its_code_and_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let rows: [(&[&str], i32, &[&str]); 9] = [
        (&["--frobnicate"], 2, &["--frobnicate"]),
        (&["--grace-ms", "soon"], 2, &["--grace-ms"]),
        (&["--listen", "nowhere"], 2, &["HOST:PORT"]),
        (&["--store", "mysql:x"], 78, &["memory:", "sqlite:PATH", "postgres:"]),
        (&["--store", "redis://localhost"], 78, &["redis"]),
        (&["--store", "http://127.0.0.1:6246"], 78, &["store:", "another server", "sqlite:PATH"]),
        (&["--store", "sqlite:/nowhere/at/all.db"], 69, &["/nowhere/at"]),
        (&["--store", "memory:", "--listen", "0.0.0.0:0"], 78, &["mainstay token create", "0.0.0.0"]),
        (&["--store", "memory:", "--grace-ms", "1000", "--drain-ms", "5000"], 78, &["grace_ms", "drain_ms"]),
    ];
    for (args, code, parts) in rows {
        let (exit, text) = refused(dir.path(), args).await;
        assert_eq!(exit, Some(code), "{args:?}: {text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{args:?}: {text}");
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_had_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let elsewhere = "192.0.2.1:6246"; // nobody's: RFC 5737
    let token = "tokens = [{ name = \"t\", hash = \"";
    std::fs::write(
        dir.path().join("m.toml"),
        format!("{token}{}\", scopes = [\"admin\"] }}]\n", "0".repeat(64)),
    )
    .unwrap();
    let free = "127.0.0.1:0";
    for (listen, admin, on, code) in
        [(&*address, free, &*address, 69), (free, &address, &address, 69), (elsewhere, free, elsewhere, 78)]
    {
        let args = ["--config", "m.toml", "--store", "memory:", "--listen", listen, "--admin-listen", admin];
        let (exit, text) = refused(dir.path(), &args).await;
        assert_eq!(exit, Some(code), "{args:?}: {text}");
        for part in [on, "stop it or choose another address"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[tokio::test]
async fn a_file_with_three_mistakes_reports_three() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("m.toml"), "grace_ms = \"x\"\nlissten = \"a:1\"\nstore = \"mysql:\"\n")
        .unwrap();
    let (exit, text) = refused(dir.path(), &["--config", "m.toml"]).await;
    assert_eq!(exit, Some(78), "{text}");
    for part in ["3 problems", "grace_ms", "did you mean `listen`", "mysql:"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn the_bound_addresses_are_told_and_sigterm_is_a_clean_end() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--store", "sqlite:./a.db", "--addr-file", "addr.json", "--lame-duck-ms", "0"];
    let (child, line) = start(dir.path(), &args).await;
    let text = std::fs::read_to_string(dir.path().join("addr.json")).unwrap();
    let addresses: Value = serde_json::from_str(&text).unwrap();
    let api = addresses["api"].as_str().unwrap().parse().unwrap();
    assert!(line.contains(&format!("http://{api}")), "{line}");
    let made =
        Request::new(api, "POST", "/v1/queues/q/jobs").json(json!({ "kind": "k" })).send().await.is(201);
    assert_eq!(terminated(child).await.code(), Some(0));

    // What was acknowledged is there again, also after an end without a goodbye.
    let path = format!("/v1/jobs/{}", made["id"].as_str().unwrap());
    for end in [rustix::process::Signal::KILL, rustix::process::Signal::TERM] {
        let (mut child, _) = start(dir.path(), &args).await;
        let text = std::fs::read_to_string(dir.path().join("addr.json")).unwrap();
        let api = serde_json::from_str::<Value>(&text).unwrap()["api"].as_str().unwrap().parse().unwrap();
        assert_eq!(Request::new(api, "GET", &path).send().await.is(200)["state"], "available");
        signal(&child, end);
        child.wait().await.unwrap();
    }
}

#[tokio::test]
async fn requests_are_exported_as_traces_when_a_collector_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let collector = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let args =
        ["--listen", "127.0.0.1:0", "--admin-listen", "off", "--store", "memory:", "--log-level", "warn"];
    let mut command = serve(dir.path(), &args);
    command.args(["--lame-duck-ms", "0", "--addr-file", "addr.json"]);
    command.env("MAINSTAY_OTLP_ENDPOINT", format!("http://{}", collector.local_addr().unwrap()));
    let (child, _) = up(command).await;
    let text = std::fs::read_to_string(dir.path().join("addr.json")).unwrap();
    let api = serde_json::from_str::<Value>(&text).unwrap()["api"].as_str().unwrap().parse().unwrap();
    Request::new(api, "GET", "/v1/store").send().await.is(200);
    // The end sends what is queued.
    let export = async {
        let (mut stream, _) = collector.accept().await.unwrap();
        let mut text = Vec::new();
        while !String::from_utf8_lossy(&text).contains("GET /v1/store") {
            assert_ne!(stream.read_buf(&mut text).await.unwrap(), 0, "{}", String::from_utf8_lossy(&text));
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
        String::from_utf8_lossy(&text).into_owned()
    };
    let export = tokio::time::timeout(std::time::Duration::from_secs(30), export);
    let (status, export) = tokio::join!(terminated(child), export);
    assert_eq!(status.code(), Some(0));
    assert!(export.expect("an export in time").starts_with("POST /v1/traces HTTP/1.1"));
}

//! Whole processes: signals, exit codes, and the watchdog. They run the example `service`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use mainstay::millis;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

use crate::harness::{PATIENCE, Raw, get};

/// Beside this test's own executable, built by the same `cargo test`.
pub fn example(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().expect("our own path");
    path.pop();
    path.pop();
    path.push("examples");
    path.push(name);
    if !path.exists() {
        // Somebody asked for this test alone.
        let cargo = std::process::Command::new(env!("CARGO"))
            .args(["build", "-p", "mainstay", "--example", name])
            .status();
        assert!(cargo.is_ok_and(|status| status.success()), "the example could not be built");
    }
    path
}

pub struct Service {
    pub child: Child,
    out: Lines<BufReader<ChildStdout>>,
    log: Lines<BufReader<ChildStderr>>,
    pub logged: String,
}

pub struct Exit {
    pub code: Option<i32>,
    pub stderr: String,
    pub stdout: String,
}

impl Service {
    pub fn spawn(variables: &[(&str, &str)]) -> Self {
        Self::run(Command::new(example("service")), variables)
    }

    pub fn run(mut command: Command, variables: &[(&str, &str)]) -> Self {
        let mut child = command
            .env("SERVICE_ADMIN_LISTEN", "127.0.0.1:0")
            .env("SERVICE_LOG_FORMAT", "plain")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the service starts");
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, out, log, logged: String::new() }
    }

    pub async fn line(&mut self) -> String {
        timeout(PATIENCE, self.out.next_line()).await.expect("a line in time").unwrap().expect("a line")
    }

    /// Waits until the log says so.
    pub async fn logs(&mut self, text: &str) {
        let reading = async {
            while let Some(line) = self.log.next_line().await.unwrap() {
                self.logged.push_str(&line);
                self.logged.push('\n');
                if line.contains(text) {
                    return;
                }
            }
            panic!("`{text}` was not logged: {}", self.logged);
        };
        timeout(PATIENCE, reading).await.expect("a log line in time");
    }

    pub async fn up(&mut self) -> (SocketAddr, SocketAddr) {
        let line = self.line().await;
        let (api, admin) = line.split_once(' ').unwrap();
        let (api, admin) = (api.parse().unwrap(), admin.parse().unwrap());
        // It is printed when both are bound, just before it is ready.
        readiness(admin, 200).await;
        (api, admin)
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().unwrap() as i32).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub async fn exit(mut self) -> Exit {
        let mut stderr = self.logged;
        // Read while it ends: a full pipe would keep its last lines.
        let reading = async {
            while let Ok(Some(line)) = self.log.next_line().await {
                stderr.push_str(&line);
                stderr.push('\n');
            }
        };
        let waiting = async { self.child.wait().await.unwrap() };
        let ended = timeout(PATIENCE, async { tokio::join!(waiting, reading).0 }).await;
        let status = ended.expect("it ends");
        let mut stdout = String::new();
        while let Ok(Some(line)) = self.out.next_line().await {
            stdout.push_str(&line);
        }
        Exit { code: status.code(), stderr, stdout }
    }
}

/// Waits until the readiness probe answers so; signals are asynchronous.
pub async fn readiness(admin: SocketAddr, status: u16) {
    let asking = async { while get(admin, "/readyz").await.status != status {} };
    timeout(PATIENCE, asking).await.expect("readiness changes in time");
}

pub async fn draining(admin: SocketAddr) {
    readiness(admin, 503).await;
}

/// Far beyond the harness's patience: a test that waits for it fails.
const LONG_LAME_DUCK: &[(&str, &str)] = &[("SERVICE_GRACE_MS", "120000"), ("SERVICE_LAME_DUCK_MS", "60000")];

#[tokio::test]
async fn sigterm_drains_in_phases_and_exits_0() {
    let mut service = Service::spawn(&[("SERVICE_GRACE_MS", "10000"), ("SERVICE_LAME_DUCK_MS", "2000")]);
    let (api, admin) = service.up().await;
    service.signal(Signal::TERM);
    draining(admin).await;
    let answer = get(api, "/").await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    let exit = service.exit().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert_eq!(exit.stdout, "greeter stopped");
    assert!(exit.stderr.contains("everything drained"), "{}", exit.stderr);
}

#[tokio::test]
async fn ctrl_c_has_no_lame_duck() {
    let mut service = Service::spawn(LONG_LAME_DUCK);
    service.up().await;
    service.signal(Signal::INT);
    let exit = service.exit().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_named_and_the_exit_is_1() {
    let mut service = Service::spawn(&[
        ("SERVICE_GRACE_MS", "6000"),
        ("SERVICE_LAME_DUCK_MS", "0"),
        ("SERVICE_DRAIN_MS", "200"),
        ("SERVICE_CANCEL_MS", "100"),
    ]);
    let (api, _) = service.up().await;
    let mut client = Raw::open(api).await;
    client.send("GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await;
    // Another request on the same listener, so that the first is certainly being handled.
    get(api, "/").await;
    service.signal(Signal::TERM);
    let exit = service.exit().await;
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    assert!(exit.stderr.contains(r#"what="GET /never""#), "{}", exit.stderr);
}

#[tokio::test]
async fn a_second_signal_cancels() {
    let mut service = Service::spawn(LONG_LAME_DUCK);
    let (api, admin) = service.up().await;
    let mut client = Raw::open(api).await;
    client.send("GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await;
    get(api, "/").await;
    service.signal(Signal::TERM);
    draining(admin).await;
    service.signal(Signal::TERM);
    let exit = service.exit().await;
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    assert!(exit.stderr.contains("second signal") && exit.stderr.contains("GET /never"), "{}", exit.stderr);
}

#[tokio::test]
async fn after_a_requested_drain_the_first_signal_counts_as_the_second() {
    let mut service = Service::spawn(LONG_LAME_DUCK);
    let (_, admin) = service.up().await;
    let mut client = Raw::open(admin).await;
    client.send("POST /admin/drain HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap().status, 202);
    service.signal(Signal::TERM);
    let exit = service.exit().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
}

/// A service with one thread, which is blocked.
async fn blocked(variables: &[(&str, &str)]) -> (Service, SocketAddr) {
    let all: Vec<_> = variables.iter().copied().chain([("SERVICE_THREADS", "1")]).collect();
    let mut service = Service::spawn(&all);
    let (api, admin) = service.up().await;
    let mut client = Raw::open(api).await;
    client.send("GET /block HTTP/1.1\r\nhost: x\r\n\r\n").await;
    // Blocked when nothing is answered any more.
    loop {
        let mut probe = Raw::open(api).await;
        probe.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        if timeout(millis(300), probe.answer()).await.is_err() {
            break;
        }
    }
    std::mem::forget(client);
    (service, admin)
}

#[tokio::test]
async fn a_blocked_runtime_still_answers_probes_and_exits_before_the_grace_ends() {
    let (service, admin) = blocked(&[("SERVICE_GRACE_MS", "2000")]).await;
    service.signal(Signal::TERM);
    draining(admin).await;
    let exit = service.exit().await;
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    assert!(exit.stderr.contains("still running: GET /block"), "{}", exit.stderr);
}

#[tokio::test]
async fn a_third_signal_ends_even_a_blocked_runtime_at_once() {
    let (mut service, admin) = blocked(&[]).await;
    service.signal(Signal::TERM);
    draining(admin).await;
    service.signal(Signal::INT);
    // Signals of one kind that arrive together are one.
    service.logs("second signal").await;
    service.signal(Signal::TERM);
    let exit = service.exit().await;
    assert_eq!(exit.code, Some(128 + 15), "{}", exit.stderr);
}

#[tokio::test]
async fn a_signal_while_starting_undoes_the_start() {
    let mut service = Service::spawn(&[("SERVICE_HANG", "true")]);
    assert_eq!(service.line().await, "hanging");
    service.signal(Signal::TERM);
    let exit = service.exit().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert_eq!(exit.stdout, "greeter stopped");
}

#[tokio::test]
async fn a_wrong_configuration_exits_78_and_says_everything() {
    let service = Service::spawn(&[
        ("SERVICE_GRACE_MS", "soon"),
        ("SERVICE_HANG", "maybe"),
        ("SERVICE_THREADS", "few"),
    ]);
    let exit = service.exit().await;
    assert_eq!(exit.code, Some(78));
    assert!(exit.stderr.contains("configuration has 3 problems"), "{}", exit.stderr);
    for name in ["SERVICE_GRACE_MS", "SERVICE_HANG", "SERVICE_THREADS"] {
        assert!(exit.stderr.contains(name), "{}", exit.stderr);
    }
}

#[tokio::test]
async fn running_out_of_file_descriptors_is_survived() {
    let mut command = Command::new("sh");
    command.arg("-c").arg("ulimit -n 40; exec \"$0\"").arg(example("service"));
    let mut service = Service::run(command, &[]);
    let (api, _) = service.up().await;
    let mut many = Vec::new();
    for _ in 0..60 {
        many.push(Raw::open(api).await); // the kernel accepts them; the service cannot
    }
    service.logs("cannot accept connections").await;
    drop(many);
    assert_eq!(get(api, "/").await.status, 200);
    service.signal(Signal::INT);
    let exit = service.exit().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let complaints = exit.stderr.matches("cannot accept connections").count();
    assert!(complaints < 10, "it complained {complaints} times");
}

#[tokio::test]
async fn the_service_manager_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    let mut service = Service::spawn(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    service.up().await;
    let mut bytes = [0; 64];
    for expected in ["READY=1", "STOPPING=1"] {
        let length = timeout(PATIENCE, socket.recv(&mut bytes)).await.unwrap().unwrap();
        assert_eq!(std::str::from_utf8(&bytes[..length]).unwrap(), expected);
        service.signal(Signal::INT);
    }
}

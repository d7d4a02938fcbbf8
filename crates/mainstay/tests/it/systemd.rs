//! What systemd is told, and what it passes: a fake notify socket, and a real passed file descriptor.

use std::net::TcpListener;
use std::os::fd::OwnedFd;

use mainstay::{millis, secs};
use rustix::process::Signal;
use tokio::net::UnixDatagram;
use tokio::process::Command;
use tokio::time::timeout;

use crate::harness::{PATIENCE, Raw, get};
use crate::process::{Service, example};

/// A socket as systemd makes it, and its path.
fn notify_socket() -> (UnixDatagram, String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    (socket, path.to_str().unwrap().to_owned(), folder)
}

async fn told(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 256];
    let length = timeout(PATIENCE, socket.recv(&mut bytes)).await.expect("it is told in time").unwrap();
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

#[tokio::test]
async fn a_reload_is_told_with_its_time_and_ends_ready() {
    let (socket, path, _folder) = notify_socket();
    let mut service = Service::spawn(&[("NOTIFY_SOCKET", &path)]);
    service.up().await;
    assert_eq!(told(&socket).await, "READY=1");
    service.signal(Signal::HUP);
    let reloading = told(&socket).await;
    let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&reloading);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let time: i64 = time.parse().unwrap();
    assert!(time > 0 && time <= now.tv_sec * 1_000_000 + now.tv_nsec / 1000, "{time}");
    assert_eq!(told(&socket).await, "READY=1");
    service.signal(Signal::INT);
    assert_eq!(told(&socket).await, "STOPPING=1");
    assert_eq!(service.exit().await.code, Some(0));
}

/// What was told and not received yet.
fn told_since(socket: &UnixDatagram) -> Vec<String> {
    let mut bytes = [0; 256];
    let next = || socket.try_recv(&mut bytes).ok().map(|n| String::from_utf8_lossy(&bytes[..n]).into_owned());
    std::iter::from_fn(next).collect()
}

#[tokio::test]
async fn a_reload_before_the_start_or_after_the_end_has_begun_tells_nothing() {
    let (socket, path, _folder) = notify_socket();
    let mut stopping = Service::spawn(&[("NOTIFY_SOCKET", &path)]);
    stopping.up().await;
    assert_eq!(told(&socket).await, "READY=1");
    stopping.signal(Signal::TERM);
    assert_eq!(told(&socket).await, "STOPPING=1");
    stopping.signal(Signal::HUP);
    stopping.logs("cannot reload the configuration").await;
    stopping.signal(Signal::TERM);
    stopping.exit().await;
    assert_eq!(told_since(&socket), [""; 0]);

    let mut starting = Service::spawn(&[("NOTIFY_SOCKET", &path), ("SERVICE_HANG", "true")]);
    assert_eq!(starting.line().await, "hanging");
    starting.signal(Signal::HUP);
    starting.logs("cannot reload the configuration").await;
    starting.signal(Signal::TERM);
    starting.exit().await;
    let told = told_since(&socket);
    assert!(!told.iter().any(|told| told.starts_with("RE")), "neither RELOADING nor READY: {told:?}");
}

#[tokio::test]
async fn signs_of_life_are_sent_only_while_there_is_life() {
    let (socket, path, _folder) = notify_socket();
    let variables = [("NOTIFY_SOCKET", path.as_str()), ("WATCHDOG_USEC", "200000"), ("SERVICE_THREADS", "1")];
    let mut service = Service::spawn(&variables);
    let (api, admin) = service.up().await;
    let mut seen = Vec::new();
    while seen.iter().filter(|told: &&String| *told == "WATCHDOG=1").count() < 3 {
        seen.push(told(&socket).await);
    }
    assert!(seen.contains(&"READY=1".to_owned()), "{seen:?}");

    let mut client = Raw::open(api).await;
    client.send("GET /block HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let stalled = async { while get(admin, "/livez").await.status == 200 {} };
    timeout(PATIENCE, stalled).await.expect("liveness notices");
    let mut bytes = [0; 256];
    while socket.try_recv(&mut bytes).is_ok() {}
    // One may have been on its way; ten more would come.
    let _ = timeout(millis(150), socket.recv(&mut bytes)).await;
    assert!(timeout(secs(1), socket.recv(&mut bytes)).await.is_err(), "systemd is left to act");
}

/// Starts the service as systemd does: the socket is file descriptor 3, and the variables say so.
fn activated(socket: &TcpListener, listen: &str) -> Service {
    let script = "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web; exec \"$0\"";
    let mut command = Command::new("sh");
    let passed: OwnedFd = socket.try_clone().unwrap().into();
    command.arg("-c").arg(script).arg(example("service")).stdin(passed);
    Service::run(command, &[("SERVICE_LISTEN", listen), ("SERVICE_LAME_DUCK_MS", "0")])
}

#[tokio::test]
async fn a_passed_socket_is_served_and_nobody_is_refused_over_a_restart() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut first = activated(&socket, "fd:web");
    let (api, _) = first.up().await;
    assert_eq!(api, address);
    assert_eq!(get(address, "/").await.status, 200);
    first.signal(Signal::TERM);
    let exit = first.exit().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(!exit.stderr.contains("nothing listens on"), "{}", exit.stderr);

    // Nobody runs: the client waits in the backlog.
    let mut client = Raw::open(address).await;
    client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut second = activated(&socket, "fd:3");
    second.up().await;
    assert_eq!(client.answer().await.unwrap().status, 200);
}

#[tokio::test]
async fn a_socket_that_was_not_passed_is_a_configuration_error_and_one_that_is_not_used_is_said() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let exit = activated(&socket, "fd:wrong").exit().await;
    assert_eq!(exit.code, Some(78), "{}", exit.stderr);
    assert!(exit.stderr.contains("no free socket `wrong` was passed"), "{}", exit.stderr);
    assert!(exit.stderr.contains("fd:3 (`web`, 127.0.0.1:"), "what there is: {}", exit.stderr);

    let mut unused = activated(&socket, "127.0.0.1:0");
    unused.up().await;
    unused.logs("the service manager has passed a socket that nothing listens on").await;
}

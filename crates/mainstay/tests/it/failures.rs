//! The failure table of `docs/operations.md`: each row on a real process. What takes how long is measured by
//! `scripts/failure-table`, not here.

use std::net::SocketAddr;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::harness::{PATIENCE, Raw, get};
use crate::process::{Exit, Service, example};

/// No lame duck, and short phases: what overstays is cut soon.
const QUICK: &[(&str, &str)] = &[
    ("SERVICE_GRACE_MS", "10000"),
    ("SERVICE_LAME_DUCK_MS", "0"),
    ("SERVICE_DRAIN_MS", "1500"),
    ("SERVICE_CANCEL_MS", "200"),
];

async fn quick() -> (Service, SocketAddr) {
    let mut service = Service::spawn(QUICK);
    let (api, _) = service.up().await;
    (service, api)
}

/// A client in the middle of something.
async fn client(to: SocketAddr, sends: &str) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(sends.as_bytes()).await.unwrap();
    // Another request on the same listener: what was sent before has been taken up.
    get(to, "/").await;
    stream
}

/// Everything that comes until the other side closes, or resets.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reading = async { while stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {} };
    timeout(PATIENCE, reading).await.expect("the connection ends");
    bytes
}

/// Reads until `text` has come.
async fn until(stream: &mut TcpStream, text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&bytes).contains(text) {
            assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "closed before `{text}`");
        }
    };
    timeout(PATIENCE, reading).await.expect("it comes in time");
    bytes
}

/// It was cut and named, with where it came from, how old it was and what it ran in.
fn named(exit: &Exit, what: &str) {
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    let line = exit.stderr.lines().find(|line| line.contains("was cut") && line.contains(what));
    let line = line.unwrap_or_else(|| panic!("`{what}` is not named: {}", exit.stderr));
    assert!(line.contains("age_ms=") && line.contains("whence="), "{line}");
    assert!(line.contains("span=") && line.contains("request_id="), "{line}");
    assert_eq!(exit.stdout, "greeter stopped", "what is left behind does not keep the rest from stopping");
}

fn drained(exit: &Exit) {
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(
        exit.stderr.contains("everything drained") && !exit.stderr.contains("was cut"),
        "{}",
        exit.stderr
    );
    assert_eq!(exit.stdout, "greeter stopped");
}

async fn misbehaving(how: &str) -> Exit {
    Service::spawn(&[QUICK, &[("SERVICE_MISBEHAVE", how)]].concat()).exit().await
}

#[tokio::test]
async fn a_start_hook_that_hangs_is_given_up_and_undone() {
    let exit = misbehaving("hang-start").await;
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(1), "greeter stopped"), "{}", exit.stderr);
    assert!(exit.stderr.contains("slow db did not start within 300 ms"), "{}", exit.stderr);
}

#[tokio::test]
async fn a_component_that_fails_undoes_the_start_and_decides_the_exit_code() {
    let exit = misbehaving("fail-start").await;
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(69), "greeter stopped"), "{}", exit.stderr);
    assert!(exit.stderr.contains("cannot start db: connection refused"), "{}", exit.stderr);
}

#[tokio::test]
async fn a_loop_that_fails_stops_the_service() {
    let mut service = Service::spawn(&[QUICK, &[("SERVICE_MISBEHAVE", "fail-loop")]].concat());
    service.line().await; // it came up
    let exit = service.exit().await;
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(1), "greeter stopped"), "{}", exit.stderr);
    assert!(exit.stderr.contains("loop tail failed: the log is gone"), "{}", exit.stderr);
}

#[tokio::test]
async fn a_loop_that_is_restarted_does_not_stop_the_service() {
    let mut service = Service::spawn(&[QUICK, &[("SERVICE_MISBEHAVE", "restart-loop")]].concat());
    service.up().await;
    service.logs("loop failed, restarting it").await;
    service.signal(Signal::TERM);
    drained(&service.exit().await);
}

#[tokio::test]
async fn a_stop_hook_that_hangs_is_left_behind_and_named() {
    let mut service = Service::spawn(&[QUICK, &[("SERVICE_MISBEHAVE", "hang-stop")]].concat());
    service.up().await;
    service.signal(Signal::TERM);
    let exit = service.exit().await;
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(1), "greeter stopped"), "{}", exit.stderr);
    assert!(exit.stderr.contains(r#"was cut what=bus whence="did not stop in time""#), "{}", exit.stderr);
}

#[tokio::test]
async fn a_blocking_task_is_left_behind_and_named() {
    let (service, api) = quick().await;
    assert_eq!(get(api, "/hash").await.body, "begun\n");
    service.signal(Signal::TERM);
    named(&service.exit().await, "task hash");
}

#[tokio::test]
async fn event_streams_are_told_and_end() {
    let (service, api) = quick().await;
    let mut stream = client(api, "GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await;
    until(&mut stream, "data: tick").await;
    service.signal(Signal::TERM);
    let rest = String::from_utf8(rest(&mut stream).await).unwrap();
    assert!(
        rest.contains("event: drain\ndata: {}\n\n") && rest.ends_with("0\r\n\r\n"),
        "it ended in order: {rest}"
    );
    drained(&service.exit().await);
}

#[tokio::test]
async fn an_event_stream_that_is_not_told_is_cut_and_named() {
    let (service, api) = quick().await;
    let mut stream = client(api, "GET /events-deaf HTTP/1.1\r\nhost: x\r\n\r\n").await;
    until(&mut stream, "data: tick").await;
    service.signal(Signal::TERM);
    let rest = String::from_utf8(rest(&mut stream).await).unwrap();
    assert!(!rest.ends_with("0\r\n\r\n"), "a cut body must not look whole: {rest}");
    named(&service.exit().await, "GET /events-deaf");
}

async fn websocket(to: SocketAddr, path: &str) -> TcpStream {
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let mut stream = client(to, &head).await;
    let answer = until(&mut stream, "\r\n\r\n").await;
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}

#[tokio::test]
async fn websockets_are_closed_with_1001_when_told() {
    let (service, api) = quick().await;
    let mut socket = websocket(api, "/ws").await;
    // A text frame, masked with zeros, comes back.
    socket.write_all(b"\x81\x82\0\0\0\0hi").await.unwrap();
    assert!(until(&mut socket, "hi").await.ends_with(b"hi"));
    service.signal(Signal::TERM);
    let close = until(&mut socket, "restarting").await;
    assert_eq!(close[..4], [0x88, 12, 0x03, 0xe9], "a close frame with 1001: {close:?}");
    socket.write_all(b"\x88\x82\0\0\0\0\x03\xe9").await.unwrap();
    assert!(rest(&mut socket).await.is_empty());
    drained(&service.exit().await);
}

#[tokio::test]
async fn a_websocket_that_is_not_told_is_in_flight_and_cut_and_named() {
    let (service, api) = quick().await;
    let mut socket = websocket(api, "/ws-deaf").await;
    service.signal(Signal::TERM);
    assert!(rest(&mut socket).await.is_empty());
    named(&service.exit().await, "GET /ws-deaf");
}

#[tokio::test]
async fn half_sent_heads_and_idle_connections_are_closed_and_nothing_is_lost_with_them() {
    let (service, api) = quick().await;
    let mut half = client(api, "GET / HTTP/1.1\r\nhost: x\r\nx-half").await;
    let mut idle = Raw::open(api).await;
    assert_eq!(idle.get("/").await.status, 200);
    service.signal(Signal::TERM);
    assert!(rest(&mut half).await.is_empty() && rest(&mut idle.0).await.is_empty());
    drained(&service.exit().await);
}

#[tokio::test]
async fn a_half_sent_body_is_cut_and_named() {
    let (service, api) = quick().await;
    let mut half = client(api, "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc").await;
    service.signal(Signal::TERM);
    rest(&mut half).await;
    named(&service.exit().await, "POST /echo");
}

#[tokio::test]
async fn a_body_that_arrives_in_the_drain_is_answered() {
    let (service, api) = quick().await;
    let mut half = client(api, "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\nabc").await;
    service.signal(Signal::TERM);
    // The listener is closed when nobody can connect any more: the drain has begun.
    while TcpStream::connect(api).await.is_ok() {
        tokio::task::yield_now().await;
    }
    half.write_all(b"def").await.unwrap();
    let answer = String::from_utf8(rest(&mut half).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("abcdef"), "{answer}");
    drained(&service.exit().await);
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_cut_and_named() {
    let (service, api) = quick().await;
    let slow = client(api, "GET /big HTTP/1.1\r\nhost: x\r\n\r\n").await;
    service.signal(Signal::TERM);
    named(&service.exit().await, "GET /big");
    drop(slow);
}

#[tokio::test]
async fn an_http2_stream_in_flight_finishes() {
    let (service, api) = quick().await;
    let (mut used, ended) = crate::http::http2(api).await;
    let mut slow = used.clone();
    let slow = async { crate::http::h2_get(&mut slow, "/slow").await.unwrap() };
    let signal = async {
        crate::http::h2_get(&mut used, "/").await.unwrap(); // the slow one was sent before
        service.signal(Signal::TERM);
    };
    let (answer, ()) = tokio::join!(slow, signal);
    assert_eq!(answer, "slow\n");
    assert!(timeout(PATIENCE, ended).await.unwrap().unwrap(), "GOAWAY, then the end");
    drained(&service.exit().await);
}

#[tokio::test]
async fn an_http2_stream_that_overstays_is_cut_and_named() {
    let (service, api) = quick().await;
    let (mut used, _ended) = crate::http::http2(api).await;
    let mut never = used.clone();
    let never = async { crate::http::h2_get(&mut never, "/never").await };
    let signal = async {
        crate::http::h2_get(&mut used, "/").await.unwrap();
        service.signal(Signal::TERM);
    };
    let (answer, ()) = tokio::join!(never, signal);
    assert!(answer.is_err(), "a stream that is cut does not look answered");
    named(&service.exit().await, "GET /never");
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_nothing_up() {
    let mut service = Service::spawn(QUICK);
    let (api, admin) = service.up().await;
    // Many times what a pipe holds; nobody reads ours.
    assert_eq!(get(api, "/log").await.body, "logged\n");
    assert_eq!(get(api, "/").await.status, 200);
    service.signal(Signal::TERM);
    let code = timeout(PATIENCE, service.child.wait()).await.expect("it ends").unwrap().code();
    assert_eq!(code, Some(0));
    let _ = admin;
}

#[tokio::test]
async fn a_log_on_a_full_disk_holds_nothing_up() {
    let mut command = Command::new("sh");
    command.arg("-c").arg("exec \"$0\" 2>/dev/full").arg(example("service"));
    let mut service = Service::run(command, QUICK);
    let (api, _) = service.up().await;
    assert_eq!(get(api, "/log").await.body, "logged\n");
    service.signal(Signal::TERM);
    let exit = service.exit().await;
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(0), "greeter stopped"));
}

#[tokio::test]
async fn a_statsd_sink_that_cannot_be_reached_holds_nothing_up() {
    for sink in ["udp://127.0.0.1:9", "udp://192.0.2.1:8125", "unix:///nowhere/statsd.sock"] {
        let sinks = [("SERVICE_STATSD", sink), ("SERVICE_STATSD_INTERVAL_MS", "100")];
        let mut service = Service::spawn(&[QUICK, &sinks].concat());
        let (api, _) = service.up().await;
        assert_eq!(get(api, "/").await.status, 200);
        service.signal(Signal::TERM);
        drained(&service.exit().await);
    }
}

/// As many as a process may have open where nobody has raised the limit, half of them on either side.
const MANY: usize = 400;

#[tokio::test]
async fn many_connections_drain_while_probes_answer_and_no_accepted_request_is_lost() {
    let mut service = Service::spawn(&[("SERVICE_LAME_DUCK_MS", "0")]);
    let (api, admin) = service.up().await;
    let mut clients = Vec::new();
    for _ in 0..MANY {
        let mut stream = TcpStream::connect(api).await.unwrap();
        let head = "POST /echo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 6\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        // The handler asks for the body: the request is accepted.
        until(&mut stream, "100 Continue\r\n\r\n").await;
        clients.push(stream);
    }
    service.signal(Signal::TERM);
    while TcpStream::connect(api).await.is_ok() {
        tokio::task::yield_now().await;
    }
    for (n, stream) in clients.iter_mut().enumerate() {
        stream.write_all(b"abcdef").await.unwrap();
        let answer = String::from_utf8(rest(stream).await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("abcdef"), "{n}: {answer}");
        if n % 100 == 0 {
            assert_eq!(get(admin, "/livez").await.status, 200);
            let ready = get(admin, "/readyz").await;
            assert!(ready.status == 503 && ready.body.contains("draining"), "{ready:?}");
        }
    }
    drained(&service.exit().await);
}

#[tokio::test]
async fn phases_that_exceed_the_grace_are_a_configuration_error() {
    let service = Service::spawn(&[("SERVICE_GRACE_MS", "5000"), ("SERVICE_DRAIN_MS", "5000")]);
    let exit = service.exit().await;
    assert_eq!(exit.code, Some(78));
    assert!(exit.stderr.contains("5000 is too short: drain_ms come to 5000"), "{}", exit.stderr);
}

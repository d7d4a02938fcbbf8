//! Traces of a real process, at a collector that takes them and at one that does not. They run the example `traced`.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::harness::{PATIENCE, Raw};
use crate::process::example;

async fn start(endpoint: &str) -> (Child, Raw) {
    let mut child = Command::new(example("traced"))
        .env("TRACED_ADMIN_LISTEN", "127.0.0.1:0")
        .env("TRACED_LAME_DUCK_MS", "0")
        .env("TRACED_OTLP_ENDPOINT", endpoint)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(PATIENCE, out.next_line()).await.expect("an address in time").unwrap();
    let api = line.expect("an address").parse().unwrap();
    (child, Raw::open(api).await)
}

async fn end(mut child: Child) -> Option<i32> {
    kill_process(Pid::from_raw(child.id().unwrap() as i32).unwrap(), Signal::TERM).unwrap();
    timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap().code()
}

/// Takes one export and answers it.
async fn export(collector: &TcpListener) -> Value {
    let (mut stream, _) = timeout(PATIENCE, collector.accept()).await.expect("an export in time").unwrap();
    let mut bytes = Vec::new();
    let body = loop {
        stream.read_buf(&mut bytes).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() >= length.parse::<usize>().unwrap() {
            break body.to_owned();
        }
    };
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    serde_json::from_str(&body).unwrap()
}

const ORDER: &str = "GET /order HTTP/1.1\r\nhost: x\r\nx-request-id: o-1\r\n\
                     traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";

#[tokio::test]
async fn request_and_attempt_are_spans_of_the_callers_trace() {
    let collector = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let (child, mut raw) = start(&endpoint).await;
    raw.send(ORDER).await;
    assert_eq!(raw.answer().await.unwrap().status, 200);
    raw.send("GET /hello HTTP/1.1\r\nhost: x\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203331-00\r\n\r\n").await;
    assert_eq!(raw.answer().await.unwrap().status, 200);

    let mut spans: Vec<Value> = Vec::new();
    let named = |spans: &[Value], name: &str| spans.iter().find(|span| span["name"] == name).cloned();
    while named(&spans, "GET /order").is_none() || named(&spans, "process ship").is_none() {
        let export = export(&collector).await;
        let resource = &export["resourceSpans"][0];
        assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "traced");
        spans.extend(resource["scopeSpans"][0]["spans"].as_array().unwrap().clone());
    }
    let (request, attempt) = (named(&spans, "GET /order").unwrap(), named(&spans, "process ship").unwrap());
    for span in [&request, &attempt] {
        assert_eq!(span["traceId"], "0af7651916cd43dd8448eb211c80319c", "{span}");
        let time = |name: &str| span[name].as_str().unwrap().parse::<u128>().unwrap();
        assert!(
            time("startTimeUnixNano") > 1_700_000_000_000_000_000
                && time("startTimeUnixNano") <= time("endTimeUnixNano")
        );
        assert!(
            span["attributes"]
                .to_string()
                .contains(r#"{"key":"mainstay.request_id","value":{"stringValue":"o-1"}}"#)
        );
    }
    assert_eq!((&request["parentSpanId"], &request["kind"]), (&"b7ad6b7169203331".into(), &2.into()));
    assert_eq!((&attempt["parentSpanId"], &attempt["kind"]), (&request["spanId"], &5.into()));
    assert!(
        request["attributes"]
            .to_string()
            .contains(r#"{"key":"http.response.status_code","value":{"intValue":"200"}}"#)
    );
    assert_eq!(attempt["status"]["code"], 2, "its first attempt fails");
    assert!(named(&spans, "GET /hello").is_none(), "its caller does not record it");
    // The flush at the end finds nobody.
    drop(collector);
    assert_eq!(end(child).await, Some(0));
}

#[tokio::test]
async fn a_collector_that_never_answers_holds_up_neither_requests_nor_the_end() {
    // The kernel accepts; nobody ever reads.
    let black_hole = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (child, mut raw) = start(&format!("http://{}", black_hole.local_addr().unwrap())).await;
    for _ in 0..2_000 {
        raw.send("GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_eq!(raw.answer().await.unwrap().status, 200);
    }
    assert_eq!(end(child).await, Some(0));
}

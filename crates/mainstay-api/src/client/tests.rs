use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::types::{Claim, NewJob, ProbeReason};
use crate::{Code, Outcome, Problem, RawJson};

const EMPTY: &str = r#"{"jobs":[]}"#;
const ENQUEUED: &str = r#"{"id":"019aae51-4f2b-7c3d-8e4f-0123456789ab","queue":"q","kind":"k","state":"available","priority":5,"run_at":"2026-11-22T10:00:00.000Z","created_at":"2026-11-22T10:00:00.000Z","deduplicated":false}"#;

/// What the server does with one request.
enum Then {
    Answer(String),
    Break,
    Stall,
}

#[derive(Debug)]
struct Seen {
    line: String,
    headers: BTreeMap<String, String>,
    body: String,
}

fn answer(status: &str, content_type: &str, more: &str, body: &str) -> Then {
    Then::Answer(format!(
        "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n{more}\r\n{body}",
        body.len()
    ))
}

fn good(body: &str) -> Then {
    answer("200 OK", "application/json", "", body)
}

fn problem(code: Code, more: &str) -> Then {
    let body = serde_json::to_string(&Problem::new(code, "so it is")).unwrap();
    answer(&format!("{} X", code.status()), PROBLEM_JSON, more, &body)
}

const PROBLEM_JSON: &str = crate::PROBLEM_JSON;

async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head = loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let mut lines = text.split("\r\n").map(str::to_owned);
    let line = lines.next().unwrap();
    let headers: BTreeMap<_, _> = lines
        .map(|line| line.split_once(": ").map(|(k, v)| (k.to_lowercase(), v.to_owned())).unwrap())
        .collect();
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < head + 4 + length {
        stream.read_buf(&mut bytes).await.ok()?;
    }
    Some(Seen { line, headers, body: String::from_utf8(bytes[head + 4..].to_vec()).unwrap() })
}

/// Plays the script, one request after the other, and gives what it saw.
async fn play(listener: TcpListener, script: Vec<Then>) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut script = script.into_iter().peekable();
    while script.peek().is_some() {
        let (mut stream, _) = listener.accept().await.unwrap();
        while script.peek().is_some() {
            let Some(request) = read_request(&mut stream).await else { break };
            seen.push(request);
            match script.next() {
                Some(Then::Answer(text)) => stream.write_all(text.as_bytes()).await.unwrap(),
                Some(Then::Stall) => {
                    // Ends when the client hangs up.
                    let _ = stream.read(&mut [0; 1]).await;
                    break;
                }
                Some(Then::Break) | None => break,
            }
        }
    }
    seen
}

async fn server() -> (TcpListener, HttpClient) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let client =
        HttpClient::new(&url, Options { token: Some("secret".into()), ..Options::default() }).unwrap();
    (listener, client)
}

#[tokio::test]
async fn a_broken_connection_is_retried_with_the_same_key_and_body() {
    let (listener, client) = server().await;
    let script = vec![Then::Break, Then::Break, answer("201 Created", "application/json", "", ENQUEUED)];
    let job = NewJob::new("k", RawJson::parse("1.10").unwrap());
    let (seen, enqueued) = tokio::join!(play(listener, script), client.enqueue("a:b", &job));
    assert_eq!(enqueued.unwrap().queue, "q");
    let keys: std::collections::BTreeSet<_> =
        seen.iter().map(|one| &one.headers["idempotency-key"]).collect();
    assert_eq!((seen.len(), keys.len()), (3, 1));
    for one in &seen {
        assert_eq!(one.line, "POST /v1/queues/a%3Ab/jobs HTTP/1.1");
        assert_eq!(one.body, r#"{"kind":"k","payload":1.10}"#);
        assert_eq!(one.headers["authorization"], "Bearer secret");
        assert_eq!(one.headers["content-type"], "application/json");
    }
}

#[tokio::test]
async fn connections_are_kept() {
    let (listener, client) = server().await;
    let calls = async {
        for _ in 0..3 {
            client.claim(&Claim::from_queue("q")).await.unwrap();
        }
    };
    // The script accepts the next connection only when the first is closed: three calls on one, or a deadlock.
    let script = (0..3).map(|_| good(EMPTY)).collect();
    let (seen, ()) = tokio::join!(play(listener, script), calls);
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|one| !one.headers.contains_key("idempotency-key")));
}

#[tokio::test]
async fn overload_is_retried_and_other_refusals_are_not() {
    let (listener, client) = server().await;
    let script = vec![
        problem(Code::Overloaded, "retry-after: 0\r\n"),
        problem(Code::RateLimited, ""),
        answer("502 Bad Gateway", "text/html", "", "<html>"),
        problem(Code::LeaseLost, ""),
    ];
    let claim = Claim::from_queue("q");
    let (seen, claimed) = tokio::join!(play(listener, script), client.claim(&claim));
    let error = claimed.unwrap_err();
    assert_eq!((seen.len(), error.kind(), error.code()), (4, ErrorKind::Problem, Some(Code::LeaseLost)));
    assert_eq!((error.is_retryable(), error.outcome()), (false, Outcome::NotApplied));
}

#[tokio::test]
async fn a_problem_whose_members_are_null_is_one_all_the_same() {
    let (listener, client) = server().await;
    let body = r#"{"type":"about:blank","title":"X","status":503,"code":"initializing","detail":"still starting",
        "request_id":null,"instance":null,"retryable":true,"outcome":"not-applied","errors":[]}"#;
    let script = vec![answer("503 X", PROBLEM_JSON, "retry-after: 3600\r\n", body)];
    let claim = Claim::from_queue("q");
    let (_, claimed) = tokio::join!(play(listener, script), client.claim(&claim));
    let error = claimed.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Problem, Some(Code::Initializing)), "{error}");
}

#[tokio::test]
async fn a_read_whose_answer_is_lost_has_changed_nothing() {
    let (listener, client) = server().await;
    let client = client.with_retry(false);
    let (_, read) = tokio::join!(play(listener, vec![Then::Break]), client.store());
    let error = read.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Broken, Outcome::NotApplied));

    let (listener, client) = server().await;
    let client = client.with_retry(false);
    let claim = Claim::from_queue("q");
    let (_, claimed) = tokio::join!(play(listener, vec![Then::Break]), client.claim(&claim));
    assert_eq!(claimed.unwrap_err().outcome(), Outcome::Unknown);
}

#[tokio::test]
async fn a_full_queue_is_told_at_once() {
    let (listener, client) = server().await;
    let script = vec![problem(Code::QueueFull, "retry-after: 1\r\n")];
    let job = NewJob::new("k", RawJson::NULL);
    let (seen, enqueued) = tokio::join!(play(listener, script), client.enqueue("q", &job));
    let error = enqueued.unwrap_err();
    assert_eq!((seen.len(), error.code(), error.is_retryable()), (1, Some(Code::QueueFull), true));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
}

#[tokio::test]
async fn a_retry_after_beyond_the_deadline_is_an_error_now() {
    let (listener, client) = server().await;
    let script = vec![problem(Code::Draining, "retry-after: 3600\r\n")];
    let claim = Claim::from_queue("q");
    let (seen, claimed) = tokio::join!(play(listener, script), client.claim(&claim));
    let error = claimed.unwrap_err();
    assert_eq!((seen.len(), error.code()), (1, Some(Code::Draining)));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));
}

#[tokio::test]
async fn the_time_limit_holds_and_its_outcome_is_unknown() {
    let (listener, client) = server().await;
    let client = client.with_timeout(Duration::from_millis(50));
    let job = NewJob::new("k", RawJson::NULL);
    let (seen, enqueued) = tokio::join!(play(listener, vec![Then::Stall]), client.enqueue("q", &job));
    let error = enqueued.unwrap_err();
    assert_eq!((seen.len(), error.kind(), error.outcome()), (1, ErrorKind::Deadline, Outcome::Unknown));
}

#[tokio::test]
async fn a_long_poll_has_its_wait_on_top_of_the_time_limit() {
    let (listener, client) = server().await;
    let claim = Claim { wait_ms: 60_000, ..Claim::from_queue("q") };
    let (seen, claimed) = tokio::join!(play(listener, vec![good(EMPTY)]), client.claim(&claim));
    claimed.unwrap();
    let left: u64 = seen[0].headers["x-request-timeout-ms"].parse().unwrap();
    assert!((60_000..=90_000).contains(&left), "{left}");
}

#[tokio::test]
async fn no_server_is_a_connect_error_that_applied_nothing() {
    let (listener, client) = server().await;
    drop(listener);
    let error = client.with_timeout(Duration::from_millis(100)).store().await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Connect, Outcome::NotApplied));
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_server_that_is_not_ready_has_answered() {
    let (listener, client) = server().await;
    let script = vec![answer(
        "503 X",
        "application/json",
        "",
        r#"{"status":"not_ready","reason":"draining","checks":{}}"#,
    )];
    let (_, probe) = tokio::join!(play(listener, script), client.readyz());
    assert_eq!(probe.unwrap().reason, Some(ProbeReason::Draining));
}

#[tokio::test]
async fn an_answer_of_something_else_is_no_success() {
    let (listener, client) = server().await;
    let script = vec![answer("200 OK", "text/html", "", "<html>hello")];
    let (_, store) = tokio::join!(play(listener, script), client.store());
    assert_eq!(store.unwrap_err().kind(), ErrorKind::Answer);
}

#[tokio::test]
async fn a_delete_reads_no_body() {
    let (listener, client) = server().await;
    let script = vec![Then::Answer("HTTP/1.1 204 No Content\r\n\r\n".into())];
    let (seen, deleted) = tokio::join!(play(listener, script), client.delete_queue("q"));
    deleted.unwrap();
    assert_eq!(seen[0].line, "DELETE /v1/queues/q HTTP/1.1");
}

#[test]
fn unusable_addresses_tokens_and_keys_are_refused_at_once() {
    for url in ["", "127.0.0.1:6246", "https://host", "http://", "http://a b", "http://host/?q=1"] {
        let error = HttpClient::new(url, Options::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Url, "{url}");
    }
    let token = Options { token: Some("a\nb".into()), ..Options::default() };
    assert_eq!(HttpClient::new("http://host", token).unwrap_err().kind(), ErrorKind::Url);
    let client = HttpClient::new("http://host/below/", Options::default()).unwrap();
    assert_eq!(client.url(), "http://host/below");
    assert!(client.with_key("").is_err());
}

//! Reading along: streams of server-sent events, and what ends them.

use mainstay::secs;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{fetch, group, publish};
use crate::cli::{at, ended};
use crate::client::pointers;
use crate::server::{Setup, TestServer};

#[tokio::test]
async fn the_drain_ends_streams_and_waiting_fetches() {
    let server = TestServer::start().await;
    group(&server, json!({})).await;
    let mut stream = Stream::open(&server, "/v1/events/stream", None).await;
    publish(&server, "orders.new", json!(1)).await;
    assert_eq!(stream.next().await.unwrap().data["event"]["data"], 1);
    assert_eq!(fetch(&server, 10).await.len(), 1);
    let waiting = server.post("/v1/groups/g/fetch", json!({"wait_ms": 60000}));
    let (fetched, ()) = tokio::join!(waiting, async {
        server.get_until("/v1/groups/g", |group| group["in_flight"] == 1).await;
        server.shutdown.begin();
    });
    assert_eq!(fetched.is(200)["events"], json!([]));
    let last = stream.next().await.unwrap();
    assert_eq!((last.event.as_deref(), last.id), (Some("drain"), None));
    assert!(stream.next().await.is_none());
    assert_eq!(server.stop().await.exit_code(), 0);
}

#[tokio::test]
async fn a_stream_begins_where_it_is_asked_to_and_goes_on_after_the_last_event() {
    let server = TestServer::start().await;
    for n in 1..=3 {
        publish(&server, "orders.new", json!(n)).await;
    }
    publish(&server, "users.new", json!("u")).await;
    for (query, last, first) in [
        ("topics=orders.*&from=earliest", None, 1),
        ("topics=orders.*&from=2", None, 2),
        ("topics=orders.new,users.*&from=earliest", Some(3), 4),
        ("topics=orders.*&from=2000-01-01T00:00:00Z", None, 1),
        ("from=4", None, 4),
    ] {
        let mut stream = Stream::open(&server, &format!("/v1/events/stream?{query}"), last).await;
        assert_eq!(stream.next().await.unwrap().id, Some(first), "{query}");
    }
    let mut live = Stream::open(&server, "/v1/events/stream?topics=orders.*", None).await;
    let published = publish(&server, "orders.new", json!(5)).await;
    assert_eq!(live.next().await.unwrap().id, published["seq"].as_u64());

    let wrong =
        server.get("/v1/events/stream?topics=a..b,c&from=soon&x=1").await.problem(422, "validation-failed");
    assert_eq!(pointers(&wrong), ["/from", "/topics", "/x"]);
    let wrong = server.request("GET", "/v1/events/stream").header("last-event-id", "x").send().await;
    assert_eq!(pointers(&wrong.problem(422, "validation-failed")), ["/last-event-id"]);
}

#[tokio::test]
async fn a_stream_ends_with_the_time_of_its_caller() {
    let server = TestServer::start().await;
    publish(&server, "t", json!(1)).await;
    let path = "/v1/events/stream?topics=t&from=earliest";
    let mut stream = Stream::open_within(&server, path, None, Some(300)).await;
    assert_eq!(stream.next().await.unwrap().id, Some(1));
    assert!(stream.next().await.is_none(), "there is no time left");
}

#[tokio::test]
async fn a_reader_that_retention_has_overtaken_is_told() {
    let server = TestServer::start().await;
    server.put("/v1/topics/t", json!({"retention": {"count": 1}})).await.is(200);
    for n in 1..=4 {
        publish(&server, "t", json!(n)).await;
    }
    server.get_until("/v1/topics/t/events", |page| page["items"].as_array().unwrap().len() == 1).await;
    let mut stream = Stream::open(&server, "/v1/events/stream?topics=t", Some(1)).await;
    let told = stream.next().await.unwrap();
    assert_eq!((told.event.as_deref(), told.id), (Some("lagged"), None));
    assert_eq!(told.data, json!({"skipped": 2, "next": 4}));
    assert_eq!(stream.next().await.unwrap().id, Some(4));
    let mut all = Stream::open(&server, "/v1/events/stream?topics=t&from=earliest", None).await;
    assert_eq!(all.next().await.unwrap().id, Some(4), "who asks for what there is misses nothing");
}

/// More than fits into the buffers between a server and a reader that does not read.
const FLOOD: u64 = 40;

async fn flood(server: &TestServer, topic: &str) {
    let much = "x".repeat(750_000);
    for _ in 0..FLOOD {
        publish(server, topic, json!(much)).await;
    }
}

#[tokio::test]
async fn a_reader_of_several_topics_is_told_of_each_that_lost_something() {
    let server = TestServer::start().await;
    let only_last = json!({"retention": {"count": 1}});
    let is_trimmed = |page: &Value| page["items"].as_array().unwrap().len() == 1;
    flood(&server, "slow.b").await;
    for n in 1..=3 {
        publish(&server, "slow.a", json!(n)).await;
    }
    server.put("/v1/topics/slow.a", only_last.clone()).await.is(200);
    server.get_until("/v1/topics/slow.a/events", is_trimmed).await;
    // It begins knowing of what slow.a lost, far behind it.
    let mut stream = Stream::open(&server, "/v1/events/stream?topics=slow.*&from=earliest", None).await;
    server.put("/v1/topics/slow.b", only_last).await.is(200);
    server.get_until("/v1/topics/slow.b/events?from=earliest", is_trimmed).await;
    let mut read = 0;
    let told = loop {
        let message = stream.next().await.unwrap();
        match message.id {
            Some(id) => {
                assert_eq!(id, read + 1, "nothing is missing without a word");
                read = id;
            }
            None => break message,
        }
    };
    assert_eq!(told.event.as_deref(), Some("lagged"));
    assert_eq!(told.data, json!({"skipped": FLOOD - 1 - read, "next": FLOOD}));
    assert_eq!(stream.next().await.unwrap().id, Some(FLOOD));
    assert_eq!(stream.next().await.unwrap().id, Some(FLOOD + 3), "of that it knew");
}

#[tokio::test]
async fn a_reader_that_does_not_read_does_not_hold_up_the_end() {
    let server = TestServer::start().await;
    flood(&server, "t").await;
    let _stream = Stream::open(&server, "/v1/events/stream?topics=t&from=earliest", None).await;
    let ended = server.stop().await;
    assert_eq!((ended.exit_code(), ended.cut.len()), (0, 0), "{ended:?}");
}

#[tokio::test]
async fn a_tail_goes_on_at_the_next_server() {
    let server = TestServer::start().await;
    let address = server.api;
    let tail = ["events", "tail", "--from", "earliest", "--count", "2"];
    publish(&server, "t", json!("first")).await;
    let mut child = at(&server, &tail).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(out.next_line().await.unwrap().unwrap(), "1 t \"first\"");
    server.stop().await;
    let server = Setup::default().set("listen", address).start().await;
    publish(&server, "t", json!("again the first")).await;
    publish(&server, "t", json!("second")).await;
    assert_eq!(out.next_line().await.unwrap().unwrap(), "2 t \"second\"");
    assert_eq!(ended(child).await.code, Some(0));
}

/// A reader of server-sent events.
struct Stream {
    socket: tokio::net::TcpStream,
    text: String,
}

struct Message {
    id: Option<u64>,
    event: Option<String>,
    data: Value,
}

impl Stream {
    async fn open(server: &TestServer, path: &str, last: Option<u64>) -> Stream {
        Stream::open_within(server, path, last, None).await
    }

    /// For a caller who waits so many milliseconds.
    async fn open_within(server: &TestServer, path: &str, last: Option<u64>, ms: Option<u64>) -> Stream {
        let mut request = server.request("GET", path);
        if let Some(last) = last {
            request = request.header("last-event-id", &last.to_string());
        }
        if let Some(ms) = ms {
            request = request.header("x-request-timeout-ms", &ms.to_string());
        }
        let mut socket = request.open().await;
        let head = crate::client::read_head(&mut socket).await;
        assert!(
            head.starts_with("HTTP/1.1 200 ") && head.contains("content-type: text/event-stream"),
            "{head}"
        );
        Stream { socket, text: String::new() }
    }

    /// `None` at the end of the stream.
    async fn next(&mut self) -> Option<Message> {
        let reading = async {
            loop {
                if let Some((message, rest)) = self.text.split_once("\n\n") {
                    let (message, rest) = (message.to_owned(), rest.to_owned());
                    self.text = rest;
                    let field = |name: &str| {
                        message
                            .lines()
                            .find_map(|line| line.strip_prefix(name).map(|value| value.trim().to_owned()))
                    };
                    if let Some(data) = field("data:") {
                        let id = field("id:").map(|id| id.parse().unwrap());
                        return Some(Message {
                            id,
                            event: field("event:"),
                            data: serde_json::from_str(&data).unwrap(),
                        });
                    }
                    continue;
                }
                self.text.push_str(&crate::client::read_chunk(&mut self.socket).await?);
            }
        };
        tokio::time::timeout(secs(60), reading).await.expect("something comes")
    }
}

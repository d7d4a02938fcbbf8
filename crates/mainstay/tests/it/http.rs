//! Connections: lame duck, drain, limits, and the pipeline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mainstay::context::{RequestId, Trace};
use mainstay::http::Peer;
use mainstay::shutdown::Phase;
use mainstay::{Shutdown, millis, secs};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::harness::{PATIENCE, Raw, with_boot, with_router};

fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

pub type H2 = hyper::client::conn::http2::SendRequest<Empty<Bytes>>;

/// An HTTP/2 connection by prior knowledge, and when it has ended.
pub async fn http2(to: std::net::SocketAddr) -> (H2, tokio::sync::oneshot::Receiver<bool>) {
    let io = TokioIo::new(TcpStream::connect(to).await.unwrap());
    let (client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let (ended, end) = tokio::sync::oneshot::channel();
    let tasks = mainstay::TaskSet::current().unwrap();
    tasks.spawn("client", async move { ended.send(connection.await.is_ok()) });
    (client, end)
}

pub async fn h2_get(client: &mut H2, path: &str) -> Result<String, hyper::Error> {
    let request = hyper::Request::get(format!("http://x{path}")).body(Empty::new()).unwrap();
    let response = client.send_request(request).await?;
    Ok(String::from_utf8_lossy(&response.into_body().collect().await?.to_bytes()).into_owned())
}

#[tokio::test]
async fn lame_duck_goes_on_accepting_and_sends_http1_clients_away() {
    let (ended, ()) = with_router(&[("lame_duck_ms", "1000")], hello(), async |running| {
        let mut kept = Raw::open(running.api).await;
        assert_eq!(kept.get("/").await.header("connection"), None);
        running.shutdown.begin();
        let answer = kept.get("/").await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        assert!(kept.closed().await);
        let mut fresh = Raw::open(running.api).await;
        let answer = fresh.get("/").await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        assert_eq!(running.shutdown.phase(), Phase::LameDuck);
        running.shutdown.reached(Phase::Stopping).await;
        assert!(TcpStream::connect(running.api).await.is_err(), "the listener is closed after the drain");
    })
    .await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
}

/// What a keep-alive client behind a balancer does until the balancer takes the endpoint away. A connection that is
/// kept is used also after that: this is how requests get lost. Answers how many were.
async fn keep_alive_client(to: std::net::SocketAddr, gone: Arc<AtomicBool>, made: Arc<AtomicU32>) -> u32 {
    let mut lost = 0;
    while !gone.load(Ordering::Relaxed) {
        let Ok(stream) = TcpStream::connect(to).await else {
            lost += 1;
            break;
        };
        let mut client = Raw(stream);
        loop {
            made.fetch_add(1, Ordering::Relaxed);
            client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
            match client.answer().await {
                Some(answer) if answer.header("connection") == Some("close") => break,
                Some(_) => tokio::task::yield_now().await,
                None => {
                    lost += 1;
                    break;
                }
            }
        }
    }
    lost
}

#[tokio::test]
async fn no_request_is_lost_or_refused_while_clients_move_away() {
    let (ended, lost) = with_router(&[("lame_duck_ms", "10000")], hello(), async |running| {
        let (gone, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let tasks = mainstay::TaskSet::current().unwrap();
        let client = || tasks.spawn("client", keep_alive_client(running.api, gone.clone(), made.clone()));
        let clients: Vec<_> = (0..32).map(|_| client()).collect();
        let requests = async |more: u32| {
            let until = made.load(Ordering::Relaxed) + more;
            while made.load(Ordering::Relaxed) < until {
                tokio::task::yield_now().await;
            }
        };
        requests(300).await;
        running.shutdown.begin();
        requests(100).await; // until the balancer notices
        gone.store(true, Ordering::Relaxed);
        let mut lost = 0;
        for client in clients {
            // Ends only when its connection does: every one has been sent away before the listener closes.
            lost += timeout(PATIENCE, client).await.expect("it was sent away").unwrap();
        }
        assert_eq!(running.shutdown.phase(), Phase::LameDuck);
        running.shutdown.hurry();
        lost
    })
    .await;
    assert_eq!(lost, 0);
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
}

#[tokio::test]
async fn lame_duck_sends_http2_clients_away_after_their_request() {
    let release = Arc::new(Notify::new());
    let releasing = release.clone();
    let router = hello().route(
        "/slow",
        get(async move || {
            release.notified().await;
            "slow"
        }),
    );
    let (ended, ()) = with_router(&[("lame_duck_ms", "10000")], router, async |running| {
        let (mut used, used_end) = http2(running.api).await;
        assert_eq!(h2_get(&mut used, "/").await.unwrap(), "hello");
        let (mut fresh, fresh_end) = http2(running.api).await;

        let mut in_flight = used.clone();
        let slow = async { h2_get(&mut in_flight, "/slow").await.unwrap() };
        let rest = async {
            // The slow request is on its way; another one proves that the connection carries both.
            assert_eq!(h2_get(&mut used, "/").await.unwrap(), "hello");
            running.shutdown.begin();
            // A connection that has not been used yet must not lose its first request to the GOAWAY.
            assert_eq!(h2_get(&mut fresh, "/").await.unwrap(), "hello");
            assert!(timeout(PATIENCE, fresh_end).await.unwrap().unwrap(), "it ended in order");
            releasing.notify_one();
        };
        let (slow, ()) = tokio::join!(slow, rest);
        assert_eq!(slow, "slow");
        assert!(timeout(PATIENCE, used_end).await.unwrap().unwrap(), "it ended in order");
        assert_eq!(running.shutdown.phase(), Phase::LameDuck, "GOAWAY does not wait for the drain");
        running.shutdown.hurry();
    })
    .await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
}

#[tokio::test]
async fn idle_connections_and_half_sent_heads_do_not_hold_the_drain_up() {
    let settings = &[("lame_duck_ms", "0"), ("drain_ms", "20000")];
    let (ended, ()) = with_router(settings, hello(), async |running| {
        let _silent = Raw::open(running.api).await;
        let mut idle = Raw::open(running.api).await;
        idle.get("/").await;
        let mut half = Raw::open(running.api).await;
        half.send("GET / HTTP/1.1\r\nhost: x\r\nx-half").await;
        let mut second = Raw::open(running.api).await;
        second.get("/").await;
        second.send("GET / HT").await;
        let (_h2, _end) = http2(running.api).await;
        running.shutdown.begin();
        running.shutdown.reached(Phase::Stopping).await;
    })
    .await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
    let (_, took) = ended.phases.iter().find(|(phase, _)| *phase == Phase::Draining).unwrap();
    assert!(*took < secs(5), "{took:?}");
}

#[tokio::test]
async fn a_stream_can_end_itself_when_the_drain_begins() {
    let router = Router::new().route(
        "/stream",
        get(|shutdown: Shutdown| async move {
            let told = async move {
                shutdown.draining().await;
                Ok::<_, std::convert::Infallible>(Bytes::from_static(b"event: drain\n\n"))
            };
            axum::body::Body::from_stream(futures_util::stream::once(told))
        }),
    );
    let (ended, ()) = with_router(&[("lame_duck_ms", "300")], router, async |running| {
        let mut client = Raw::open(running.api).await;
        client.send("GET /stream HTTP/1.0\r\nhost: x\r\n\r\n").await;
        let head = client.answer().await.unwrap();
        assert_eq!(head.status, 200);
        running.shutdown.begin();
        let mut rest = String::new();
        let reading = tokio::io::AsyncReadExt::read_to_string(&mut client.0, &mut rest);
        timeout(PATIENCE, reading).await.unwrap().unwrap();
        assert_eq!(rest, "event: drain\n\n");
    })
    .await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_for_a_slot() {
    with_boot(
        &[("lame_duck_ms", "0")],
        async |b| {
            let http = b.http("127.0.0.1:0", hello());
            http.max_connections(1);
            http
        },
        async |running| {
            let mut first = Raw::open(running.api).await;
            first.get("/").await;
            let mut second = Raw::open(running.api).await;
            second.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
            let early = timeout(millis(200), second.answer()).await;
            assert!(early.is_err(), "served beyond the cap");
            drop(first);
            assert_eq!(second.answer().await.unwrap().status, 200);
        },
    )
    .await;
}

#[tokio::test]
async fn slow_heads_and_slow_bodies_are_cut() {
    with_boot(
        &[("lame_duck_ms", "0"), ("body_timeout_ms", "100")],
        async |b| {
            let http = b.http("127.0.0.1:0", hello().route("/body", post(|body: Bytes| async move { body })));
            http.header_timeout(millis(100));
            http
        },
        async |running| {
            let mut silent = Raw::open(running.api).await;
            assert!(silent.closed().await);
            let mut half = Raw::open(running.api).await;
            half.send("GET / HTTP/1.1\r\nx-half").await;
            assert!(half.closed().await);
            let mut slow = Raw::open(running.api).await;
            slow.send("POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc").await;
            assert_eq!(slow.answer().await.unwrap().status, 400);
        },
    )
    .await;
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_cut_and_makes_room() {
    let big = Bytes::from(vec![b'x'; 64 << 20]);
    let router = hello().route("/big", get(move || std::future::ready(big)));
    with_boot(
        &[("lame_duck_ms", "0"), ("header_timeout_ms", "100"), ("body_timeout_ms", "100")],
        async |b| {
            let http = b.http("127.0.0.1:0", router);
            http.max_connections(1);
            http
        },
        async |running| {
            let mut deaf = Raw::open(running.api).await;
            deaf.send("GET /big HTTP/1.1\r\nhost: x\r\n\r\n").await;
            let mut next = Raw::open(running.api).await;
            next.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
            assert_eq!(next.answer().await.expect("the slot is free again").status, 200);
            let mut left = Vec::new();
            let _ = timeout(PATIENCE, deaf.0.read_to_end(&mut left)).await.expect("it is closed");
            assert!(left.len() < 64 << 20, "cut, not served");
        },
    )
    .await;
}

#[tokio::test]
async fn an_http2_connection_without_a_request_ends_at_the_header_timeout() {
    let settings = [("lame_duck_ms", "0"), ("header_timeout_ms", "100")];
    with_router(&settings, hello(), async |running| {
        let (mut client, end) = http2(running.api).await;
        assert_eq!(h2_get(&mut client, "/").await.unwrap(), "hello");
        assert!(timeout(PATIENCE, end).await.expect("it ends").unwrap(), "in order, by GOAWAY");
        // One that neither asks nor answers a ping.
        let mut silent = Raw::open(running.api).await;
        silent.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        let mut goodbye = Vec::new();
        let _ = timeout(PATIENCE, silent.0.read_to_end(&mut goodbye)).await.expect("it is closed too");
    })
    .await;
}

/// Clients that have connected and asked while this thread has not looked yet.
fn in_the_backlog(to: std::net::SocketAddr) -> Vec<std::net::TcpStream> {
    use std::io::Write;
    let ask = |_| {
        let mut stream = std::net::TcpStream::connect(to).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    };
    (0..11).map(ask).collect()
}

#[tokio::test]
async fn requests_that_have_arrived_before_the_drain_are_answered_though_nobody_has_read_them_yet() {
    for _ in 0..20 {
        let (ended, ()) = with_router(&[("lame_duck_ms", "0")], hello(), async |running| {
            let waiting = in_the_backlog(running.api);
            running.shutdown.begin();
            for stream in waiting {
                let mut client = Raw(TcpStream::from_std(stream).unwrap());
                assert_eq!(client.answer().await.expect("not lost").status, 200);
            }
        })
        .await;
        assert_eq!(ended.exit_code(), 0, "{ended:?}");
    }
}

#[tokio::test]
async fn bodies_that_are_too_long_are_refused_declared_or_not() {
    let router = Router::new().route("/", post(|body: Bytes| async move { body.len().to_string() }));
    with_router(&[("max_body_bytes", "8"), ("lame_duck_ms", "0")], router, async |running| {
        let mut client = Raw::open(running.api).await;
        client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\n12345678").await;
        assert_eq!(client.answer().await.unwrap().body, "8");
        client.send("POST / HTTP/1.1\r\nhost: x\r\nx-request-id: me\r\ncontent-length: 9\r\n\r\n").await;
        let answer = client.answer().await.unwrap();
        assert_eq!(answer.status, 413);
        assert!(answer.body.contains("payload-too-large") && answer.body.contains(r#""request_id":"me""#));
        let mut client = Raw::open(running.api).await;
        client
            .send(
                "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n",
            )
            .await;
        assert_eq!(client.answer().await.unwrap().status, 413);
    })
    .await;
}

#[tokio::test]
async fn every_answer_carries_its_request_id_and_trace() {
    let router = Router::new().route(
        "/",
        get(|id: RequestId, trace: Trace, peer: Peer| async move {
            assert!(peer.addr.ip().is_loopback());
            format!("{id} {trace}")
        }),
    );
    with_router(&[("lame_duck_ms", "0")], router, async |running| {
        let mut client = Raw::open(running.api).await;
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        client
            .send(&format!("GET / HTTP/1.1\r\nhost: x\r\nx-request-id: mine\r\ntraceparent: {trace}\r\n\r\n"))
            .await;
        let answer = client.answer().await.unwrap();
        assert_eq!(answer.header("x-request-id"), Some("mine"));
        assert!(answer.header("traceparent").unwrap().starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
        assert_eq!(answer.body, format!("mine {}", answer.header("traceparent").unwrap()));
        let missing = client.get("/nowhere").await;
        assert_eq!(missing.status, 404);
        assert!(missing.header("x-request-id").is_some() && missing.header("traceparent").is_some());
    })
    .await;
}

#[tokio::test]
async fn a_panic_is_an_answer_and_a_slow_handler_is_cut_at_the_callers_time_limit() {
    let router = hello()
        .route(
            "/panic",
            get(|| async {
                if true {
                    panic!("oh no")
                }
            }),
        )
        .route("/never", get(std::future::pending::<()>));
    with_router(&[("lame_duck_ms", "0")], router, async |running| {
        let mut client = Raw::open(running.api).await;
        let answer = client.get("/panic").await;
        assert_eq!(answer.status, 500);
        assert!(!answer.body.contains("oh no"), "a panic's message is for the log only");
        client.send("GET /never HTTP/1.1\r\nhost: x\r\nx-request-timeout-ms: 50\r\n\r\n").await;
        let answer = client.answer().await.unwrap();
        assert_eq!(answer.status, 504);
        assert!(answer.body.contains(r#""outcome":"unknown""#), "{}", answer.body);
        assert_eq!(client.get("/").await.status, 200, "the connection goes on");
    })
    .await;
}

#[tokio::test]
async fn a_request_whose_client_is_gone_is_dropped() {
    struct Dropped(Arc<Notify>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let (entered, dropped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (entering, dropping) = (entered.clone(), dropped.clone());
    let router = Router::new().route(
        "/",
        get(async move || {
            let _here = Dropped(dropping);
            entering.notify_one();
            std::future::pending::<()>().await;
        }),
    );
    let (ended, ()) = with_router(&[("lame_duck_ms", "0")], router, async |running| {
        let mut client = Raw::open(running.api).await;
        client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        entered.notified().await;
        drop(client);
        timeout(PATIENCE, dropped.notified()).await.expect("the handler was dropped");
    })
    .await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
}

/// A handler can know that its client has left, before anything else has told the runtime so.
#[tokio::test]
async fn a_request_whose_client_has_just_left_is_dropped_where_the_client_is_checked() {
    use std::io::Write;

    struct Dropped(Arc<Notify>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let client = Arc::new(std::sync::Mutex::new(None::<std::net::TcpStream>));
    let (went_on, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let handler = {
        let (client, went_on, dropped) = (client.clone(), went_on.clone(), dropped.clone());
        move |delivery: mainstay::http::Delivery| async move {
            let _dropped = Dropped(dropped);
            drop(client.lock().unwrap().take());
            delivery.check_client().await;
            went_on.store(true, Ordering::Relaxed);
        }
    };
    with_router(&[("lame_duck_ms", "0")], Router::new().route("/", get(handler)), async |running| {
        let mut stream = std::net::TcpStream::connect(running.api).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        *client.lock().unwrap() = Some(stream);
        timeout(PATIENCE, dropped.notified()).await.unwrap();
        assert!(!went_on.load(Ordering::Relaxed), "nobody is there to go on for");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_sends_a_body_that_is_too_long_still_reads_why() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let router = axum::Router::new().route("/", axum::routing::post(|| async { "never" }));
    let (_, answer) = crate::harness::with_router(
        &[("max_body_bytes", "5000000"), ("lame_duck_ms", "0")],
        router,
        async |app| {
            let mut stream = tokio::net::TcpStream::connect(app.api).await.unwrap();
            let head = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 8000000\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            // It reads nothing before it has sent everything, as most do.
            stream.write_all(&vec![b'x'; 8_000_000]).await.unwrap();
            let mut answer = String::new();
            tokio::time::timeout(crate::harness::PATIENCE, stream.read_to_string(&mut answer))
                .await
                .unwrap()
                .unwrap();
            answer
        },
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("payload-too-large"), "{answer}");
}

/// Its handler runs in a task that is not ours; the connection is.
#[tokio::test]
async fn an_upgraded_connection_that_overstays_is_cut_also_for_its_handler() {
    use axum::extract::ws::{WebSocket, WebSocketUpgrade};
    use futures_util::StreamExt;

    let ended = Arc::new(Notify::new());
    let ending = ended.clone();
    let deaf = move |upgrade: WebSocketUpgrade| async move {
        upgrade.on_upgrade(move |mut socket: WebSocket| async move {
            while let Some(Ok(_)) = socket.next().await {}
            ending.notify_one();
        })
    };
    let settings = &[("lame_duck_ms", "0"), ("drain_ms", "100"), ("cancel_ms", "100")];
    let (report, _client) = with_router(settings, Router::new().route("/ws", get(deaf)), async |running| {
        let mut client = Raw::open(running.api).await;
        client
            .send(
                "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            )
            .await;
        assert_eq!(client.answer().await.unwrap().status, 101);
        client
    })
    .await;
    // The client is still there: what ends the handler is the cut.
    timeout(PATIENCE, ended.notified()).await.expect("the handler's socket is cut");
    assert_eq!((report.exit_code(), report.cut[0].what.as_str()), (1, "GET /ws"), "{report:?}");
}

#[tokio::test]
async fn http_1_1_without_a_host_is_a_bad_request() {
    let router = Router::new().route("/", get(|| async { "hello" }));
    with_router(&[("lame_duck_ms", "0")], router, async |running| {
        for (head, status) in [
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", 200),
            ("GET / HTTP/1.0\r\n\r\n", 200),
        ] {
            let mut client = Raw::open(running.api).await;
            client.send(head).await;
            let answer = client.answer().await.unwrap();
            assert_eq!(answer.status, status, "{head:?}: {}", answer.body);
        }
    })
    .await;
}

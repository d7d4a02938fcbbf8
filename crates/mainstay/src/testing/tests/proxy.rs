//! The fault proxy, on real sockets. Where time matters it stands still and is moved by hand.

use std::{io::ErrorKind, net::SocketAddr};

use futures_util::FutureExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{advance, timeout},
};

use crate::{
    TaskSet, millis, secs,
    testing::{
        Direction::{ToClient, ToServer},
        FaultProxy, Faults, block_on_virtual, real,
    },
};

/// Sends back what it gets, to the end.
struct Echo {
    address: SocketAddr,
    tasks: TaskSet,
}

impl Echo {
    async fn start() -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, tasks) = (listener.local_addr().unwrap(), TaskSet::current().unwrap());
        let each = tasks.clone();
        drop(tasks.spawn("echo", async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                drop(each.spawn("echo connection", async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                    let _ = write.shutdown().await;
                }));
            }
        }));
        Echo { address, tasks }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

async fn started() -> (Echo, FaultProxy) {
    let echo = Echo::start().await;
    let proxy = FaultProxy::start(echo.address).await.unwrap();
    (echo, proxy)
}

/// A connection that is open in the proxy.
async fn connected(proxy: &FaultProxy) -> TcpStream {
    let open = proxy.open();
    let stream = TcpStream::connect(proxy.address()).await.unwrap();
    proxy.until_open(open + 1).await;
    stream
}

async fn receive(stream: &mut TcpStream, bytes: usize) -> String {
    let mut text = vec![0; bytes];
    timeout(secs(30), stream.read_exact(&mut text)).await.expect("nothing comes").unwrap();
    String::from_utf8(text).unwrap()
}

/// The rest, and how it ended.
async fn rest(stream: &mut TcpStream) -> (String, Result<(), ErrorKind>) {
    let mut text = Vec::new();
    let ended = timeout(secs(30), stream.read_to_end(&mut text)).await.expect("it does not end");
    (String::from_utf8(text).unwrap(), ended.map(drop).map_err(|error| error.kind()))
}

/// Everything that can happen without time has happened.
async fn still() {
    for _ in 0..500 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn without_faults_it_passes_everything_and_the_end_of_it() {
    let (_echo, proxy) = started().await;
    let mut stream = connected(&proxy).await;
    let text = "0123456789abcdef".repeat(20_000);
    let (mut read, mut write) = stream.split();
    let send = async {
        write.write_all(text.as_bytes()).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut back = String::new();
    let both = async { tokio::join!(send, read.read_to_string(&mut back)) };
    timeout(secs(30), both).await.expect("it does not end").1.unwrap();
    assert!(back == text, "{} bytes came back", back.len());
    assert_eq!((proxy.forwarded(ToServer), proxy.forwarded(ToClient)), (320_000, 320_000));
    proxy.until_open(0).await;
}

#[test]
fn latency_holds_what_passes_for_so_long_in_the_one_direction() {
    block_on_virtual(real(async {
        let (_echo, proxy) = started().await;
        let mut stream = connected(&proxy).await;
        proxy.set_one(ToServer, Faults::default().latency(secs(3600)));
        stream.write_all(b"hello").await.unwrap();
        proxy.until_received(ToServer, 5).await;
        advance(secs(3599)).await;
        still().await;
        assert_eq!(proxy.forwarded(ToServer), 0);
        advance(millis(1001)).await;
        proxy.until_forwarded(ToServer, 5).await;
        assert_eq!(receive(&mut stream, 5).await, "hello");
    }));
}

#[test]
fn jitter_follows_the_seed_and_keeps_the_order() {
    // How much has passed after each virtual minute, and what came.
    let run = |seed| {
        block_on_virtual(real(async {
            let echo = Echo::start().await;
            let proxy = FaultProxy::seeded(echo.address, seed).await.unwrap();
            proxy.set_one(ToServer, Faults::default().jitter(secs(1800)));
            let mut stream = connected(&proxy).await;
            for (n, letter) in ('a'..='h').enumerate() {
                stream.write_all(letter.to_string().as_bytes()).await.unwrap();
                proxy.until_received(ToServer, n as u64 + 1).await;
                advance(secs(60)).await;
            }
            let mut passed = Vec::new();
            for _ in 0..30 {
                advance(secs(60)).await;
                still().await;
                passed.push(proxy.forwarded(ToServer));
            }
            proxy.until_forwarded(ToServer, 8).await;
            assert_eq!(receive(&mut stream, 8).await, "abcdefgh");
            passed
        }))
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn bandwidth_lets_so_much_pass_a_second() {
    block_on_virtual(real(async {
        let (_echo, proxy) = started().await;
        proxy.set_one(ToServer, Faults::default().bandwidth(1000));
        let mut stream = connected(&proxy).await;
        stream.write_all(&[b'x'; 250]).await.unwrap();
        proxy.until_received(ToServer, 250).await;
        still().await;
        assert_eq!(proxy.forwarded(ToServer), 0, "also the first bytes take their time");
        for passed in [100, 200, 250] {
            advance(millis(101)).await;
            proxy.until_forwarded(ToServer, passed).await;
            still().await;
            assert_eq!(proxy.forwarded(ToServer), passed);
        }
        assert_eq!(receive(&mut stream, 250).await.len(), 250);
    }));
}

#[tokio::test]
async fn a_limit_closes_both_ends_after_so_many_bytes() {
    let (_echo, proxy) = started().await;
    proxy.set_one(ToClient, Faults::default().limit(3));
    let mut stream = connected(&proxy).await;
    stream.write_all(b"hello").await.unwrap();
    assert_eq!(rest(&mut stream).await, ("hel".to_owned(), Ok(())));
    proxy.until_open(0).await;
    // Not one byte more has to come.
    proxy.set_one(ToClient, Faults::default().limit(5));
    let mut stream = connected(&proxy).await;
    stream.write_all(b"hello").await.unwrap();
    assert_eq!(rest(&mut stream).await, ("hello".to_owned(), Ok(())));
}

#[tokio::test]
async fn a_stalled_direction_is_half_open_until_it_is_healed() {
    let (_echo, proxy) = started().await;
    let mut stream = connected(&proxy).await;
    stream.write_all(b"one").await.unwrap();
    assert_eq!(receive(&mut stream, 3).await, "one");
    proxy.set_one(ToClient, Faults::default().stall());
    stream.write_all(b"two").await.unwrap();
    stream.shutdown().await.unwrap();
    proxy.until_received(ToClient, 6).await; // the server has answered …
    still().await;
    assert_eq!(proxy.forwarded(ToClient), 3); // … and nobody hears it, nor that it has closed
    assert_eq!(proxy.open(), 1);
    proxy.heal();
    assert_eq!(rest(&mut stream).await, ("two".to_owned(), Ok(())));
}

#[tokio::test]
async fn the_end_of_a_stalled_direction_does_not_pass_either() {
    let (echo, proxy) = started().await;
    let mut stream = connected(&proxy).await;
    stream.write_all(b"one").await.unwrap();
    assert_eq!(receive(&mut stream, 3).await, "one");
    proxy.set_one(ToClient, Faults::default().stall());
    assert_eq!(echo.tasks.len(), 2);
    stream.shutdown().await.unwrap();
    let closed = async {
        while echo.tasks.len() == 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(secs(30), closed).await.expect("the server does not close");
    still().await;
    assert!(stream.read_u8().now_or_never().is_none(), "the end has passed");
    proxy.heal();
    assert_eq!(rest(&mut stream).await, (String::new(), Ok(())));
}

#[tokio::test]
async fn a_partition_is_silence_for_old_and_new_connections() {
    let (echo, proxy) = started().await;
    let mut old = connected(&proxy).await;
    old.write_all(b"hi").await.unwrap();
    assert_eq!(receive(&mut old, 2).await, "hi");
    assert_eq!(echo.tasks.len(), 2);
    proxy.partition();
    let mut new = connected(&proxy).await;
    new.write_all(b"new").await.unwrap();
    old.write_all(b"old").await.unwrap();
    proxy.until_received(ToServer, 5).await;
    still().await;
    assert_eq!((proxy.forwarded(ToServer), echo.tasks.len()), (2, 2), "nothing gets through");
    proxy.heal();
    assert_eq!((receive(&mut old, 3).await, receive(&mut new, 3).await), ("old".into(), "new".into()));
}

#[tokio::test]
async fn a_reset_reaches_both_ends_and_spares_those_that_come_later() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = FaultProxy::start(upstream.local_addr().unwrap()).await.unwrap();
    let mut client = connected(&proxy).await;
    let (mut server, _) = upstream.accept().await.unwrap();
    client.write_all(b"x").await.unwrap();
    assert_eq!(receive(&mut server, 1).await, "x");
    proxy.reset();
    assert_eq!(rest(&mut client).await.1, Err(ErrorKind::ConnectionReset));
    assert_eq!(rest(&mut server).await.1, Err(ErrorKind::ConnectionReset));
    proxy.until_open(0).await;
    let mut client = connected(&proxy).await;
    let (mut server, _) = upstream.accept().await.unwrap();
    client.write_all(b"y").await.unwrap();
    assert_eq!(receive(&mut server, 1).await, "y");
    // One end's reset is the other's.
    server.set_zero_linger().unwrap();
    drop(server);
    assert_eq!(rest(&mut client).await.1, Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_server_that_refuses_is_a_reset() {
    let (echo, proxy) = started().await;
    echo.tasks.abort();
    echo.tasks.idle().await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(rest(&mut stream).await.1, Err(ErrorKind::ConnectionReset));
}

#[test]
fn a_proxy_that_is_dropped_closes_everything_and_leaves_no_task() {
    block_on_virtual(real(async {
        let (echo, proxy) = started().await;
        let mut stream = connected(&proxy).await;
        let address = proxy.address();
        drop((proxy, echo));
        let _ = rest(&mut stream).await;
        assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }));
}

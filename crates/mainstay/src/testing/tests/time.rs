//! Virtual time beside real sockets.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    thread::JoinHandle,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, advance, error::Elapsed, sleep, timeout},
};

use crate::{
    TaskSet, millis, secs,
    testing::{Direction, FaultProxy, Faults, Patient, Runtime, block_on_virtual, hold_time},
};

/// Longer than the quiet after which time moves on.
const SLOW: std::time::Duration = millis(150);

/// A server of another program: it takes real time for each of its answers.
struct SlowServer {
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl SlowServer {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serve = move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [0];
            while stream.read(&mut byte).is_ok_and(|n| n == 1) {
                std::thread::sleep(SLOW);
                if stream.write_all(&byte).is_err() {
                    return;
                }
            }
        };
        Self { address, thread: Some(std::thread::spawn(serve)) }
    }
}

impl Drop for SlowServer {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take().filter(|_| !std::thread::panicking()) {
            thread.join().unwrap();
        }
    }
}

/// A client that gives up after five seconds.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<u8, Elapsed> {
    timeout(secs(5), async {
        stream.write_all(b"x").await.unwrap();
        stream.read_u8().await.unwrap()
    })
    .await
}

#[test]
fn no_time_limit_fires_while_the_answer_of_a_real_server_is_on_its_way() {
    let server = SlowServer::start();
    block_on_virtual(async {
        let proxy = FaultProxy::start(server.address).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        for _ in 0..2 {
            let asked = Instant::now();
            assert_eq!(ask(&mut stream).await, Ok(b'x'));
            assert_eq!(asked.elapsed(), secs(0));
            sleep(secs(3_600)).await; // takes no time: nothing is on its way
        }
    });
}

#[test]
fn a_patient_stream_does_the_same_without_a_proxy() {
    let server = SlowServer::start();
    block_on_virtual(async {
        let mut stream = Patient::new(TcpStream::connect(server.address).await.unwrap());
        let asked = Instant::now();
        assert_eq!(ask(&mut stream).await, Ok(b'x'));
        assert_eq!(asked.elapsed(), secs(0));
    });
}

#[test]
fn without_either_a_slow_answer_is_too_late() {
    let server = SlowServer::start();
    Runtime::paused().with_sockets().block_on(async {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        assert!(ask(&mut stream).await.is_err(), "this is why there are two that wait for it");
    });
}

#[test]
fn until_it_has_been_quiet_no_time_passes() {
    let server = SlowServer::start();
    let runtime = Runtime::paused();
    runtime.clock().keeper().keep(secs(3_600));
    runtime.block_on(async {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let asked = Instant::now();
        assert_eq!(ask(&mut stream).await, Ok(b'x'));
        assert_eq!(asked.elapsed(), secs(0));
    });
}

#[test]
fn where_the_silence_is_the_proxys_time_limits_fire_at_once() {
    let server = SlowServer::start();
    block_on_virtual(async {
        let proxy = FaultProxy::start(server.address).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream).await, Ok(b'x'));
        proxy.set_one(Direction::ToServer, Faults::default().stall());
        let asked = Instant::now();
        assert!(ask(&mut stream).await.is_err());
        assert_eq!(asked.elapsed(), secs(5));
        proxy.heal();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        proxy.set_one(Direction::ToClient, Faults::default().latency(secs(4)));
        assert_eq!(ask(&mut stream).await, Ok(b'x'));
        proxy.set_one(Direction::ToClient, Faults::default().latency(secs(6)));
        assert!(ask(&mut stream).await.is_err());
    });
}

#[test]
fn among_sockets_of_the_same_runtime_no_time_passes() {
    Runtime::paused().with_sockets().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = TaskSet::current().unwrap();
        drop(tasks.spawn("echo", async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        }));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let began = Instant::now();
        for _ in 0..100 {
            assert_eq!(ask(&mut stream).await, Ok(b'x'));
        }
        assert_eq!(began.elapsed(), secs(0));
        drop(stream);
        tasks.idle().await;
    });
}

#[test]
fn held_time_moves_by_hand_alone() {
    block_on_virtual(async {
        let began = Instant::now();
        let hold = hold_time();
        let (done, waited) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            std::thread::sleep(millis(20));
            done.send(()).unwrap();
        });
        timeout(millis(1), waited).await.expect("the limit fired").unwrap();
        assert_eq!(began.elapsed(), secs(0));
        advance(secs(2)).await;
        assert_eq!(began.elapsed(), secs(2));
        drop(hold);
        sleep(secs(3_600)).await;
    });
}

#[tokio::test]
async fn on_real_time_nothing_is_held() {
    let _hold = hold_time();
    let began = Instant::now();
    sleep(millis(1)).await;
    assert!(began.elapsed() >= millis(1));
}

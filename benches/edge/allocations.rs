//! Prints how many allocations the thread that serves makes for each request, at the edge that the argument names.

#![expect(dead_code, reason = "the program beside this one uses the rest")]

mod servers;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use mainstay::{App, Boot, config::Loader};
use tokio::{net::TcpListener, runtime::Builder, sync::oneshot};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: example\r\n\r\n";

fn main() {
    let edge = std::env::args().nth(1).unwrap_or_default();
    // The difference of two runs: what starting and stopping cost is in both.
    let (short, long) = (1_000, 11_000);
    let counts =
        [short, long].map(|requests| allocation_counter::measure(|| run(&edge, requests)).count_total);
    println!("{:.1}", (counts[1] - counts[0]) as f64 / (long - short) as f64);
}

/// Serves so many requests on this thread.
fn run(edge: &str, requests: usize) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (bound, address) = oneshot::channel();
        let (served, done) = oneshot::channel();
        let client = std::thread::spawn(move || {
            ask(address.blocking_recv().expect("an address"), requests);
            let _ = served.send(());
        });
        let done = async { done.await.unwrap_or_default() };
        match edge {
            "chassis" => {
                let config =
                    Loader::new("edge").default_value("admin_listen", "off").default_value("lame_duck_ms", 0);
                let boot = async |b: &mut Boot<()>| {
                    servers::serve(b, |address| bound.send(address).expect("a client waits"));
                    Ok(())
                };
                let ended = App::new("edge").config(config).run_until(boot, done).await;
                assert_eq!(ended.exit_code(), 0, "{ended:?}");
            }
            other => {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                let _ = bound.send(listener.local_addr().expect("an address"));
                let serving = async {
                    match other {
                        "bare" => servers::bare(listener).await,
                        "axum" => servers::axum(listener).await,
                        other => panic!("no such edge: {other}; there are bare, axum and chassis"),
                    }
                };
                tokio::select! { () = serving => {}, () = done => {} }
            }
        }
        client.join().expect("the client was answered");
    });
}

fn ask(address: SocketAddr, requests: usize) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let mut answer = [0; 4096];
    for _ in 0..requests {
        stream.write_all(REQUEST).expect("sent");
        let mut length = 0;
        while !answer[..length].ends_with(b"world!\n") {
            let read = stream.read(&mut answer[length..]).expect("an answer");
            assert_ne!(read, 0, "the connection was closed");
            length += read;
        }
    }
}

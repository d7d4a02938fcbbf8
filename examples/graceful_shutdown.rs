//! Five requests are in flight when the shutdown begins: they finish, new ones are refused, and then the service stops.

use std::{future::pending, io, net::SocketAddr, sync::Arc};

use axum::{Router, extract::State, routing::get};
use mainstay::{App, Boot, Error, Result, Shutdown, config::Loader, shutdown::Phase};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Barrier, oneshot},
    task::JoinSet,
};

const REQUESTS: usize = 5;

/// Meets the others, and the client below, twice: when all are in flight, and when they may finish.
async fn slow(State(step): State<Arc<Barrier>>) -> &'static str {
    step.wait().await;
    step.wait().await;
    "done"
}

#[tokio::main]
async fn main() {
    // No balancer watches this service: it need not go on accepting while one notices.
    let config = Loader::new("example").default_value("lame_duck_ms", 0).default_value("admin_listen", "off");
    let app = App::new("example").config(config);
    let (step, shutdown) = (Arc::new(Barrier::new(REQUESTS + 1)), app.shutdown());
    let (up, address) = oneshot::channel();

    let router = Router::new().route("/", get(slow)).with_state(step.clone());
    let boot = async |b: &mut Boot<()>| -> Result<()> {
        let http = b.http("127.0.0.1:0", router);
        b.on_ready(
            async move { up.send(http.bound().await).map_err(|_| Error::from("nobody waits for us")) },
        );
        Ok(())
    };
    let (ended, ()) = tokio::join!(app.run_until(boot, pending()), async {
        clients(address.await.expect("the service starts"), &step, &shutdown).await;
    });
    assert!(ended.error.is_none() && ended.cut.is_empty(), "not everything drained: {ended:?}");
    println!("Server stopped");
}

async fn clients(address: SocketAddr, step: &Barrier, shutdown: &Shutdown) {
    shutdown.reached(Phase::Running).await;
    println!("Server running");

    let mut requests = JoinSet::new();
    (0..REQUESTS).for_each(|_| drop(requests.spawn(request(address))));
    step.wait().await; // all are being handled now

    shutdown.begin(); // as SIGTERM would
    println!("Shutdown initiated");
    shutdown.reached(Phase::Draining).await;
    while TcpStream::connect(address).await.is_ok() {} // the listener closes: new ones are refused
    assert_eq!(requests.len(), REQUESTS, "a request was cut");

    step.wait().await; // they may finish
    for answer in requests.join_all().await {
        let answer = answer.expect("a request in flight was lost");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
    }
    println!("In-flight requests drained");
}

async fn request(to: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: example\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?; // a server that drains closes after its answer
    Ok(answer)
}

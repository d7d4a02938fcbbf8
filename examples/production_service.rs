//! A whole service: orders come in over HTTP, become durable jobs, and are worked off; it says how it is, counts what
//! it does, and stops without losing anything.

use std::{io, net::SocketAddr, process::ExitCode, sync::Arc};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use mainstay::{
    App, Boot, Client, Error, Job, JobContext, JobError, Result, Shutdown, Weight, Workers,
    config::Loader,
    http::{ApiError, Http},
    secs,
    shutdown::Phase,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};

const ORDERS: u32 = 5;

#[derive(Serialize, Deserialize)]
struct Order {
    item: String,
}
impl Job for Order {
    const KIND: &'static str = "order";
    const QUEUE: &'static str = "orders";
}

#[derive(Clone)]
struct Shop {
    store: Client,
    /// Counts the orders that have been worked off.
    done: Arc<Semaphore>,
}

async fn order(State(shop): State<Shop>, Json(order): Json<Order>) -> Result<StatusCode, ApiError> {
    shop.store.enqueue(order).await?; // durable when it answers; in this example as durable as memory is
    Ok(StatusCode::ACCEPTED)
}

async fn fulfil(order: Order, cx: JobContext<Shop>) -> Result<(), JobError> {
    tracing::info!(item = %order.item, attempt = cx.attempt(), "order fulfilled");
    metrics::counter!("shop.orders.fulfilled").increment(1);
    cx.done.add_permits(1);
    Ok(())
}

async fn boot(b: &mut Boot<()>) -> Result<()> {
    // The order of these lines is the order of the start; the end takes it in reverse.
    let store = b.store("memory:").await?;
    let shop = Shop { store, done: Arc::new(Semaphore::new(0)) };
    b.on_stop("shop", secs(1), async || {
        tracing::info!("shop closed"); // after its last order
        Ok::<_, Error>(())
    });
    b.check("shop", Weight::Degraded, async || Ok::<_, Error>(()));
    let http = b.http("127.0.0.1:0", Router::new().route("/orders", post(order)).with_state(shop.clone()));
    b.workers(Workers::new("orders", shop.clone()).on(fulfil).concurrency(1..=8));

    // And a customer, so that this example ends by itself. A real service leaves that to SIGTERM.
    let admin = b.admin_address().ok_or("there is no admin listener")?;
    b.background("customer", async move |shutdown: Shutdown| {
        shutdown.reached(Phase::Running).await;
        let visit = timeout(secs(20), customer(http, admin, shop));
        visit.await.expect("the service works in time").expect("the service answers");
        shutdown.begin();
    });
    Ok(())
}

fn main() -> ExitCode {
    let config =
        Loader::new("example").default_value("admin_listen", "127.0.0.1:0").default_value("lame_duck_ms", 0);
    let exit = App::<()>::new("example").config(config).run(boot);
    if exit == ExitCode::SUCCESS {
        println!("Graceful shutdown complete"); // nothing had to be cut
    }
    exit
}

async fn customer(http: Http, admin: SocketAddr, shop: Shop) -> io::Result<()> {
    let address = http.bound().await;
    println!("Service started");
    for n in 1..=ORDERS {
        let order = format!(r#"{{"item":"book {n}"}}"#);
        let answer = ask(address, "POST /orders", &order).await?;
        assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    }
    drop(shop.done.acquire_many(ORDERS).await);

    // What Prometheus would scrape.
    let metrics = ask(admin, "GET /metrics", "").await?;
    let counted = metrics.lines().find_map(|line| line.strip_prefix("shop_orders_fulfilled_total "));
    println!("Processed {} requests", counted.unwrap_or("an unknown number of"));
    let live = ask(admin, "GET /livez", "").await?;
    println!("Health: {}", if live.contains(r#""status":"healthy""#) { "healthy" } else { "unhealthy" });
    Ok(())
}

async fn ask(to: SocketAddr, what: &str, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(to).await?;
    let (kind, length) = ("content-type: application/json", body.len());
    let head = format!(
        "{what} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{kind}\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

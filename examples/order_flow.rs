//! An order flow that a crash in any place cannot corrupt: HTTP, a commit, events, jobs, and a stock behind a lock.
//!
//! ```text
//! POST /orders ─commit→ order.placed ─group→ job `reserve` ─lock, commit→ stock.ITEM, order.decided, job done
//! ```
//!
//! Every arrow is one commit. An order is answered once its event is on the disk; an event becomes a job in the commit that
//! acknowledges it; the stock changes, the order is decided and the job ends in one commit that holds only under the
//! lock. Killed anywhere, what was answered is decided exactly once, and the stock is what was decided: a test does that
//! to this program, again and again.
//!
//! Without flags it visits itself, on a store in RAM. As a service: `ORDERS_VISIT=false ORDERS_STORE=sqlite:orders.db`.

use std::{net::SocketAddr, process::ExitCode};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use mainstay::core::event::{LogBudget, Position};
use mainstay::core::job::{Backoff, JobPolicy};
use mainstay::core::{TopicFilter, TopicName};
use mainstay::event::Envelope;
use mainstay::shutdown::Phase;
use mainstay::{
    App, Boot, Client, Event, EventContext, Job, JobContext, JobError, Result, Shutdown, Workers,
    config::Loader, http::ApiError, millis, secs,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What is placed over HTTP, announced, and worked off: one type all the way.
#[derive(Clone, Serialize, Deserialize)]
struct Order {
    id: String,
    item: String,
    count: u32,
}
impl Event for Order {
    const TOPIC: &'static str = "order.placed";
}

#[derive(Serialize, Deserialize)]
struct Reserve(Order);
impl Job for Reserve {
    const KIND: &'static str = "reserve";
    const QUEUE: &'static str = "stock";

    fn policy() -> JobPolicy {
        // Whoever is killed for a test is not to blame, and the customer waits.
        let backoff = Backoff { max_ms: 1_000, ..Backoff::default() };
        JobPolicy { max_crashes: Some(1_000), max_attempts: 1_000, backoff, ..JobPolicy::default() }
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Decided {
    order: String,
    accepted: bool,
}
impl Event for Decided {
    const TOPIC: &'static str = "order.decided";
}

/// The stock of an item is what its last event says: topic `stock.ITEM`.
#[derive(Clone, Serialize, Deserialize)]
struct Stock {
    left: u32,
}
impl Event for Stock {
    const TOPIC: &'static str = "stock";
}

#[derive(Serialize, Deserialize)]
#[serde(default)]
struct Config {
    listen: String,
    store: String,
    /// What there is of an item in the beginning.
    stock: u32,
    lease_ms: u64,
    visit: bool,
}
impl Default for Config {
    fn default() -> Self {
        let (listen, store) = ("127.0.0.1:0".to_owned(), "memory:".to_owned());
        Self { listen, store, stock: 2, lease_ms: 30_000, visit: true }
    }
}

#[derive(Clone)]
struct Shop {
    store: Client,
    stock: u32,
}

async fn place(State(shop): State<Shop>, Json(order): Json<Order>) -> Result<StatusCode, ApiError> {
    // The order's own id: sent again within two minutes, it is the same event. Whoever sends it again later has placed a
    // second one; a shop whose customers may do that asks its own books first.
    shop.store.commit().publish(order.with().id(order.id.clone())).await?;
    tracing::info!(order = %order.id, "order placed");
    Ok(StatusCode::ACCEPTED)
}

async fn reserve(Reserve(order): Reserve, cx: JobContext<Shop>) -> Result<(), JobError> {
    let stock = format!("stock.{}", order.item);
    let lock = cx.store().lock(&stock)?.ttl(secs(1)).acquire().await?;
    let left = last::<Stock>(cx.store(), &stock).await?.map_or(cx.stock, |stock| stock.left);
    let accepted = order.count <= left;
    let decided = Decided { order: order.id.clone(), accepted };
    // The job's end, its result and the stock: all of it, and only if the lock is still ours.
    let mut commit = cx.commit().require_lock(&lock).publish(&decided);
    if accepted {
        commit = commit.publish(Stock { left: left - order.count }.with().topic(stock));
    }
    commit.await?;
    tracing::info!(order = %order.id, accepted, "decided");
    Ok(())
}

async fn notify(decided: Decided, _: EventContext) -> Result<(), JobError> {
    tracing::info!(order = %decided.order, accepted = decided.accepted, "customer told");
    Ok(())
}

/// What a topic said last.
async fn last<E: Event>(store: &Client, topic: &str) -> Result<Option<E>, JobError> {
    let name = TopicName::new(topic)?;
    let Some(topic) = store.topic(&name).await? else { return Ok(None) };
    let filter = [TopicFilter::new(name.as_str())?];
    let slice = store.read_log(&filter, Position::Seq(topic.last_seq), LogBudget::default()).await?;
    let Some(event) = slice.events.last() else { return Ok(None) };
    Ok(Some(Envelope::logged(event).read()?))
}

/// What has become of all orders: read from the log.
#[derive(Default, Debug, Serialize, Deserialize)]
struct Report {
    placed: Vec<String>,
    accepted: Vec<String>,
    refused: Vec<String>,
    /// The stock after each change.
    stock: Vec<u32>,
}

async fn report(State(shop): State<Shop>) -> Result<Json<Report>, ApiError> {
    let (mut report, mut from) = (Report::default(), Position::Earliest);
    loop {
        let slice = shop.store.read_log(&[], from, LogBudget::default()).await?;
        for event in &slice.events {
            let event = Envelope::logged(event);
            match event.topic() {
                Order::TOPIC => report.placed.push(event.read::<Order>()?.id),
                Decided::TOPIC => {
                    let Decided { order, accepted } = event.read()?;
                    if accepted { report.accepted.push(order) } else { report.refused.push(order) }
                }
                _ => report.stock.push(event.read::<Stock>()?.left),
            }
        }
        if slice.next > slice.head {
            return Ok(Json(report));
        }
        from = Position::Seq(slice.next);
    }
}

async fn boot(b: &mut Boot<Config>) -> Result<()> {
    let lease = millis(b.config.lease_ms);
    let store = b.store(&b.config.store).await?;
    let shop = Shop { store: store.clone(), stock: b.config.stock };
    // Who hears of orders is there before whoever can place one.
    let reservations = store.group("reservations").with(()).enqueue(|order: Order, ()| Reserve(order));
    b.subscribe(reservations.lease(lease).max_deliver(1_000));
    b.subscribe(store.group("notices").with(()).on(notify).lease(lease).max_deliver(1_000));
    b.workers(Workers::new("stock", shop.clone()).on(reserve).lease(lease).concurrency(8));
    let routes = Router::new().route("/orders", post(place)).route("/report", get(report));
    let http = b.http(&b.config.listen, routes.with_state(shop));
    if b.config.visit {
        b.background("visitor", async move |shutdown: Shutdown| {
            shutdown.reached(Phase::Running).await;
            visit(http.bound().await).await.expect("the service answers");
            shutdown.begin();
        });
    }
    Ok(())
}

fn main() -> ExitCode {
    let config = Loader::new("orders").default_value("admin_listen", "off").default_value("lame_duck_ms", 0);
    App::new("orders").config(config).run(boot)
}

/// Three orders for two books.
async fn visit(shop: SocketAddr) -> std::io::Result<()> {
    for id in ["order_1", "order_2", "order_3"] {
        let order = Order { id: id.to_owned(), item: "book".to_owned(), count: 1 };
        ask(shop, "POST /orders", &serde_json::to_string(&order)?).await?;
    }
    let report = loop {
        let report: Report = serde_json::from_str(&ask(shop, "GET /report", "").await?)?;
        if report.accepted.len() + report.refused.len() == 3 {
            break report;
        }
        tokio::time::sleep(millis(5)).await;
    };
    println!("{} orders placed", report.placed.len());
    println!("{} accepted, {} refused", report.accepted.len(), report.refused.len());
    println!("stock: {:?}", report.stock);
    Ok(())
}

async fn ask(to: SocketAddr, what: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(to).await?;
    let (kind, length) = ("content-type: application/json", body.len());
    let head = format!(
        "{what} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{kind}\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

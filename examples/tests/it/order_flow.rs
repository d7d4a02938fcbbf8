//! The order flow, killed at random points: what was answered is decided exactly once, and the stock is what was decided.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStderr, Command},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

use super::{PATIENCE, built};

const KILLS: u64 = 12;
const ORDERS: usize = 150;
const STOCK: u32 = 120;
const CUSTOMERS: usize = 6;

struct Service {
    child: Child,
    address: SocketAddr,
    /// A permit for each order that it says it has decided, and for each customer told.
    decided: Arc<Semaphore>,
    told: Arc<Semaphore>,
    lines: Arc<Mutex<Vec<Value>>>,
    _log: JoinSet<()>,
}

impl Service {
    async fn start(folder: &Path) -> Self {
        let mut child = Command::new(built("order_flow"))
            .env("ORDERS_VISIT", "false")
            .env("ORDERS_STORE", format!("sqlite:{}", folder.join("orders.db").display()))
            .env("ORDERS_STOCK", STOCK.to_string())
            .env("ORDERS_LEASE_MS", "1000")
            .env("ORDERS_LOG_FORMAT", "json")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = timeout(PATIENCE, listening(&mut log)).await.expect("it listens in time");
        let decided = Arc::new(Semaphore::new(0));
        let mut reader = JoinSet::new();
        let (told, lines) = (Arc::new(Semaphore::new(0)), Arc::<Mutex<Vec<Value>>>::default());
        let seen = (decided.clone(), told.clone(), lines.clone());
        reader.spawn(async move {
            while let Ok(Some(line)) = log.next_line().await {
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                let message = line["msg"].as_str().unwrap_or_default().to_owned();
                seen.2.lock().unwrap().push(line);
                match &*message {
                    "decided" => seen.0.add_permits(1),
                    "customer told" => seen.1.add_permits(1),
                    _ => {}
                }
            }
        });
        Self { child, address, decided, told, lines, _log: reader }
    }

    async fn report(&self) -> Value {
        let answer = ask(self.address, "GET /report", "").await.expect("a report");
        serde_json::from_str(answer.split_once("\r\n\r\n").expect("a body").1).unwrap()
    }

    /// What it said last, without the requests.
    fn last_lines(&self) -> String {
        let lines = self.lines.lock().unwrap();
        let told = lines.iter().rev().filter(|line| line["msg"] != "request").take(60);
        told.map(|line| format!("{line}\n")).collect()
    }

    async fn kill(mut self) {
        self.child.start_kill().expect("it can be killed");
        self.child.wait().await.expect("it is gone");
    }
}

async fn listening(log: &mut Lines<BufReader<ChildStderr>>) -> SocketAddr {
    let mut all = String::new();
    while let Some(line) = log.next_line().await.unwrap() {
        let parsed: Option<Value> = serde_json::from_str(&line).ok();
        if let Some(address) = parsed.as_ref().and_then(|line| line.get("address")?.as_str()) {
            return address.parse().unwrap();
        }
        all += &(line + "\n");
    }
    panic!("it ended before it listened:\n{all}");
}

/// What customers still want, and what they have been promised.
#[derive(Default)]
struct Book {
    wanted: Vec<usize>,
    answered: BTreeSet<String>,
}

fn count_of(order: usize) -> u64 {
    1 + order as u64 % 3
}

/// Places orders until there are none, or nobody answers any more.
async fn customer(shop: SocketAddr, book: Arc<Mutex<Book>>, answers: Arc<Semaphore>) {
    loop {
        let Some(order) = book.lock().unwrap().wanted.pop() else { return };
        let id = format!("order_{order}");
        let body = json!({ "id": id, "item": "book", "count": count_of(order) }).to_string();
        match ask(shop, "POST /orders", &body).await {
            Ok(answer) if answer.starts_with("HTTP/1.1 202") => {
                book.lock().unwrap().answered.insert(id);
                answers.add_permits(1);
            }
            _ => {
                // Whether it arrived is not known: the same order is sent again.
                book.lock().unwrap().wanted.push(order);
                return;
            }
        }
    }
}

fn customers(shop: SocketAddr, book: &Arc<Mutex<Book>>, answers: &Arc<Semaphore>) -> JoinSet<()> {
    let mut all = JoinSet::new();
    for _ in 0..CUSTOMERS {
        all.spawn(customer(shop, book.clone(), answers.clone()));
    }
    all
}

#[tokio::test]
async fn an_order_flow_survives_being_killed_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let book = Arc::new(Mutex::new(Book { wanted: (0..ORDERS).collect(), ..Book::default() }));
    let answers = Arc::new(Semaphore::new(0));
    for kill in 0..KILLS {
        let service = Service::start(folder.path()).await;
        let customers = customers(service.address, &book, &answers);
        // Some way into the placing, or into the deciding; where exactly the machine decides.
        let some = 1 + (kill * 7 % 11) as u32;
        let signal = if kill % 2 == 0 { answers.clone() } else { service.decided.clone() };
        timeout(PATIENCE, signal.acquire_many(some)).await.expect("it gets that far").unwrap().forget();
        service.kill().await;
        customers.join_all().await;
    }

    let service = Service::start(folder.path()).await;
    customers(service.address, &book, &answers).join_all().await;
    let quiet = async {
        loop {
            let report = service.report().await;
            let count = |name: &str| report[name].as_array().unwrap().len();
            if count("accepted") + count("refused") >= count("placed") {
                return report;
            }
        }
    };
    let Ok(report) = timeout(PATIENCE, quiet).await else {
        panic!("not every order is decided in time: {}\n{}", service.report().await, service.last_lines());
    };
    judge(&report, &book.lock().unwrap().answered);
}

#[tokio::test]
async fn one_id_can_be_followed_from_the_request_to_the_last_line() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path()).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let headers = format!(
        "POST /orders HTTP/1.1\r\nx-request-id: req-77\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-01"
    );
    let body = json!({ "id": "order_1", "item": "book", "count": 1 }).to_string();
    let answer = send(service.address, &headers, &body).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    timeout(PATIENCE, service.told.acquire()).await.expect("the customer is told").unwrap().forget();

    let lines = service.lines.lock().unwrap().clone();
    // The request's handler, its access line, the job's, the last delivery's.
    let ours: Vec<_> = lines.iter().filter(|line| line["request_id"] == "req-77").collect();
    let said: BTreeSet<_> = ours.iter().filter_map(|line| line["msg"].as_str()).collect();
    for message in ["order placed", "decided", "customer told"] {
        assert!(said.contains(message), "{message} is missing in {lines:#?}");
    }
    assert!(ours.iter().all(|line| line["trace_id"] == trace), "{ours:#?}");
    assert!(ours.iter().any(|line| line["job.kind"] == "reserve" && line["event.topic"] == "order.placed"));
    assert!(ours.iter().any(|line| line["event.topic"] == "order.decided" && line["event.seq"].is_u64()));
    service.kill().await;
}

fn judge(report: &Value, answered: &BTreeSet<String>) {
    let list = |name: &str| -> Vec<String> {
        report[name].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    };
    let set = |ids: &[String]| ids.iter().cloned().collect::<BTreeSet<_>>();
    let (placed, accepted, refused) = (list("placed"), list("accepted"), list("refused"));
    assert_eq!(answered.len(), ORDERS, "every order was answered in the end");
    assert_eq!(placed.len(), ORDERS, "sent twice is placed once");
    assert_eq!(&set(&placed), answered, "what was answered is there");

    let decided: Vec<_> = accepted.iter().chain(&refused).cloned().collect();
    let mut times = BTreeMap::new();
    decided.iter().for_each(|order| *times.entry(order).or_insert(0) += 1);
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "decided more than once: {twice:?}");
    assert_eq!(&set(&decided), answered, "every order is decided");

    let stock: Vec<u64> =
        report["stock"].as_array().unwrap().iter().map(|left| left.as_u64().unwrap()).collect();
    assert_eq!(stock.len(), accepted.len(), "each accepted order has changed the stock once");
    assert!(stock.is_sorted_by(|before, after| before > after), "the stock only shrinks: {stock:?}");
    let sold: u64 = accepted.iter().map(|id| count_of(id["order_".len()..].parse().unwrap())).sum();
    let left = stock.last().copied().unwrap_or(STOCK.into());
    assert_eq!(sold + left, u64::from(STOCK), "what was sold and what is left is what there was");
    assert!(left < 3 && !refused.is_empty(), "the stock was sold until it was too little");
}

async fn ask(to: SocketAddr, what: &str, body: &str) -> std::io::Result<String> {
    send(to, &format!("{what} HTTP/1.1"), body).await
}

async fn send(to: SocketAddr, head: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(to).await?;
    let (kind, length) = ("content-type: application/json", body.len());
    let head =
        format!("{head}\r\nhost: x\r\nconnection: close\r\n{kind}\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    if answer.is_empty() { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer) }
}

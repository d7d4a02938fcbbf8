//! Stopping one of two servers under load: nothing is refused, nothing is lost.

use std::{
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use mainstay::{core::store::Page, tasks::TaskSet};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};

const PATIENCE: Duration = Duration::from_secs(30);
const CLIENTS: usize = 64;

struct Server {
    child: Child,
    api: SocketAddr,
}

async fn serve(folder: &Path, name: &str, more: &[&str]) -> Server {
    serve_by(Command::new(env!("CARGO_BIN_EXE_mainstay")), folder, name, more).await
}

async fn serve_by(mut command: Command, folder: &Path, name: &str, more: &[&str]) -> Server {
    let addresses = folder.join(format!("{name}.json"));
    let child = command
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-level", "warn"])
        .arg("--store")
        .arg(format!("sqlite:{}", folder.join(format!("{name}.db")).display()))
        .arg("--addr-file")
        .arg(&addresses)
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the server starts");
    let bound = async {
        loop {
            // Written whole, by rename: there or not there.
            match std::fs::read_to_string(&addresses) {
                Ok(text) => break serde_json::from_str::<serde_json::Value>(&text).expect("JSON"),
                Err(_) => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let bound = timeout(PATIENCE, bound).await.expect("both listeners in time");
    let api = bound["api"].as_str().expect("an address").parse().expect("HOST:PORT");
    Server { child, api }
}

impl Server {
    fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("it runs");
        kill_process(Pid::from_raw(pid as i32).expect("a process id"), signal).expect("the signal is sent");
    }

    async fn exit_code(mut self) -> Option<i32> {
        timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").expect("it is our child").code()
    }
}

/// What the clients of a balancer saw.
#[derive(Default)]
struct Seen {
    answered: AtomicUsize,
    refused: AtomicUsize,
    lost: AtomicUsize,
    acknowledged: Mutex<Vec<(SocketAddr, String)>>,
}

/// One keep-alive client: enqueues as fast as it is answered, and connects to whatever the balancer says.
async fn client(
    number: usize,
    balancer: Arc<Mutex<Vec<SocketAddr>>>,
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
) {
    let mut turn = number;
    let mut connection: Option<(SocketAddr, TcpStream)> = None;
    while !stop.load(Ordering::Relaxed) {
        let (address, mut stream) = match connection.take() {
            Some(open) => open,
            None => {
                let servers = balancer.lock().unwrap().clone();
                let address = servers[turn % servers.len()];
                turn += 1;
                match TcpStream::connect(address).await {
                    Ok(stream) => (address, stream),
                    Err(_) => {
                        seen.refused.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                }
            }
        };
        let body = format!("{{\"kind\":\"k\",\"payload\":{number}}}");
        let request = format!(
            "POST /v1/queues/q/jobs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = match stream.write_all(request.as_bytes()).await {
            Ok(()) => read_answer(&mut stream).await,
            Err(_) => None,
        };
        let Some((status, close, body)) = answer else {
            seen.lost.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        assert_eq!(status, 201, "{body}");
        let id = serde_json::from_str::<serde_json::Value>(&body).unwrap()["id"].as_str().unwrap().to_owned();
        seen.acknowledged.lock().unwrap().push((address, id));
        seen.answered.fetch_add(1, Ordering::Relaxed);
        if !close {
            connection = Some((address, stream));
        }
    }
}

async fn read_answer(stream: &mut TcpStream) -> Option<(u16, bool, String)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let status = head.split(' ').nth(1)?.parse().ok()?;
            let length: usize =
                head.lines().find_map(|line| line.strip_prefix("content-length: "))?.trim().parse().ok()?;
            while bytes.len() < end + 4 + length {
                if stream.read_buf(&mut bytes).await.ok()? == 0 {
                    return None;
                }
            }
            let body = String::from_utf8_lossy(&bytes[end + 4..]).into_owned();
            return Some((status, head.contains("connection: close"), body));
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_servers_stops_under_load_and_no_request_is_refused_or_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (stays, goes) = tokio::join!(
        serve(folder.path(), "stays", &[]),
        serve(folder.path(), "goes", &["--lame-duck-ms", "4000"])
    );
    let balancer = Arc::new(Mutex::new(vec![stays.api, goes.api]));
    let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
    let tasks = TaskSet::current().unwrap();
    for number in 0..CLIENTS {
        tasks.spawn("client", client(number, balancer.clone(), seen.clone(), stop.clone()));
    }
    let answered = async |more: usize| {
        let enough = seen.answered.load(Ordering::Relaxed) + more;
        let wait = async {
            while seen.answered.load(Ordering::Relaxed) < enough {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, wait).await.expect("the servers answer");
    };
    answered(2_000).await;

    let (gone, from_gone) = (goes.api, |(address, _): &&(SocketAddr, String)| *address == goes.api);
    goes.signal(Signal::TERM);
    // The balancer notices two seconds later: that is the scenario, not a wait for something.
    sleep(Duration::from_secs(2)).await;
    balancer.lock().unwrap().retain(|address| *address != gone);
    let late = seen.acknowledged.lock().unwrap().iter().filter(from_gone).count();
    assert!(late > 0, "the one that goes was used");
    assert_eq!(goes.exit_code().await, Some(0));
    answered(500).await;
    stop.store(true, Ordering::Relaxed);
    timeout(PATIENCE, tasks.idle()).await.expect("the clients end");

    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    assert_eq!((count(&seen.refused), count(&seen.lost)), (0, 0), "of {} requests", count(&seen.answered));

    // What the stopped one acknowledged is in its file.
    let store =
        mainstay::store::open(&format!("sqlite:{}", folder.path().join("goes.db").display())).unwrap();
    let mut there = std::collections::HashSet::new();
    let mut page = Page { limit: 1_000, cursor: None };
    loop {
        let slice = store.jobs(Default::default(), page.clone()).await.unwrap();
        there.extend(slice.items.iter().filter_map(|record| match record {
            mainstay::core::store::Record::Job(job) => Some(job.id.to_string()),
            _ => None,
        }));
        match slice.next {
            Some(cursor) => page.cursor = Some(cursor),
            None => break,
        }
    }
    let acknowledged = std::mem::take(&mut *seen.acknowledged.lock().unwrap());
    let missing = acknowledged.iter().filter(|(address, id)| *address == gone && !there.contains(id)).count();
    assert_eq!(missing, 0, "acknowledged by the stopped server and not in its store");
    stays.signal(Signal::INT);
    assert_eq!(stays.exit_code().await, Some(0));
}

#[tokio::test]
async fn an_upload_that_never_ends_is_cut_and_named_and_the_exit_code_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let quick = ["--lame-duck-ms", "0", "--drain-ms", "300", "--grace-ms", "10000"];
    let mut server = serve(folder.path(), "s", &quick).await;
    let mut log = server.child.stderr.take().expect("piped");
    let mut stream = TcpStream::connect(server.api).await.unwrap();
    let head =
        "POST /v1/queues/q/jobs HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 100\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server asks for the body: the request is in its hands.
    let mut asked = Vec::new();
    timeout(PATIENCE, stream.read_buf(&mut asked)).await.expect("an answer in time").unwrap();
    assert!(asked.starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&asked));

    server.signal(Signal::TERM);
    assert_eq!(server.exit_code().await, Some(1));
    let mut said = String::new();
    timeout(PATIENCE, log.read_to_string(&mut said)).await.expect("the log ends").unwrap();
    assert!(said.contains("was cut") && said.contains("POST /v1/queues/q/jobs"), "{said}");
}

/// One request on a connection of its own: status and body.
async fn ask(to: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let answer = timeout(PATIENCE, read_answer(&mut stream)).await.expect("an answer in time");
    let (status, _, body) = answer.expect("an answer");
    (status, body)
}

/// A limit on the size of files is the full disk that needs no privileges.
#[tokio::test]
async fn a_full_disk_refuses_cleanly_answers_reads_and_stops_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    // In blocks of 512 bytes, or of 1,024 with some shells.
    let limited = "trap '' XFSZ; ulimit -f 16384; exec \"$0\" \"$@\"";
    command.arg("-c").arg(limited).arg(env!("CARGO_BIN_EXE_mainstay"));
    let mut server = serve_by(command, folder.path(), "full", &["--lame-duck-ms", "0"]).await;
    // It warns a great deal.
    let mut log = server.child.stderr.take().expect("piped");
    let tasks = TaskSet::current().unwrap();
    let reader = tasks.spawn("log", async move {
        let mut said = String::new();
        log.read_to_string(&mut said).await.map(|_| said)
    });

    let job = format!("{{\"kind\":\"k\",\"payload\":\"{}\"}}", "x".repeat(500_000));
    let mut kept = 0;
    let refused = loop {
        match ask(server.api, "POST", "/v1/queues/q/jobs", &job).await {
            (201, _) => kept += 1,
            (status, body) => break (status, body),
        }
        assert!(kept < 1_000, "the limit does not hold");
    };
    assert_eq!(refused.0, 503, "{}", refused.1);
    assert!(refused.1.contains("\"outcome\":\"not-applied\""), "{}", refused.1);
    let (status, queue) = ask(server.api, "GET", "/v1/queues/q", "").await;
    assert_eq!(status, 200);
    assert!(queue.contains(&format!("\"available\":{kept}")), "{kept}: {queue}");

    server.signal(Signal::TERM);
    assert_eq!(server.exit_code().await, Some(0));
    let said = timeout(PATIENCE, reader).await.expect("the log ends").unwrap().unwrap();
    assert!(said.contains("could not be written"), "{said}");

    std::fs::remove_file(folder.path().join("full.json")).unwrap();
    // With room again, everything that was acknowledged is there.
    let server = serve(folder.path(), "full", &["--lame-duck-ms", "0"]).await;
    let (_, queue) = ask(server.api, "GET", "/v1/queues/q", "").await;
    assert!(queue.contains(&format!("\"available\":{kept}")), "{kept}: {queue}");
    assert_eq!(ask(server.api, "POST", "/v1/queues/q/jobs", "{\"kind\":\"k\"}").await.0, 201);
    server.signal(Signal::TERM);
    assert_eq!(server.exit_code().await, Some(0));
}

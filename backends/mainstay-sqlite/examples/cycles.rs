//! How many full cycles (enqueue, claim, complete; each answered when durable) a second this store does here.
//!
//! `cargo run --release -p mainstay-sqlite --example cycles -- FOLDER [CALLERS=64] [SECONDS=5] [WAITING=0]`

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use mainstay_core::{
    Now, QueueName, Store, StoreTime, Timestamp,
    clock::Clock,
    id::JobIds,
    job::{JobBody, NewJob, Outcome},
    op::{Claim, Commit, Op, Reply, Settle},
    queue::{QueueConfig, Retention},
    store::Batch,
};
use mainstay_sqlite::{Options, SqliteStore};

struct SystemClock {
    start: Instant,
    draws: AtomicU64,
}

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            wall: Timestamp(wall.as_millis() as i64),
            store: StoreTime(self.start.elapsed().as_millis() as u64),
        }
    }

    async fn sleep_until(&self, at: StoreTime) {
        tokio::time::sleep_until((self.start + Duration::from_millis(at.0)).into()).await;
    }

    fn entropy(&self) -> u64 {
        mainstay_core::rules::mix(7, self.draws.fetch_add(1, Ordering::Relaxed))
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: u64| args.get(i).map_or(default, |text| text.parse().expect("a number"));
    let folder = args.first().expect("FOLDER [CALLERS] [SECONDS] [WAITING]");
    let (callers, seconds, waiting) = (number(1, 64), number(2, 5), number(3, 0));
    #[expect(clippy::disallowed_methods, reason = "a measurement")]
    let start = Instant::now();
    let clock = Arc::new(SystemClock { start, draws: AtomicU64::new(0) });
    let path = Path::new(folder).join("cycles.db");
    let opening = start.elapsed();
    let store = Arc::new(SqliteStore::open(Options::new(path, clock)).expect("open"));
    println!("open {:?}", start.elapsed() - opening);
    let queues: Vec<_> = (0..4).map(|i| QueueName::new(&format!("q{i}")).expect("a name")).collect();
    let mut ids = JobIds::default();
    for queue in &queues {
        let retention = Retention { completed_count: 5_000, ..Retention::default() };
        let config = QueueConfig { retention, ..QueueConfig::default() };
        submit(&store, vec![Op::PutQueue { queue: queue.clone(), config }]).await;
    }
    let body = JobBody::new("bench", &format!("\"{}\"", "x".repeat(256)));
    let filling = start.elapsed();
    for first in (0..waiting).step_by(1_000) {
        let job = |i: u64| {
            NewJob::new(ids.next(wall_ms(), &queues[0], i), queues[i as usize % 4].clone(), body.clone())
        };
        submit(&store, (first..first + 1_000).map(job).map(|job| Op::Enqueue(Box::new(job))).collect()).await;
    }
    if waiting > 0 {
        println!("filled {waiting} in {:?}", start.elapsed() - filling);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    let before = figures(&store);
    let measured = start.elapsed();
    for caller in 0..callers {
        let (store, stop, body) = (store.clone(), stop.clone(), body.clone());
        let queue = queues[caller as usize % 4].clone();
        tasks.spawn(async move {
            let mut ids = JobIds::default();
            let (mut cycles, mut latencies) = (0_u64, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                let begun = start.elapsed();
                let id = ids.next(wall_ms(), &queue, mainstay_core::rules::mix(caller, cycles));
                let mut job = NewJob::new(id, queue.clone(), body.clone());
                if waiting == 0 {
                    job.priority = (cycles % 3) as u8;
                }
                submit(&store, vec![Op::Enqueue(Box::new(job))]).await;
                let claim = Claim {
                    queues: vec![queue.clone()],
                    max: 1,
                    max_bytes: 1 << 24,
                    lease_ms: 30_000,
                    worker: None,
                };
                let Reply::Claimed(grants) = submit(&store, vec![Op::Claim(claim)]).await.remove(0) else {
                    panic!()
                };
                for grant in grants {
                    let outcome = Outcome::Complete { result: None };
                    let settle = Settle { id: grant.id, lease: grant.lease, outcome, repeat_is_ok: true };
                    submit(&store, vec![Op::Settle(settle)]).await;
                    cycles += 1;
                }
                latencies.push((start.elapsed() - begun).as_micros() as u64);
            }
            (cycles, latencies)
        });
    }
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    stop.store(true, Ordering::Relaxed);
    let (mut cycles, mut latencies) = (0, Vec::new());
    while let Some(done) = tasks.join_next().await {
        let (more, mut times) = done.expect("a caller");
        cycles += more;
        latencies.append(&mut times);
    }
    let took = (start.elapsed() - measured).as_secs_f64();
    latencies.sort_unstable();
    let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize];
    println!(
        "{:.0} cycles/s, a cycle p50 {} us, p99 {} us, p99.9 {} us",
        cycles as f64 / took,
        at(0.5),
        at(0.99),
        at(0.999)
    );
    for ((name, after), (_, before)) in figures(&store).into_iter().zip(before) {
        let grown = if name.ends_with("_total") { after - before } else { after };
        println!("  {name} {grown:.3}");
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"))
        .for_each(|line| println!("  {line}"));
    // Processor time by thread: what is left of the figures on a machine that others use too.
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let nanos =
            read("schedstat").split(' ').next().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
        println!(
            "  {} {:.2} s, {:.1} us a cycle",
            read("comm").trim(),
            nanos / 1e9,
            nanos / 1e3 / cycles as f64
        );
    }
    store.close(Duration::from_secs(30)).await.expect("close");
}

fn figures(store: &SqliteStore) -> Vec<(&'static str, f64)> {
    store.stats()
}

async fn submit(store: &SqliteStore, ops: Vec<Op>) -> Vec<Reply> {
    let commit = Commit { ops, ..Commit::default() };
    store.submit(Batch::one(commit)).await.expect("submit").remove(0).expect("accepted").replies
}

#[expect(clippy::disallowed_methods, reason = "ids carry the wall time")]
fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

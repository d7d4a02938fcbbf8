//! A server, and clients that do not wait for each other: overload in virtual time.
//!
//! The server has some workers and a line that knows no bounds. Work that has begun is finished, also if nobody waits
//! for it any more: that is what makes overload dangerous. Clients come at random instants at a given rate (open
//! loop: no client waits for another one's answer before it comes), and give up at their deadline.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_core::rules::mix;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// How long a client waits.
pub const DEADLINE: Duration = Duration::from_millis(100);
/// How long one piece of work takes on average.
pub const SERVICE: Duration = Duration::from_millis(10);
pub const WORKERS: usize = 4;

/// Numbers that are the same in every run.
#[derive(Clone)]
pub struct Dice(u64, Arc<AtomicU64>);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed, Arc::default())
    }

    /// From 0 to 1, neither included.
    pub fn unit(&self) -> f64 {
        let n = self.1.fetch_add(1, Ordering::Relaxed);
        (mix(self.0, n) as f64 + 1.0) / (u64::MAX as f64 + 2.0)
    }

    /// Exponentially distributed.
    pub fn exponential(&self, mean: Duration) -> Duration {
        mean.mul_f64(-self.unit().ln())
    }
}

/// Workers behind a line.
#[derive(Clone)]
pub struct Server {
    workers: Arc<Semaphore>,
    dice: Dice,
    /// In thousandths: how much slower than usual.
    slowness: Arc<AtomicU64>,
    pub done: Arc<AtomicU64>,
}

impl Server {
    pub fn new(seed: u64) -> Self {
        Self {
            workers: Arc::new(Semaphore::new(WORKERS)),
            dice: Dice::new(seed),
            slowness: Arc::new(AtomicU64::new(1_000)),
            done: Arc::default(),
        }
    }

    pub fn slower(&self, times: f64) {
        self.slowness.store((times * 1_000.0) as u64, Ordering::Relaxed);
    }

    /// Waits for a worker, first come first served, and works.
    pub async fn work(&self) {
        let _worker = self.workers.acquire().await.unwrap();
        let times = self.slowness.load(Ordering::Relaxed) as f64 / 1_000.0;
        // Whole milliseconds, because that is how finely the runtime's timers count.
        let took = self.dice.exponential(SERVICE.mul_f64(times)).as_secs_f64() * 1_000.0;
        sleep(Duration::from_millis(took.round() as u64)).await;
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// What became of the clients that came in one second.
#[derive(Debug, Clone, Copy, Default)]
pub struct Second {
    pub came: u64,
    pub served: u64,
    pub shed: u64,
    pub late: u64,
}

/// How a client was answered, before its deadline.
pub enum Answer {
    Served,
    Shed,
}

#[derive(Debug, Clone, Default)]
pub struct Report {
    pub seconds: Vec<Second>,
    /// How long the served waited, sorted.
    pub latencies: Vec<Duration>,
}

impl Report {
    pub fn sum(&self, seconds: std::ops::Range<usize>) -> Second {
        self.seconds[seconds].iter().fold(Second::default(), |sum, second| Second {
            came: sum.came + second.came,
            served: sum.served + second.served,
            shed: sum.shed + second.shed,
            late: sum.late + second.late,
        })
    }

    /// Served in time, as a share of what the server can do.
    pub fn goodput(&self, seconds: std::ops::Range<usize>) -> f64 {
        let length = seconds.len() as f64;
        self.sum(seconds).served as f64 / (length * capacity())
    }

    pub fn quantile(&self, q: f64) -> Duration {
        let at = ((self.latencies.len() as f64 * q) as usize).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(at).copied().unwrap_or_default()
    }
}

/// Pieces of work a second that the server can do.
pub fn capacity() -> f64 {
    WORKERS as f64 / SERVICE.as_secs_f64()
}

/// Sends clients at `load` times the capacity for `seconds`; `call` is one client's call. `each_second` may change
/// the world.
pub async fn open_loop<F>(
    load: f64,
    seconds: u64,
    seed: u64,
    call: impl Fn(Instant) -> F,
    mut each_second: impl FnMut(u64),
) -> Report
where
    F: Future<Output = Answer> + Send + 'static,
{
    let began = Instant::now();
    let dice = Dice::new(seed);
    let report = Arc::new(Mutex::new(Report {
        seconds: vec![Second::default(); seconds as usize],
        ..Report::default()
    }));
    let mut clients = JoinSet::new();
    let (mut at, mut second) = (began, None);
    loop {
        at += dice.exponential(Duration::from_secs_f64(1.0 / (load * capacity())));
        let now = (at - began).as_secs();
        if now >= seconds {
            break;
        }
        if second != Some(now) {
            second = Some(now);
            each_second(now);
        }
        sleep_until(at).await;
        let (report, deadline) = (report.clone(), Instant::now() + DEADLINE);
        let call = call(deadline);
        clients.spawn(async move {
            let came = Instant::now();
            let answer = timeout_at(deadline, call).await;
            let mut report = report.lock().unwrap();
            let second = &mut report.seconds[now as usize];
            second.came += 1;
            match answer {
                Ok(Answer::Served) => {
                    second.served += 1;
                    report.latencies.push(came.elapsed());
                }
                Ok(Answer::Shed) => second.shed += 1,
                Err(_) => second.late += 1,
            }
        });
        while clients.try_join_next().is_some() {}
    }
    clients.join_all().await;
    let mut report = std::mem::take(&mut *report.lock().unwrap());
    report.latencies.sort();
    report
}

/// Work that is finished, whoever waits for it: owned by the set, which outlives the clients.
#[derive(Clone)]
pub struct Detached(Arc<Mutex<JoinSet<()>>>);

impl Detached {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(JoinSet::new())))
    }

    /// Runs `work` to its end; answers when it is over.
    pub async fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        let (over, ended) = tokio::sync::oneshot::channel();
        {
            let mut set = self.0.lock().unwrap();
            while set.try_join_next().is_some() {}
            set.spawn(async move {
                work.await;
                let _ = over.send(());
            });
        }
        let _ = ended.await;
    }
}

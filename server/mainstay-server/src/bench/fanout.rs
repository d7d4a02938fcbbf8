//! What it costs when many want the same event: the bus of a process beside `tokio::sync::broadcast`, and a map of
//! handlers that are called together, the bus that everybody writes first. Then the cost of a match against many
//! wildcards.
//!
//! A publisher sends bursts and waits until everybody has everything: so nothing is lost to a ring that overwrites, and
//! all subjects do the same work.

use std::{
    collections::HashMap,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::{BoxFuture, join_all};
use mainstay::{
    Event, EventContext, JobError, TaskSet,
    bus::Bus,
    core::topic::{FilterSet, TopicFilter, TopicName},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, broadcast},
    time::Instant,
};

use super::{Error, Result, machine, report::median};

/// How many events are under way at most.
const BURST: usize = 256;
const SUBSCRIBERS: [usize; 3] = [1, 8, 64];
const FILTERS: usize = 10_000;

#[derive(Clone, Serialize, Deserialize)]
struct Tick {
    number: u64,
    price: u64,
}

impl Event for Tick {
    const TOPIC: &'static str = "market.tick";
}

/// Who delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Subject {
    Broadcast,
    Listeners,
    Naive,
    Handlers,
}

impl Subject {
    const ALL: [Subject; 4] = [Subject::Broadcast, Subject::Listeners, Subject::Naive, Subject::Handlers];

    fn name(self) -> &'static str {
        match self {
            Subject::Broadcast => "tokio::sync::broadcast, receivers",
            Subject::Listeners => "bus, listeners",
            Subject::Naive => "map of handlers, joined",
            Subject::Handlers => "bus, handlers",
        }
    }

    /// What it is measured against.
    fn beside(self) -> Option<Subject> {
        match self {
            Subject::Listeners => Some(Subject::Broadcast),
            Subject::Handlers => Some(Subject::Naive),
            Subject::Broadcast | Subject::Naive => None,
        }
    }
}

/// Everybody who gets an event says so here.
#[derive(Default)]
struct Count {
    left: AtomicUsize,
    all: Notify,
}

impl Count {
    fn one(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.all.notify_one();
        }
    }

    async fn none_left(&self) {
        while self.left.load(Ordering::Acquire) > 0 {
            self.all.notified().await;
        }
    }
}

/// Million deliveries a second, by round.
#[derive(Serialize)]
struct Row {
    subject: Subject,
    subscribers: usize,
    millions_per_second: Vec<f64>,
}

/// Nanoseconds a match, by round.
#[derive(Serialize)]
struct Matches {
    filters: usize,
    nanoseconds: Vec<f64>,
    /// How many filters an event matches.
    found: usize,
}

/// All that was found.
pub(super) struct Fanout {
    rows: Vec<Row>,
    matches: Matches,
}

/// Measures so many rounds, each subject in turn for this long.
pub(super) fn measure(rounds: usize, each: Duration) -> Result<Fanout> {
    let mut rows = Vec::new();
    for subscribers in SUBSCRIBERS {
        rows.extend(Subject::ALL.map(|subject| Row {
            subject,
            subscribers,
            millions_per_second: Vec::new(),
        }));
    }
    let mut matches = Matches { filters: FILTERS, nanoseconds: Vec::new(), found: 0 };
    for _ in 0..rounds {
        for row in &mut rows {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            let runtime = runtime.map_err(Error::doing("cannot start"))?;
            let rate = runtime.block_on(run(row.subject, row.subscribers, each))?;
            row.millions_per_second.push(rate / 1e6);
        }
        one_round_of_matches(&mut matches)?;
    }
    Ok(Fanout { rows, matches })
}

async fn run(subject: Subject, subscribers: usize, each: Duration) -> Result<f64> {
    let count = Arc::new(Count::default());
    let tasks = TaskSet::current().ok_or_else(|| Error::new("there is no runtime"))?;
    let rate = match subject {
        Subject::Broadcast => {
            let (tx, _) = broadcast::channel::<Tick>(BURST);
            for _ in 0..subscribers {
                let (mut rx, count) = (tx.subscribe(), count.clone());
                tasks.spawn("receiver", async move {
                    while let Ok(tick) = rx.recv().await {
                        black_box(tick.price);
                        count.one();
                    }
                });
            }
            let send = async |tick: Tick| tx.send(tick).map(drop).map_err(Error::doing("cannot send"));
            bursts(&count, subscribers, each, send).await?
        }
        Subject::Listeners => {
            let bus = Bus::new();
            for _ in 0..subscribers {
                let listener =
                    bus.listen::<Tick>(Tick::TOPIC, BURST).map_err(Error::doing("cannot listen"))?;
                let (mut listener, count) = (listener, count.clone());
                tasks.spawn("listener", async move {
                    while let Ok(tick) = listener.recv().await {
                        black_box(tick.price);
                        count.one();
                    }
                });
            }
            let send =
                async |tick: Tick| bus.publish(&tick).await.map(drop).map_err(Error::doing("cannot publish"));
            bursts(&count, subscribers, each, send).await?
        }
        Subject::Naive => {
            type Handler = Box<dyn Fn(Tick) -> BoxFuture<'static, ()> + Send + Sync>;
            let handler = || {
                let count = count.clone();
                let handler: Handler = Box::new(move |tick| {
                    let count = count.clone();
                    Box::pin(async move {
                        black_box(tick.price);
                        count.one();
                    })
                });
                handler
            };
            let handlers: Vec<_> = (0..subscribers).map(|_| handler()).collect();
            let map = HashMap::from([(Tick::TOPIC, handlers)]);
            let send = async |tick: Tick| {
                if let Some(handlers) = map.get(Tick::TOPIC) {
                    join_all(handlers.iter().map(|handler| handler(tick.clone()))).await;
                }
                Ok(())
            };
            bursts(&count, subscribers, each, send).await?
        }
        Subject::Handlers => {
            async fn handle(tick: Tick, cx: EventContext<Arc<Count>>) -> std::result::Result<(), JobError> {
                black_box(tick.price);
                cx.one();
                Ok(())
            }
            let bus = Bus::new();
            let with = bus.with(count.clone());
            let subscribe = |_| with.on(handle).queue(BURST).start();
            let subscriptions = (0..subscribers).map(subscribe).collect::<std::result::Result<Vec<_>, _>>();
            let _subscriptions = subscriptions.map_err(Error::doing("cannot subscribe"))?;
            let send =
                async |tick: Tick| bus.publish(&tick).await.map(drop).map_err(Error::doing("cannot publish"));
            bursts(&count, subscribers, each, send).await?
        }
    };
    tasks.abort();
    Ok(rate)
}

/// Sends bursts until the time is over; deliveries a second.
async fn bursts(
    count: &Count,
    subscribers: usize,
    each: Duration,
    send: impl AsyncFn(Tick) -> Result<()>,
) -> Result<f64> {
    let mut began = Instant::now();
    let (mut delivered, mut warm) = (0_u64, false);
    loop {
        count.left.store(BURST * subscribers, Ordering::Release);
        for number in 0..BURST as u64 {
            send(Tick { number, price: number * 3 }).await?;
        }
        count.none_left().await;
        delivered += (BURST * subscribers) as u64;
        let took = began.elapsed();
        if took >= each {
            return Ok(delivered as f64 / took.as_secs_f64());
        }
        if !warm && took >= each / 4 {
            (began, delivered, warm) = (Instant::now(), 0, true);
        }
    }
}

/// A million topics against ten thousand filters, half of them with a wildcard.
fn one_round_of_matches(matches: &mut Matches) -> Result<()> {
    let bad = "cannot make a filter";
    let mut set = FilterSet::new();
    for n in 0..matches.filters {
        let text = match n % 4 {
            0 => format!("shop{}.orders.*", n / 4),
            1 => format!("shop{}.>", n / 4),
            2 => format!("*.orders.kind{n}"),
            _ => format!("shop{}.orders.placed", n / 4),
        };
        set.insert(&TopicFilter::new(&text).map_err(Error::doing(bad))?, n);
    }
    let topics: Vec<_> = (0..1_000)
        .map(|n| TopicName::new(&format!("shop{}.orders.placed", n * 2)).map_err(Error::doing(bad)))
        .collect::<Result<_>>()?;
    let began = std_now();
    let mut found = 0;
    for _ in 0..1_000 {
        for topic in &topics {
            set.matches(topic, |n| found += usize::from(*n < FILTERS));
        }
    }
    matches.nanoseconds.push(began.elapsed().as_nanos() as f64 / 1e6);
    matches.found = black_box(found) / 1_000_000;
    Ok(())
}

fn std_now() -> std::time::Instant {
    Instant::now().into_std()
}

impl Fanout {
    /// For people.
    pub(super) fn text(&self) -> String {
        let mut rows = vec![["", "subscribers", "million/s", "(range)", "ratio"].map(str::to_owned)];
        for row in &self.rows {
            let all = || row.millions_per_second.iter().copied();
            let ratio = self.ratio(row).map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            rows.push([
                row.subject.name().to_owned(),
                row.subscribers.to_string(),
                format!("{:.2}", median(&row.millions_per_second, |rate| *rate)),
                format!("({:.2}–{:.2})", all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max)),
                ratio,
            ]);
        }
        let table = super::report::table(rows.into_iter());
        let matches = &self.matches;
        format!(
            "Deliveries of one process's events, {} cores; bursts of {BURST}; medians of {} rounds; the ratio is to the \
             line of the same kind above: listeners to receivers, handlers to handlers.\n\n{table}\n- a match against {} \
             filters, half of them with a wildcard: {:.0} ns ({} match)\n",
            machine::cores(),
            matches.nanoseconds.len(),
            matches.filters,
            median(&matches.nanoseconds, |ns| *ns),
            matches.found,
        )
    }

    /// For programs.
    pub(super) fn document(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "subject": row.subject, "subscribers": row.subscribers, "ratio": self.ratio(row),
                "millions_per_second": median(&row.millions_per_second, |rate| *rate),
                "rounds": row.millions_per_second,
            })
        };
        json!({ "burst": BURST, "fanout": self.rows.iter().map(row).collect::<Vec<_>>(), "match": self.matches })
    }

    fn ratio(&self, row: &Row) -> Option<f64> {
        let beside = row.subject.beside()?;
        let same = |other: &&Row| other.subject == beside && other.subscribers == row.subscribers;
        let other = self.rows.iter().find(same)?;
        let of = |row: &Row| median(&row.millions_per_second, |rate| *rate);
        Some(of(row) / of(other))
    }
}

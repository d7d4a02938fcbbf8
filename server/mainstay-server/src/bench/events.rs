//! The durable log of events: publishes beside what the disk could do at the same concurrency, a group that fetches and
//! acknowledges, a replay from the disk, and (`live`) streams over HTTP.
//!
//! Every round measures the raw log and the store one after the other, each on files of its own; figures are medians.

use std::{fmt::Write as _, path::Path, sync::Arc, time::Duration};

use mainstay::{
    Client, TaskSet,
    core::{
        GroupName, TopicFilter, TopicName,
        event::{
            Event, EventOp, Fetch, GroupConfig, LogBudget, Position, Publish, SettleDeliveries, Settled,
        },
        op::{Commit, Op},
    },
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Error, Result,
    args::{EventsArgs, seconds},
    live::{self, Live},
    machine,
    payload::{Random, write_json},
    raw::RawLog,
    report::{median, note, table},
    scratch::Scratch,
    store,
};

/// Events of a batch, and of a fetch.
const BATCH: usize = 100;
const TOPICS: usize = 4;

/// Events a second, a figure a round.
#[derive(Debug, Default, Serialize)]
pub(super) struct Figures {
    raw: Vec<f64>,
    publish: Vec<f64>,
    raw_batches: Vec<f64>,
    publish_batches: Vec<f64>,
    fetch_and_ack: Vec<f64>,
    replay: Vec<f64>,
    live: Vec<Live>,
    #[serde(skip)]
    about: String,
}

pub(super) fn measure(args: &EventsArgs) -> Result<Figures> {
    let threads = machine::cores().max(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let runtime = runtime.map_err(Error::doing("cannot start a runtime"))?;
    let scratch = Scratch::new(&args.dir, args.keep, args.store.url())?;
    let mut about = format!(
        "Events a second, {} callers, {} bytes of data, batches of {BATCH}; {} cores; medians of {} rounds of {} s.",
        args.callers, args.payload_bytes, threads, args.rounds, args.cell_seconds
    );
    if let Some(database) = scratch.database() {
        about += &format!(" In {}.", database.about()?);
    }
    let mut figures = Figures { about, ..Figures::default() };
    for round in 0..args.rounds.max(1) {
        note(&format!("round {} of {}", round + 1, args.rounds.max(1)));
        runtime.block_on(one_round(args, &scratch, round, &mut figures))?;
    }
    let live = if args.readers == 0 { vec![] } else { vec![1, args.readers] };
    for readers in live {
        note(&format!("live streams, {readers} readers"));
        let span = seconds(args.cell_seconds) * args.rounds as u32;
        figures.live.push(runtime.block_on(live::measure(&scratch, readers, span))?);
    }
    Ok(figures)
}

async fn one_round(args: &EventsArgs, scratch: &Scratch, round: usize, figures: &mut Figures) -> Result<()> {
    let span = seconds(args.cell_seconds);
    // This disk says nothing of a store elsewhere.
    if scratch.database().is_none() {
        limit(args, scratch.path(), span, figures).await?;
    }
    let site = scratch.site(&format!("events-{round}"));
    let client = store::open(&site).await?;
    let topics =
        (0..TOPICS).map(|i| TopicName::new(&format!("bench.t{i}"))).collect::<std::result::Result<_, _>>();
    let topics: Arc<[TopicName]> = topics.map_err(Error::doing("the name of a topic"))?;
    for (batch, into) in [(1, &mut figures.publish), (BATCH, &mut figures.publish_batches)] {
        let (client, topics, bytes) = (client.clone(), topics.clone(), args.payload_bytes);
        let one = move |mut random: Random| {
            let (client, topics) = (client.clone(), topics.clone());
            async move {
                let (mut id, mut data) = (String::with_capacity(32), String::with_capacity(bytes));
                let mut publish = || publish(&client, &topics, &mut random, bytes, (&mut id, &mut data));
                let ops = (0..batch).map(|_| publish()).collect();
                let commit = Commit { ops, entropy: client.entropy(), ..Commit::default() };
                client.submit_one(commit).await.map_err(Error::doing("a publish was refused"))?;
                Ok((random, batch as u64))
            }
        };
        into.push(drive(args.callers, span, one).await?);
    }
    figures.fetch_and_ack.push(consume(&client, args, span).await?);
    store::close(&client).await?;
    // Opened anew, so that nothing of it is in the store's memory.
    let client = store::open(&site).await?;
    figures.replay.push(replay(&client, span).await?);
    store::close(&client).await
}

/// What the disk could do.
async fn limit(args: &EventsArgs, dir: &Path, span: Duration, figures: &mut Figures) -> Result<()> {
    let (log, writer) = RawLog::open(dir, args.payload_bytes)?;
    // What the store would have to write at least: the data, a header each.
    for (batch, into) in [(1, &mut figures.raw), (BATCH, &mut figures.raw_batches)] {
        let log = log.clone();
        let bytes = args.payload_bytes;
        let one = move |mut random: Random| {
            let log = log.clone();
            async move {
                let mut text = String::new();
                (0..batch).for_each(|_| write_json(&mut random, bytes, &mut text));
                log.append(text.into()).await?;
                Ok((random, batch as u64))
            }
        };
        into.push(drive(args.callers, span, one).await?);
    }
    drop((writer, log));
    Ok(())
}

fn publish(
    client: &Client,
    topics: &[TopicName],
    random: &mut Random,
    bytes: usize,
    (id, data): (&mut String, &mut String),
) -> Op {
    id.clear();
    data.clear();
    write_json(random, bytes, data);
    let number = random.next();
    // Into a string, it does not fail.
    let _ = write!(id, "{number:016x}{:016x}", client.entropy());
    let topic = topics[number as usize % topics.len()].clone();
    let event = Event::new(id, &topic, data);
    Op::Event(EventOp::Publish(Box::new(Publish::with_fresh_id(topic, event))))
}

/// All callers are consumers of one group.
async fn consume(client: &Client, args: &EventsArgs, span: Duration) -> Result<f64> {
    let group = GroupName::new("bench").map_err(Error::doing("the name of a group"))?;
    let filter = TopicFilter::new("bench.*").map_err(Error::doing("a filter"))?;
    let config = GroupConfig {
        max_in_flight: (args.callers * BATCH * 2).max(1_000) as u32,
        ack_wait_ms: store::LEASE_MS,
        ..GroupConfig::new(vec![filter])
    };
    let put = client.put_group(group.clone(), config, Position::Earliest).await;
    put.map_err(Error::doing("cannot make a group"))?;
    let client = client.clone();
    let one = move |random: Random| {
        let (client, group) = (client.clone(), group.clone());
        async move {
            let fetch =
                Fetch { group: group.clone(), max: BATCH as u32, max_bytes: 16 << 20, consumer: None };
            let taken = client.fetch(fetch, None, Duration::ZERO, std::future::pending()).await;
            let taken = taken.map_err(Error::doing("cannot fetch"))?;
            if taken.is_empty() {
                // All is consumed: it begins anew, which voids what others hold.
                client.seek(group, Position::Earliest).await.map_err(Error::doing("cannot seek"))?;
                return Ok((random, 0));
            }
            let ack = taken.iter().map(|delivery| delivery.lease).collect();
            let settle = SettleDeliveries { group, ack, nack: vec![], extend: vec![] };
            let settled = client.settle(settle).await.map_err(Error::doing("cannot settle"))?;
            Ok((random, settled.iter().filter(|settled| **settled == Settled::Acked).count() as u64))
        }
    };
    drive(args.callers, span, one).await
}

/// Reads the whole log, again and again, in order and without a gap.
async fn replay(client: &Client, span: Duration) -> Result<f64> {
    let began = Instant::now();
    let (mut from, mut events) = (1, 0_u64);
    while began.elapsed() < span {
        let slice = client.read_log(&[], Position::Seq(from), LogBudget::default()).await;
        let slice = slice.map_err(Error::doing("cannot read the log"))?;
        for (i, event) in slice.events.iter().enumerate() {
            if event.seq != from + i as u64 {
                return Err(Error::new(format!(
                    "event {} came where {} was to come",
                    event.seq,
                    from + i as u64
                )));
            }
        }
        events += slice.events.len() as u64;
        from = if slice.next > slice.head { 1 } else { slice.next };
    }
    Ok(events as f64 / began.elapsed().as_secs_f64())
}

/// So many callers, each with one call in flight; what they count a second, the first quarter left out.
async fn drive<F>(
    callers: usize,
    span: Duration,
    one: impl Fn(Random) -> F + Clone + Send + Sync + 'static,
) -> Result<f64>
where
    F: Future<Output = Result<(Random, u64)>> + Send,
{
    let tasks = TaskSet::current().ok_or_else(|| Error::new("there is no runtime"))?;
    let began = Instant::now();
    let (from, until) = (began + span / 4, began + span + span / 4);
    let running: Vec<_> = (0..callers)
        .map(|caller| {
            let one = one.clone();
            tasks.spawn("caller", async move {
                let (mut random, mut count) = (Random::new(caller as u64 + 1), 0);
                loop {
                    let (next, done) = one(random).await?;
                    random = next;
                    let now = Instant::now();
                    if now >= until {
                        return Ok::<u64, Error>(count);
                    }
                    count += if now >= from { done } else { 0 };
                }
            })
        })
        .collect();
    let mut sum = 0;
    for caller in running {
        sum += caller.await.map_err(Error::doing("a caller"))??;
    }
    Ok(sum as f64 / span.as_secs_f64())
}

/// Its name, its rounds, and those of what it is compared with.
type Row<'a> = (&'static str, &'a [f64], Option<&'a [f64]>);

impl Figures {
    /// Those that were measured.
    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let rows: [Row<'_>; 6] = [
            ("raw log, one a write", &self.raw, None),
            ("publish, one a commit", &self.publish, Some(&self.raw)),
            ("raw log, batches", &self.raw_batches, None),
            ("publish, batches", &self.publish_batches, Some(&self.raw_batches)),
            ("fetch and ack, batches", &self.fetch_and_ack, None),
            ("replay from the disk, one reader", &self.replay, None),
        ];
        rows.into_iter().filter(|(_, all, _)| !all.is_empty())
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut rows = vec![["", "events/s", "(range)", "ratio"].map(str::to_owned)];
        for (name, all, beside) in self.rows() {
            let ratio = ratio(all, beside).map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            let (least, most) =
                (all.iter().copied().fold(f64::INFINITY, f64::min), all.iter().copied().fold(0.0, f64::max));
            rows.push([
                name.to_owned(),
                format!("{:.0}", middle(all)),
                format!("({least:.0}–{most:.0})"),
                ratio,
            ]);
        }
        let about = &self.about;
        let of = if self.raw.is_empty() { "" } else { "The ratio is to the raw log above it.\n" };
        let mut text = format!("{about}\n{of}\n{}", table(rows.into_iter()));
        if !self.live.is_empty() {
            let rate = live::RATE;
            text += "\nFrom an HTTP publish to its receipt as a server-sent event on the same machine, ";
            text += &format!("{rate} publishes a second, each durable before anybody gets it; ms.\n\n");
            let head = ["readers", "deliveries/s", "missed", "p50", "p99", "p99.9", "max"];
            let rows = self.live.iter().map(|live| {
                let ms = [live.ms.p50, live.ms.p99, live.ms.p999, live.ms.max].map(|ms| format!("{ms:.2}"));
                let [p50, p99, p999, max] = ms;
                let deliveries = format!("{:.0}", live.deliveries_per_second);
                [live.readers.to_string(), deliveries, live.missed.to_string(), p50, p99, p999, max]
            });
            text += &table([head.map(str::to_owned)].into_iter().chain(rows));
        }
        text
    }

    /// For programs.
    pub(super) fn document(&self) -> Value {
        let rows = self.rows().map(|(name, all, beside)| {
            json!({ "subject": name, "events_per_second": middle(all), "rounds": all, "ratio": ratio(all, beside) })
        });
        json!({ "about": self.about, "events": rows.collect::<Vec<_>>(), "live": self.live })
    }
}

/// To what it is compared with, if that was measured.
fn ratio(all: &[f64], beside: Option<&[f64]>) -> Option<f64> {
    beside.filter(|beside| !beside.is_empty()).map(|beside| middle(all) / middle(beside))
}

fn middle(all: &[f64]) -> f64 {
    median(all, |rate| *rate)
}

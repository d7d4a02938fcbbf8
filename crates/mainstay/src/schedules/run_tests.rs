//! Schedulers on one store, in virtual time, on a wall clock that can be set.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use async_trait::async_trait;
use mainstay_core::{
    MemoryStore,
    clock::Clock,
    job::{JobBody, NewJob},
    queue::QueueConfig,
    rules::mix,
    schedule::{CatchUp, Schedule},
    store::JobFilter,
    time::Now,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{task::JoinSet, time::Instant};

use super::*;
use crate::{Job, health::Health, millis};

/// 2027-01-15, 08:00:00 UTC.
const START: i64 = 1_800_000_000_000;

struct TestClock {
    origin: Instant,
    /// How far people have set the wall clock.
    set: AtomicI64,
    draws: AtomicU64,
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Now {
        let passed = self.origin.elapsed().as_millis() as u64;
        let wall = START + self.set.load(Ordering::Relaxed) + passed as i64;
        Now { wall: Timestamp(wall), store: StoreTime(passed) }
    }

    async fn sleep_until(&self, at: StoreTime) {
        match self.origin.checked_add(millis(at.0)) {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    fn entropy(&self) -> u64 {
        mix(7, self.draws.fetch_add(1, Ordering::Relaxed))
    }
}

#[derive(Serialize, Deserialize)]
struct Work;
impl Job for Work {
    const KIND: &'static str = "work";
    const QUEUE: &'static str = "q";
}

/// A store with schedulers that come and go.
struct World {
    clock: Arc<TestClock>,
    client: Client,
    nodes: JoinSet<()>,
    shutdowns: Vec<Shutdown>,
}

impl World {
    fn new() -> World {
        let clock = Arc::new(TestClock { origin: Instant::now(), set: 0.into(), draws: 0.into() });
        let client = Client::on(Arc::new(MemoryStore::new(clock.clone())), clock.clone());
        World { clock, client, nodes: JoinSet::new(), shutdowns: vec![] }
    }

    /// One more node.
    fn node(&mut self) {
        let shutdown = Shutdown::new();
        shutdown.advance(Phase::Running);
        let heartbeat = Health::new(shutdown.clone()).heartbeat("scheduler", secs(120));
        self.nodes.spawn(Scheduler::new(self.client.clone()).run(heartbeat, shutdown.clone()));
        self.shutdowns.push(shutdown);
    }

    /// All nodes begin their drain; their schedulers end.
    async fn drain(&mut self) {
        self.shutdowns.drain(..).for_each(|shutdown| shutdown.begin());
        while let Some(ended) = self.nodes.join_next().await {
            ended.unwrap();
        }
    }

    /// Somebody sets the wall clock.
    fn set_wall(&self, by: i64) {
        self.clock.set.fetch_add(by, Ordering::Relaxed);
    }

    async fn put(&self, name: &str, cron: &str, catch_up: CatchUp) {
        self.client.put_schedule(name, cron, Work).catch_up(catch_up).await.unwrap();
    }

    /// One that is due, as a newer build may have put it.
    async fn put_unreadable(&self, name: &str) {
        let queue = Name::new("q").unwrap();
        let schedule = Schedule {
            name: Name::new(name).unwrap(),
            cron: "from another time".into(),
            timezone: "UTC".into(),
            catch_up: CatchUp::Skip,
            job: NewJob::new(self.client.new_id(&queue), queue.clone(), JobBody::new("k", "null")),
        };
        let put = ScheduleOp::Put { schedule: Arc::new(schedule), next: self.client.now().wall };
        self.client.apply(Op::Schedule(put)).await.unwrap();
    }

    async fn record(&self, name: &str) -> ScheduleRecord {
        self.client.schedule(&Name::new(name).unwrap()).await.unwrap().unwrap()
    }

    /// The ticks of a schedule that have become jobs, as seconds since the start, with how late each was, in
    /// milliseconds. In the order of their making.
    async fn ticks(&self, name: &str) -> Vec<(i64, i64)> {
        let mut ticks = vec![];
        let mut page = Page { limit: 1_000, cursor: None };
        loop {
            let slice = self.client.jobs(JobFilter::default(), page.clone()).await.unwrap();
            for record in slice.items {
                let Record::Job(job) = record else { panic!("a list of jobs") };
                let meta: Value = serde_json::from_str(job.body.meta.as_deref().unwrap()).unwrap();
                if meta["schedule"]["name"] == name {
                    let tick: jiff::Timestamp = meta["schedule"]["tick"].as_str().unwrap().parse().unwrap();
                    let tick = tick.as_millisecond();
                    ticks.push(((tick - START) / 1_000, job.created_at.0 - tick));
                }
            }
            page.cursor = slice.next;
            if page.cursor.is_none() {
                ticks.reverse();
                return ticks;
            }
        }
    }

    async fn seconds(&self, name: &str) -> Vec<i64> {
        self.ticks(name).await.into_iter().map(|(tick, _)| tick).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn every_tick_is_fired_once_by_however_many_nodes() {
    let mut w = World::new();
    for _ in 0..5 {
        w.node();
    }
    w.put("s", "* * * * * *", CatchUp::Skip).await;
    w.put("m", "* * * * *", CatchUp::All).await;
    sleep(millis(130_500)).await;
    assert_eq!(w.seconds("s").await, (1..=130).collect::<Vec<_>>());
    assert_eq!(w.seconds("m").await, [60, 120]);
    let state = w.record("s").await.state;
    assert_eq!((state.fired, state.missed), (130, 0));
    w.drain().await;
}

#[tokio::test(start_paused = true)]
async fn ticks_do_not_drift() {
    let mut w = World::new();
    w.node();
    w.put("s", "* * * * *", CatchUp::Skip).await;
    sleep(secs(3 * 3_600 + 1)).await;
    let ticks = w.ticks("s").await;
    assert_eq!(ticks.len(), 180);
    // In virtual time nothing takes any; what is late here would add up.
    assert!(ticks.iter().all(|(_, late)| *late < 10), "{ticks:?}");
    w.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_is_put_while_the_scheduler_sleeps_is_not_overslept() {
    let mut w = World::new();
    w.node();
    w.put("yearly", "@yearly", CatchUp::Skip).await;
    sleep(secs(100)).await;
    w.put("soon", "* * * * * *", CatchUp::Skip).await;
    sleep(millis(2_500)).await;
    assert_eq!(w.seconds("soon").await, [101, 102]);
    w.drain().await;
}

#[tokio::test(start_paused = true)]
async fn ticks_that_nobody_fired_are_caught_up_as_each_schedule_says() {
    let mut w = World::new();
    w.node();
    for (name, catch_up) in [("skip", CatchUp::Skip), ("one", CatchUp::One), ("all", CatchUp::All)] {
        w.put(name, "*/5 * * * *", catch_up).await;
    }
    sleep(secs(301)).await;
    w.drain().await;
    // Nobody is there for the ticks at 600, 900 and 1200.
    sleep(secs(1_000)).await;
    w.node();
    sleep(secs(10)).await;
    assert_eq!(w.seconds("skip").await, [300]);
    assert_eq!(w.seconds("one").await, [300, 1_200]);
    assert_eq!(w.seconds("all").await, [300, 600, 900, 1_200]);
    let missed = async |name| w.record(name).await.state.missed;
    assert_eq!((missed("skip").await, missed("one").await, missed("all").await), (3, 2, 0));
    sleep(secs(200)).await;
    for name in ["skip", "one", "all"] {
        assert_eq!(w.seconds(name).await.last(), Some(&1_500), "{name} goes on");
    }
    w.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_within_a_minute_loses_no_tick() {
    let mut w = World::new();
    w.node();
    w.put("s", "* * * * *", CatchUp::Skip).await;
    sleep(secs(50)).await;
    w.drain().await;
    sleep(secs(30)).await;
    // The service starts, and puts its schedules as ever.
    w.put("s", "* * * * *", CatchUp::Skip).await;
    w.node();
    sleep(secs(1)).await;
    assert_eq!(w.seconds("s").await, [60]);
    w.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_long_absence_is_caught_up_in_pieces_while_others_go_on() {
    let mut w = World::new();
    w.put("all", "* * * * * *", CatchUp::All).await;
    w.put("other", "* * * * *", CatchUp::Skip).await;
    sleep(secs(3_600)).await;
    w.node();
    sleep(millis(61_500)).await;
    let seconds = w.seconds("all").await;
    assert!(
        seconds.iter().copied().eq(1..=3_661),
        "{} ticks, the last is {:?}",
        seconds.len(),
        seconds.last()
    );
    assert_eq!(w.seconds("other").await, [3_600, 3_660]);
    w.drain().await;
}

#[tokio::test(start_paused = true)]
async fn no_tick_is_fired_once_the_drain_has_begun() {
    let mut w = World::new();
    w.node();
    w.put("s", "* * * * * *", CatchUp::Skip).await;
    sleep(millis(5_500)).await;
    w.shutdowns[0].begin();
    sleep(secs(10)).await;
    assert_eq!(w.seconds("s").await, [1, 2, 3, 4, 5]);
    w.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_back_fires_no_tick_twice() {
    let mut w = World::new();
    w.node();
    w.put("s", "* * * * *", CatchUp::All).await;
    sleep(secs(130)).await;
    w.set_wall(-100_000);
    sleep(secs(149)).await;
    // It is 179 s by the wall clock, for the second time.
    assert_eq!(w.seconds("s").await, [60, 120]);
    sleep(secs(2)).await;
    assert_eq!(w.seconds("s").await, [60, 120, 180]);
    w.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_forward_is_noticed_and_is_like_an_absence() {
    let mut w = World::new();
    w.node();
    w.put("skip", "0 * * * *", CatchUp::Skip).await;
    w.put("one", "0 * * * *", CatchUp::One).await;
    sleep(secs(10)).await;
    w.set_wall(2 * 3_600_000 + 600_000);
    sleep(secs(3)).await;
    assert_eq!(w.seconds("skip").await, [] as [i64; 0]);
    assert_eq!(w.seconds("one").await, [7_200]);
    assert_eq!(w.record("skip").await.state.missed, 2);
    w.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_tick_waits_for_room_in_its_queue_and_others_do_not_wait_for_it() {
    let mut w = World::new();
    let (full, config) =
        (Name::new("q").unwrap(), QueueConfig { max_depth: Some(1), ..QueueConfig::default() });
    w.client.put_queue(full.clone(), config).await.unwrap();
    let first = w.client.enqueue(Work).await.unwrap();
    w.node();
    w.put("full", "* * * * *", CatchUp::One).await;
    let elsewhere = Work.with().queue("elsewhere");
    w.client.put_schedule("other", "* * * * *", elsewhere).await.unwrap();
    sleep(secs(90)).await;
    assert_eq!(w.record("full").await.state.fired, 0);
    assert_eq!(w.record("other").await.state.fired, 1);
    w.client.cancel(first.id).await.unwrap();
    sleep(secs(2)).await;
    let state = w.record("full").await.state;
    assert_eq!((state.fired, state.last), (1, Some(Timestamp(START + 60_000))));
    w.drain().await;
}

#[tokio::test(start_paused = true)]
async fn more_schedules_than_a_page_that_wait_do_not_keep_others_from_firing() {
    let mut w = World::new();
    // Each waits for a minute once it was found not to be readable; a full queue makes wait for a second.
    for n in 0..=PAGE {
        w.put_unreadable(&format!("stuck-{n}")).await;
    }
    w.put("s", "* * * * * *", CatchUp::Skip).await;
    w.node();
    sleep(millis(3_500)).await;
    assert_eq!(w.seconds("s").await, [1, 2, 3]);
    w.drain().await;
}

#[tokio::test(start_paused = true)]
async fn more_missed_ticks_than_a_queue_holds_are_caught_up_as_room_comes() {
    let mut w = World::new();
    let config = QueueConfig { max_depth: Some(1), ..QueueConfig::default() };
    w.client.put_queue(Name::new("q").unwrap(), config).await.unwrap();
    w.put("all", "* * * * *", CatchUp::All).await;
    sleep(secs(181)).await;
    w.node();
    // A worker that is done with a job in three seconds.
    for _ in 0..10 {
        sleep(secs(3)).await;
        let filter = JobFilter::default();
        for record in w.client.jobs(filter, Page { limit: 10, cursor: None }).await.unwrap().items {
            let Record::Job(job) = record else { panic!("a list of jobs") };
            if job.state.as_str() == "available" {
                w.client.cancel(job.id).await.unwrap();
            }
        }
    }
    assert_eq!(w.seconds("all").await, [60, 120, 180]);
    w.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_cannot_be_read_holds_nobody_up() {
    let mut w = World::new();
    w.node();
    w.put_unreadable("broken").await;
    w.put("s", "* * * * * *", CatchUp::Skip).await;
    sleep(millis(3_500)).await;
    assert_eq!(w.seconds("s").await, [1, 2, 3]);
    assert_eq!(w.record("broken").await.state.fired, 0);
    w.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_paused_schedule_rests_and_a_trigger_works_all_the_same() {
    let mut w = World::new();
    w.node();
    w.put("s", "* * * * *", CatchUp::All).await;
    let name = Name::new("s").unwrap();
    sleep(secs(61)).await;
    w.client.pause_schedule(name.clone()).await.unwrap();
    sleep(secs(300)).await;
    let job = w.client.trigger_schedule(&name).await.unwrap();
    assert_eq!(w.record("s").await.state.fired, 1, "a trigger is no tick");
    assert_eq!(job.state.as_str(), "available");
    w.client.resume_schedule(&name).await.unwrap();
    sleep(secs(60)).await;
    let state = w.record("s").await.state;
    assert_eq!((state.fired, state.missed), (2, 0), "what a pause left out never happens");
    assert_eq!(state.last, Some(Timestamp(START + 420_000)));
    w.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_makes_no_sense_is_refused_with_its_field() {
    let w = World::new();
    let put = |cron: &str| w.client.put_schedule("s", cron, Work);
    let id = w.client.new_id(&Name::new("q").unwrap());
    let rows = [
        (put("61 * * * *"), "cron: minute `61`"),
        (put("0 0 30 2 *"), "cron: `0 0 30 2 *` never comes"),
        (put("* * * * *").timezone("Mars"), "timezone: no time zone is called `Mars`"),
        (w.client.put_schedule("no name", "* * * * *", Work), "name: `no name`"),
        (w.client.put_schedule("s", "* * * * *", Work.with().id(id)), "id: is made anew at every tick"),
        (w.client.put_schedule("s", "* * * * *", Work.with().run_at(Timestamp(0))), "run_at: is the tick"),
    ];
    for (put, says) in rows {
        let error = put.await.unwrap_err();
        assert!(error.to_string().starts_with(says), "{error}");
    }
    assert_eq!(w.client.schedule(&Name::new("s").unwrap()).await.unwrap(), None);
}

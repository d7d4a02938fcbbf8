//! Components and pools: what is started is stopped, however the start ends.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use mainstay::{Component, Error, ErrorKind, Pool, PoolStatus, Result, millis, secs};

use crate::harness::{app, get, with_boot};

type Log = Arc<Mutex<Vec<String>>>;

/// A connection that says what happens to it.
#[derive(Clone)]
struct Connection(&'static str, Log);

impl Connection {
    async fn open(name: &'static str, log: &Log) -> Result<Self> {
        log.lock().unwrap().push(format!("open {name}"));
        Ok(Self(name, log.clone()))
    }

    async fn close(self) {
        self.1.lock().unwrap().push(format!("close {}", self.0));
    }
}

#[tokio::test(start_paused = true)]
async fn components_are_started_in_order_and_stopped_in_reverse() {
    let log = Log::default();
    let ended = app(&[("admin_listen", "off")])
        .run_until(
            async |b| {
                b.component("db", Connection::open("db", &log)).stop(Connection::close).await?;
                let fails = |bus: Connection| async move {
                    bus.close().await;
                    Err::<(), _>("it was not flushed")
                };
                b.component("bus", Connection::open("bus", &log)).stop(fails).await?;
                b.component("cache", Connection::open("cache", &log)).stop(Connection::close).await?;
                Ok(())
            },
            tokio::time::sleep(secs(1)),
        )
        .await;
    assert_eq!(
        *log.lock().unwrap(),
        ["open db", "open bus", "open cache", "close cache", "close bus", "close db"]
    );
    // A hook that fails holds nobody up, and it is not a clean end.
    let unclean: Vec<_> = ended.unclean.iter().map(|(name, error)| format!("{name}: {error}")).collect();
    assert_eq!((ended.exit_code(), &*unclean), (1, &["bus: it was not flushed".to_owned()][..]));
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_hangs_is_cut_at_its_own_limit_and_named() {
    let log = Log::default();
    let ended = app(&[("admin_listen", "off"), ("lame_duck_ms", "0"), ("stop_ms", "10000")])
        .run_until(
            async |b| {
                b.component("db", Connection::open("db", &log)).stop(Connection::close).await?;
                let bus = b.component("bus", Connection::open("bus", &log));
                bus.stop(|_| pending::<()>()).stop_within(millis(300)).await?;
                Ok(())
            },
            tokio::time::sleep(secs(1)),
        )
        .await;
    assert_eq!(*log.lock().unwrap(), ["open db", "open bus", "close db"]);
    assert_eq!((ended.cut[0].what.as_str(), ended.cut[0].age), ("bus", millis(300)));
    assert_eq!(ended.exit_code(), 1);
}

/// A component that acquires something and then does what it is told.
struct HalfWay {
    log: Log,
    then: Then,
}

#[derive(Clone, Copy)]
enum Then {
    Fail,
    Hang,
    Go,
}

impl Component for HalfWay {
    async fn start(&self) -> Result<()> {
        self.log.lock().unwrap().push("acquired".into());
        match self.then {
            Then::Fail => Err("no".into()),
            Then::Hang => pending().await,
            Then::Go => Ok(()),
        }
    }

    async fn stop(&self) -> Result<()> {
        self.log.lock().unwrap().push("released".into());
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_start_had_acquired_is_released_however_the_start_ended() {
    let rows = [
        (Then::Go, secs(60), None),
        (Then::Fail, secs(60), Some(ErrorKind::Other)),
        (Then::Hang, secs(60), Some(ErrorKind::Interrupted)),
        (Then::Hang, secs(2), Some(ErrorKind::TimedOut)),
    ];
    for (then, limit, kind) in rows {
        let log = Log::default();
        let ended = app(&[("admin_listen", "off"), ("lame_duck_ms", "0")])
            .run_until(
                async |b| {
                    b.component("db", Connection::open("db", &log)).stop(Connection::close).await?;
                    b.start("half", HalfWay { log: log.clone(), then }).within(limit).await?;
                    Ok(())
                },
                tokio::time::sleep(secs(10)),
            )
            .await;
        assert_eq!(*log.lock().unwrap(), ["open db", "acquired", "released", "close db"], "{kind:?}");
        assert_eq!(ended.error.map(|error| error.kind()), kind);
    }
}

/// A pool over the real thing, as the documentation shows it.
#[derive(Clone)]
struct Db(deadpool::managed::Pool<Manager>);

impl Pool for Db {
    fn status(&self) -> PoolStatus {
        let s = self.0.status();
        PoolStatus { max: s.max_size, size: s.size, idle: s.available, waiting: s.waiting }
    }

    async fn check(&self) -> Result<()> {
        self.0.get().await.map(drop).map_err(Error::from_any)
    }

    async fn close(&self) {
        self.0.close();
    }
}

/// Opens connections while the server it leads to is up.
struct Manager(Arc<AtomicBool>);

impl deadpool::managed::Manager for Manager {
    type Type = ();
    type Error = std::io::Error;

    async fn create(&self) -> Result<(), std::io::Error> {
        match self.0.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err(std::io::Error::other("refused")),
        }
    }

    async fn recycle(
        &self,
        (): &mut (),
        _: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<std::io::Error> {
        Ok(())
    }
}

fn pool(up: bool) -> Db {
    Db(deadpool::managed::Pool::builder(Manager(Arc::new(AtomicBool::new(up)))).max_size(2).build().unwrap())
}

#[tokio::test]
async fn a_pool_is_started_shown_checked_and_closed() {
    let db = pool(true);
    let (registered, seen) = (db.clone(), db.clone());
    let (ended, ()) = with_boot(
        &[("lame_duck_ms", "0")],
        async |b| {
            b.pool("db", registered).await.expect("it has a connection to give");
            b.http("127.0.0.1:0", axum::Router::new())
        },
        async |running| {
            let _one = seen.0.get().await.unwrap();
            let shown = async |text: &str| {
                while !get(running.admin, "/metrics").await.body.contains(text) {
                    tokio::time::sleep(millis(50)).await;
                }
            };
            let state = |state: &str, n: u32| {
                format!("db_client_connection_count{{db_client_connection_pool_name=\"db\",db_client_connection_state=\"{state}\"}} {n}")
            };
            tokio::time::timeout(crate::harness::PATIENCE, async {
                shown(&state("used", 1)).await;
                shown(&state("idle", 0)).await;
                shown("db_client_connection_max{db_client_connection_pool_name=\"db\"} 2").await;
            })
            .await
            .expect("the gauges show it");
            assert!(get(running.admin, "/readyz?verbose").await.body.contains("pool db"));
        },
    )
    .await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
    assert!(db.0.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_pool_without_a_connection_ends_the_start_unless_it_is_lazy() {
    let ended = app(&[("admin_listen", "off")])
        .run_until(async |b| b.pool("db", pool(false)).await.map(drop), pending())
        .await;
    assert_eq!(ended.exit_code(), 69);
    let said = ended.error.unwrap().chain();
    assert!(
        said.starts_with("cannot start db: the pool gives no connection") && said.ends_with("refused"),
        "{said}"
    );

    let ended = app(&[("admin_listen", "off")])
        .run_until(async |b| b.pool("db", pool(false)).lazy().await.map(drop), tokio::time::sleep(secs(1)))
        .await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_used_up_says_so_in_its_check() {
    let db = pool(true);
    let app = app(&[("admin_listen", "off")]);
    let said = Mutex::new(String::new());
    app.run_until(
        async |b| {
            let db = b.pool("db", db.clone()).await?;
            let health = b.health();
            let mut held = Vec::new();
            for _ in 0..2 {
                held.push(db.0.get().await.map_err(Error::from_any)?);
            }
            tokio::time::sleep(secs(20)).await;
            *said.lock().unwrap() = format!("{:?}", health.report().get("pool db"));
            Ok(())
        },
        pending(),
    )
    .await_or_stop()
    .await;
    let said = said.into_inner().unwrap();
    assert!(said.contains("no connection within 900 ms (2 of 2 in use, "), "{said}");
}

/// Ends an app whose boot has said all there is to say.
trait AwaitOrStop: Future + Sized {
    async fn await_or_stop(self) {
        let _ = tokio::time::timeout(secs(30), self).await;
    }
}

impl<F: Future> AwaitOrStop for F {}

//! Start, stop, and what is said about them.

use std::future::pending;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
use mainstay::shutdown::{Cause, Phase};
use mainstay::{Boot, Error, ErrorKind, Result, millis, secs};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::harness::{PATIENCE, Raw, app, with_boot, with_router};

// What is started and stopped in order is tested in `components`, loops in `loops`.

type Log = Arc<Mutex<Vec<String>>>;

fn note(log: &Log, text: &str) {
    log.lock().unwrap().push(text.to_owned());
}

fn stops(b: &Boot<()>, log: &Log, name: &'static str) {
    let log = log.clone();
    b.on_stop(name, secs(1), move || async move {
        note(&log, name);
        Ok::<_, Error>(())
    });
}

#[tokio::test(start_paused = true)]
async fn components_stop_in_reverse_order_after_the_drain() {
    let log = Log::default();
    let theirs = log.clone();
    let app = app(&[("admin_listen", "off")]);
    let shutdown = app.shutdown();
    let ended = app
        .run_until(
            async |b| {
                stops(b, &theirs, "first");
                let log = theirs.clone();
                b.background("loop", move |shutdown| async move {
                    shutdown.cancelled().await;
                    note(&log, "loop");
                });
                stops(b, &theirs, "last");
                let (log, shutdown) = (theirs.clone(), b.shutdown());
                b.tasks().spawn("work", async move {
                    shutdown.draining().await;
                    tokio::time::sleep(secs(10)).await;
                    note(&log, "work");
                });
                Ok(())
            },
            tokio::time::sleep(secs(1)),
        )
        .await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
    assert_eq!(ended.cause, Some(Cause::Request));
    let log = log.lock().unwrap().clone();
    assert_eq!(log.first().map(String::as_str), Some("work"));
    assert!(log.iter().position(|x| x == "last") < log.iter().position(|x| x == "first"), "{log:?}");
    assert!(log.contains(&"loop".to_owned()));
    assert_eq!(shutdown.phase(), Phase::Ended);
    // Lame duck is never shortened for being empty.
    assert_eq!(ended.phases[0], (Phase::LameDuck, secs(5)));
}

#[tokio::test(start_paused = true)]
async fn a_later_line_that_fails_undoes_the_earlier_ones_and_decides_the_exit_code() {
    let log = Log::default();
    let ended = app(&[("admin_listen", "off")])
        .run_until(
            async |b| {
                stops(b, &log, "db");
                b.component("store", async { Err::<(), _>(Error::unavailable("refused")) }).await?;
                stops(b, &log, "never");
                Ok(())
            },
            pending(),
        )
        .await;
    assert_eq!(*log.lock().unwrap(), ["db"]);
    assert_eq!(ended.exit_code(), 69);
    assert_eq!(ended.error.unwrap().chain(), "cannot start store: refused");
}

#[tokio::test(start_paused = true)]
async fn a_component_that_does_not_come_up_is_given_up() {
    let ended = app(&[("admin_listen", "off")])
        .run_until(async |b| b.component("slow", pending::<Result<()>>()).within(secs(2)).await, pending())
        .await;
    let error = ended.error.as_ref().unwrap();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(error.to_string(), "slow did not start within 2.0 s");
    assert_eq!(ended.exit_code(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_boot_or_in_a_stop_hook_still_stops_the_rest() {
    let log = Log::default();
    let ended = app(&[("admin_listen", "off")])
        .run_until(
            async |b| {
                stops(b, &log, "db");
                b.on_stop("bus", secs(1), || async {
                    if true { panic!("ouch") } else { Ok::<_, Error>(()) }
                });
                stops(b, &log, "cache");
                panic!("oh no")
            },
            pending(),
        )
        .await;
    assert_eq!(*log.lock().unwrap(), ["cache", "db"]);
    assert_eq!(ended.exit_code(), 1);
    assert_eq!(ended.error.unwrap().to_string(), "boot panicked: oh no");
}

#[tokio::test(start_paused = true)]
async fn being_told_to_stop_while_starting_undoes_the_start_and_is_no_failure() {
    let log = Log::default();
    let ended = app(&[("admin_listen", "off")])
        .run_until(
            async |b| {
                stops(b, &log, "db");
                b.component("slow", pending::<Result<()>>()).await
            },
            tokio::time::sleep(secs(1)),
        )
        .await;
    assert_eq!(*log.lock().unwrap(), ["db"]);
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
}

#[tokio::test]
async fn a_listener_that_cannot_be_bound_undoes_those_before_it() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let log = Log::default();
    let ended = app(&[])
        .run_until(
            async |b| {
                stops(b, &log, "db");
                b.http("127.0.0.1:0", Router::new());
                b.http(address, Router::new());
                Ok(())
            },
            pending(),
        )
        .await;
    assert_eq!(*log.lock().unwrap(), ["db"]);
    assert!(ended.error.unwrap().chain().contains(&address.to_string()));
}

#[tokio::test(start_paused = true)]
async fn a_stop_hook_that_hangs_is_named_and_leaves_time_for_the_others() {
    let log = Log::default();
    let ended = app(&[("admin_listen", "off"), ("lame_duck_ms", "0")])
        .run_until(
            async |b| {
                stops(b, &log, "db");
                b.on_stop("bus", secs(60), pending::<Result<()>>);
                Ok(())
            },
            tokio::time::sleep(secs(1)),
        )
        .await;
    assert_eq!(*log.lock().unwrap(), ["db"]);
    assert_eq!(ended.exit_code(), 1);
    assert_eq!(ended.cut[0].what, "bus");
    assert_eq!(ended.cut[0].age, secs(1), "half of the stop phase, because another one had to stop");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_overstays_is_told_then_cut_and_named() {
    let told = Arc::new(Notify::new());
    let telling = told.clone();
    let ended = app(&[("admin_listen", "off")])
        .run_until(
            async |b| {
                let shutdown = b.shutdown();
                b.tasks().spawn("import", async move {
                    shutdown.cancelled().await;
                    telling.notify_one();
                    pending::<()>().await;
                });
                Ok(())
            },
            tokio::time::sleep(secs(1)),
        )
        .await;
    timeout(secs(1), told.notified()).await.expect("it was told before it was cut");
    assert_eq!(ended.exit_code(), 1);
    assert_eq!(ended.cut.len(), 1, "{:?}", ended.cut);
    assert_eq!(ended.cut[0].what, "task import");
    assert!(ended.cut[0].whence.contains("life.rs"), "{:?}", ended.cut);
}

#[tokio::test(start_paused = true)]
async fn a_second_demand_skips_to_cancelling() {
    let app = app(&[("admin_listen", "off")]);
    let shutdown = app.shutdown();
    let hurry = shutdown.clone();
    let ended = app
        .run_until(
            async |b| {
                b.tasks().spawn("stuck", pending::<()>());
                let shutdown = b.shutdown();
                b.background("hurry", move |_| async move {
                    shutdown.draining().await;
                    tokio::time::sleep(millis(500)).await;
                    hurry.hurry();
                });
                Ok(())
            },
            tokio::time::sleep(secs(1)),
        )
        .await;
    assert_eq!(ended.phases[0], (Phase::LameDuck, millis(500)));
    assert_eq!(ended.phases[1], (Phase::Draining, millis(0)));
    assert_eq!(ended.phases[2].0, Phase::Cancelling);
    assert_eq!(ended.exit_code(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_panics_stops_the_service_and_a_failure_keeps_its_code() {
    let ended = app(&[("admin_listen", "off")])
        .run_until(
            async |b| {
                b.background("bad", |_| async { panic!("oh no") });
                Ok(())
            },
            pending(),
        )
        .await;
    assert_eq!(ended.exit_code(), 1);
    assert_eq!(ended.error.unwrap().chain(), "loop bad failed: panicked: oh no");

    let failing = app(&[("admin_listen", "off")]);
    let shutdown = failing.shutdown();
    let ended =
        failing.run_until(async |_| Ok(()), async { shutdown.fail(Error::untrusted("sync failed")) }).await;
    assert_eq!(ended.exit_code(), 74);
    assert_eq!(ended.cause, Some(Cause::Failure));
}

#[tokio::test]
async fn what_is_in_flight_finishes_before_components_stop() {
    let log = Log::default();
    let release = Arc::new(Notify::new());
    let (theirs, releasing) = (log.clone(), release.clone());
    let handling = log.clone();
    let entered = Arc::new(Notify::new());
    let entering = entered.clone();
    let router = Router::new().route(
        "/slow",
        get(async move || {
            entering.notify_one();
            release.notified().await;
            note(&handling, "handled");
            "done"
        }),
    );
    let (ended, ()) = with_boot(
        &[("lame_duck_ms", "0")],
        async move |b| {
            stops(b, &theirs, "db");
            b.http("127.0.0.1:0", router)
        },
        async |running| {
            let mut client = Raw::open(running.api).await;
            client.send("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
            entered.notified().await;
            running.shutdown.begin();
            running.shutdown.reached(Phase::Draining).await;
            releasing.notify_one();
            let answer = client.answer().await.unwrap();
            assert_eq!((answer.status, answer.body.as_str()), (200, "done"));
        },
    )
    .await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
    assert_eq!(*log.lock().unwrap(), ["handled", "db"]);
}

#[tokio::test]
async fn a_request_that_overstays_is_cut_and_named() {
    let settings = &[("lame_duck_ms", "0"), ("drain_ms", "100"), ("cancel_ms", "100")];
    let entered = Arc::new(Notify::new());
    let entering = entered.clone();
    let router = Router::new().route(
        "/never",
        get(async move || {
            entering.notify_one();
            pending::<()>().await;
        }),
    );
    let (ended, mut client) = with_router(settings, router, async |running| {
        let mut client = Raw::open(running.api).await;
        client.send("GET /never?x=1 HTTP/1.1\r\nhost: x\r\n\r\n").await;
        entered.notified().await;
        client
    })
    .await;
    assert_eq!(ended.exit_code(), 1);
    assert_eq!(ended.cut.len(), 1, "{:?}", ended.cut);
    assert_eq!(ended.cut[0].what, "GET /never");
    assert!(timeout(PATIENCE, client.closed()).await.unwrap());
}

#[tokio::test]
async fn an_address_in_use_is_named_with_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let ended = app(&[]).run_until(
        async |b: &mut Boot<()>| {
            b.http(address, Router::new());
            Ok(())
        },
        std::future::pending(),
    );
    let error = ended.await.error.expect("an error");
    assert_eq!(error.exit_code(), 69);
    let text = error.chain();
    assert!(text.contains(&format!("cannot listen on {address}; if another process does")), "{text}");
    assert!(text.contains("in use"), "{text}");
}

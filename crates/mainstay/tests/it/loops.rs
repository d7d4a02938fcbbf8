//! Owned loops, and what happens when one fails.

use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use mainstay::shutdown::Cause;
use mainstay::{Error, Restart, Result, millis, secs};

use crate::harness::{app, get};

fn quiet() -> mainstay::App<()> {
    app(&[("admin_listen", "off"), ("lame_duck_ms", "0")])
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_fails_stops_the_service_with_its_exit_code() {
    let ended = quiet()
        .run_until(
            async |b| {
                b.background("tail", |_| async { Err::<(), _>(Error::unavailable("the log is gone")) });
                Ok(())
            },
            pending(),
        )
        .await;
    assert_eq!((ended.exit_code(), ended.cause), (69, Some(Cause::Failure)));
    assert_eq!(ended.error.unwrap().chain(), "loop tail failed: the log is gone");
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_has_done_its_work_or_never_returns_is_no_failure() {
    let ended = quiet()
        .run_until(
            async |b| {
                b.background("warm up", |_| async { Ok::<_, Error>(()) });
                b.background("never", |shutdown| async move {
                    loop {
                        if shutdown.unless_cancelled(tokio::time::sleep(secs(1))).await.is_none() {
                            return;
                        }
                    }
                });
                b.supervise("warm up again", Restart::default(), |_| async {});
                Ok(())
            },
            tokio::time::sleep(secs(60)),
        )
        .await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_supervised_loop_is_restarted_after_errors_and_panics() {
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    let ended = quiet()
        .run_until(
            async |b| {
                b.supervise("tail", Restart::default(), move |shutdown| {
                    let run = counted.fetch_add(1, Ordering::Relaxed);
                    async move {
                        match run {
                            0 => return Err("first".into()),
                            1 => panic!("second"),
                            _ => shutdown.cancelled().await,
                        }
                        Ok::<_, Error>(())
                    }
                });
                Ok(())
            },
            tokio::time::sleep(secs(60)),
        )
        .await;
    assert_eq!(runs.load(Ordering::Relaxed), 3);
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_supervised_loop_that_keeps_failing_stops_the_service() {
    let began = Arc::new(Mutex::new(Vec::new()));
    let noted = began.clone();
    let ended = quiet()
        .run_until(
            async |b| {
                let restart = Restart::default().delays(millis(100)..=secs(1)).give_up_after(6);
                b.supervise("tail", restart, move |_| {
                    noted.lock().unwrap().push(tokio::time::Instant::now());
                    std::future::ready(Err::<(), _>(Error::unavailable("refused")))
                });
                Ok(())
            },
            pending(),
        )
        .await;
    assert_eq!(ended.exit_code(), 69, "{ended:?}");
    assert_eq!(ended.error.unwrap().chain(), "loop tail failed 6 times in a row: refused");
    let began = began.lock().unwrap();
    assert_eq!(began.len(), 6);
    let delays: Vec<_> = began.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // Full jitter: anything up to twice the one before.
    for (delay, longest) in delays.iter().zip([100, 200, 400, 800, 1000]) {
        assert!(*delay <= millis(longest + 1), "{delays:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn runs_that_last_end_a_row_of_failures() {
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    let ended = quiet()
        .run_until(
            async |b| {
                let restart = Restart::default().give_up_after(3).healthy_after(secs(10));
                b.supervise("tail", restart, move |shutdown| {
                    let run = counted.fetch_add(1, Ordering::Relaxed);
                    async move {
                        // Every second run lasts.
                        let lasting =
                            tokio::time::sleep(if run.is_multiple_of(2) { secs(11) } else { secs(1) });
                        shutdown.unless_cancelled(lasting).await;
                        Err::<(), _>("again")
                    }
                });
                Ok(())
            },
            tokio::time::sleep(secs(600)),
        )
        .await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
    assert!(runs.load(Ordering::Relaxed) > 20);
}

#[tokio::test]
async fn restarts_show_in_metrics_and_a_failing_loop_in_the_health() {
    let (ended, ()) = crate::harness::with_boot(
        &[("lame_duck_ms", "0")],
        async |b| {
            let restart = Restart::default().delays(millis(500)..=millis(500)).forever();
            b.supervise("flaky", restart, |_| async { Err::<(), _>("no luck") });
            b.http("127.0.0.1:0", axum::Router::new())
        },
        async |running| {
            let shown = async |path: &str, text: &str| {
                while !get(running.admin, path).await.body.contains(text) {
                    tokio::time::sleep(millis(20)).await;
                }
            };
            tokio::time::timeout(crate::harness::PATIENCE, async {
                shown("/metrics", "mainstay_background_restarts_total{name=\"flaky\"}").await;
                shown("/readyz?verbose", "times in a row: no luck").await;
            })
            .await
            .expect("it is shown");
            assert_eq!(get(running.admin, "/readyz").await.status, 200, "degraded, not unready");
        },
    )
    .await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_at_the_end_of_a_loop_that_was_told_to_end_is_no_failure() {
    let ended = quiet()
        .run_until(
            async |b| {
                b.background("tail", |shutdown| async move {
                    shutdown.cancelled().await;
                    Result::<()>::Err("the connection broke while closing".into())
                });
                Ok(())
            },
            tokio::time::sleep(secs(1)),
        )
        .await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
}

//! A server behind an admission limiter.

use mainstay::admission::{Admission, AdmissionRules, ShedReason};
use mainstay::context::Criticality;
use mainstay::{millis, secs};
use std::future::ready;
use tokio::time::{Instant, sleep};

use super::sim::{Answer, Detached, Report, Server, open_loop};

async fn behind_admission(
    load: f64,
    seconds: u64,
    fails: bool,
    each_second: impl FnMut(u64, &Server),
) -> (Report, Admission) {
    let (server, detached) = (Server::new(1), Detached::new());
    let admission = Admission::seeded("test", AdmissionRules::default(), 7).unwrap();
    let coin = super::sim::Dice::new(3);
    let mut each_second = each_second;
    let call = |deadline: Instant| {
        let (server, detached, admission, coin) =
            (server.clone(), detached.clone(), admission.clone(), coin.clone());
        async move {
            let Ok(permit) = admission.admit_as(Criticality::Critical, Some(deadline)).await else {
                return Answer::Shed;
            };
            detached
                .run(async move {
                    if fails && coin.unit() < 0.5 {
                        return drop(permit); // at once, as failures often are
                    }
                    server.work().await;
                    permit.done();
                })
                .await;
            Answer::Served
        }
    };
    let report = open_loop(load, seconds, 2, call, |second| each_second(second, &server)).await;
    (report, admission)
}

#[tokio::test(start_paused = true)]
async fn below_capacity_hardly_anything_is_shed() {
    let (report, _) = behind_admission(0.8, 30, false, |_, _| {}).await;
    let all = report.sum(0..30);
    println!("0.8: {all:?}, p50 {:?}, p99 {:?}", report.quantile(0.5), report.quantile(0.99));
    assert!(all.shed + all.late <= all.came / 100, "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn above_capacity_nine_tenths_of_it_are_served_in_time() {
    for load in [1.2, 2.0, 5.0] {
        let (report, admission) = behind_admission(load, 30, false, |_, _| {}).await;
        let goodput = report.goodput(5..30);
        println!(
            "{load}: goodput {goodput:.3}, {:?}, limit {}, p50 {:?}, p99 {:?}",
            report.sum(5..30),
            admission.limit(),
            report.quantile(0.5),
            report.quantile(0.99)
        );
        assert!(goodput >= 0.9, "{load} times the capacity: {goodput}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_tenfold_latency_the_service_is_back_within_five_seconds() {
    let step = |second, server: &Server| match second {
        10 => server.slower(10.0),
        20 => server.slower(1.0),
        _ => {}
    };
    let (report, _) = behind_admission(0.8, 40, false, step).await;
    let (before, after) = (report.sum(5..10), report.sum(25..40));
    println!("before {before:?}, during {:?}, after {after:?}", report.sum(10..20));
    assert!(before.served * 100 >= before.came * 98, "{before:?}");
    assert!(after.served * 100 >= after.came * 98, "{after:?}");
    for second in &report.seconds[25..] {
        assert!(second.served * 10 >= second.came * 9, "{second:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn quick_failures_do_not_look_like_a_quick_server() {
    let (report, admission) = behind_admission(1.6, 30, true, |_, _| {}).await;
    let all = report.sum(5..30);
    println!("{all:?}, limit {}", admission.limit());
    // Half of it fails at once: what is left is 0.8 times the capacity.
    assert!(all.served * 100 >= all.came * 99, "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn the_critical_are_served_when_there_is_too_much() {
    let (server, detached) = (Server::new(1), Detached::new());
    let admission = Admission::seeded("test", AdmissionRules::default(), 7).unwrap();
    let dice = super::sim::Dice::new(5);
    let counts = std::sync::Arc::new(std::sync::Mutex::new([(0u32, 0u32); 2]));
    let call = |deadline: Instant| {
        let (server, detached, admission) = (server.clone(), detached.clone(), admission.clone());
        let counts = counts.clone();
        let critical = dice.unit() < 0.2;
        async move {
            counts.lock().unwrap()[usize::from(critical)].0 += 1;
            let class = if critical { Criticality::Critical } else { Criticality::Sheddable };
            let Ok(permit) = admission.admit_as(class, Some(deadline)).await else { return Answer::Shed };
            detached
                .run(async move {
                    server.work().await;
                    permit.done();
                })
                .await;
            counts.lock().unwrap()[usize::from(critical)].1 += 1;
            Answer::Served
        }
    };
    open_loop(3.0, 20, 2, call, |_| {}).await;
    let [sheddable, critical] = *counts.lock().unwrap();
    println!("sheddable {sheddable:?}, critical {critical:?}");
    assert!(critical.1 * 100 >= critical.0 * 95, "{critical:?}");
    assert!(sheddable.1 * 2 < sheddable.0, "{sheddable:?}");
}

fn narrow() -> Admission {
    let rules =
        AdmissionRules { initial: 1, max: 1, max_waiting: 2, max_wait_ms: 300, ..AdmissionRules::default() };
    Admission::new("narrow", rules).unwrap()
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_the_deadline_or_the_limit_and_says_which() {
    let admission = narrow();
    let _running = admission.admit().await.unwrap();
    let began = Instant::now();
    let shed = admission.admit_as(Criticality::Critical, Some(began + millis(50))).await.unwrap_err();
    assert_eq!((shed.reason, began.elapsed()), (ShedReason::Expired, millis(50)));
    let began = Instant::now();
    assert_eq!(admission.admit().await.unwrap_err().reason, ShedReason::Waited);
    assert_eq!(began.elapsed(), millis(300));
    let past = admission.admit_as(Criticality::CriticalPlus, Some(Instant::now())).await;
    assert_eq!(past.unwrap_err().reason, ShedReason::Expired);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_the_line_takes_no_place_and_loses_none() {
    let admission = narrow();
    let running = admission.admit().await.unwrap();
    for _ in 0..10 {
        let waiting = tokio::time::timeout(millis(1), admission.admit()).await;
        assert!(waiting.is_err(), "those who have left do not fill the line");
    }
    // One leaves at the very moment that its turn comes.
    let (mut leaves, mut stays) = (Box::pin(admission.admit()), Box::pin(admission.admit()));
    assert!(futures_util::FutureExt::now_or_never(leaves.as_mut()).is_none());
    assert!(futures_util::FutureExt::now_or_never(stays.as_mut()).is_none());
    drop(running);
    drop(leaves);
    let permit = stays.await.unwrap();
    assert_eq!((admission.in_flight(), admission.waiting()), (1, 0));
    drop(permit);
    assert_eq!(admission.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_shed_because_a_task_has_used_its_turn() {
    let admission = Admission::seeded("test", AdmissionRules::default(), 7).unwrap();
    for n in 0..5_000 {
        let done = admission.run(ready(Ok::<_, ()>(()))).await;
        assert!(done.is_ok(), "piece {n}: {done:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_waits_its_turn() {
    let admission = Admission::seeded("test", AdmissionRules::default(), 7).unwrap();
    let work = async || {
        let done = admission.run(async {
            sleep(millis(10)).await;
            Ok::<_, ()>(())
        });
        done.await.is_ok()
    };
    let all = futures_util::future::join_all((0..500).map(|_| work())).await;
    assert!(all.into_iter().all(|served| served), "500 at once behind a limit of 20 at first");
    sleep(secs(1)).await;
}

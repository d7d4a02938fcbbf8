//! Logs and metrics of one test.

use super::{failure, says};
use crate::{
    Context, TaskSet,
    testing::{Level, Logs, Metrics, assert_logged, block_on_virtual},
};

#[test]
fn a_test_sees_the_lines_of_its_tasks_with_context_and_spans() {
    let logs = Logs::capture();
    block_on_virtual(async {
        let tasks = TaskSet::current().unwrap();
        let work = async {
            let _span = tracing::info_span!("import", file = "a.csv").entered();
            tracing::info!(rows = 3, http.status = 201, ok = true, share = 0.5, "imported all");
        };
        let context = Context::current().with_field("user", 7);
        let _in = context.enter();
        let task = tasks.spawn("import", work);
        task.await.unwrap();
        tracing::trace!("every level is kept");
    });
    assert_logged!(
        logs,
        INFO,
        "imported",
        user = 7,
        file = "a.csv",
        rows = 3,
        http.status = 201,
        share = 0.5
    );
    assert_logged!(logs, INFO, "imported", ok = true, rows = "3",);
    assert_logged!(logs, TRACE, "every level");
    logs.assert_not_logged(Level::WARN, "");
    let line = &logs.lines()[0];
    assert_eq!(line.field("rows"), Some(&3_i64.into()));
    assert_eq!(line.to_string().split(' ').next(), Some("INFO"));
    assert!(line.target.contains("captures"), "{}", line.target);
}

#[test]
fn a_line_that_is_missing_is_told_with_those_there_are() {
    let logs = Logs::capture();
    tracing::debug!("too deep");
    tracing::error!(code = 74, "cannot sync");
    tracing::info!(code = 75, "synced");
    let wrong_field = failure(|| assert_logged!(logs, ERROR, "sync", code = 75));
    says(
        &wrong_field,
        &["no line is like: ERROR …sync… code=75", "1 of 3 lines are ERROR", "ERROR cannot sync code=74"],
    );
    assert!(!wrong_field.contains("synced"), "less urgent lines are left out: {wrong_field}");
    says(
        &failure(|| assert_logged!(logs, INFO, "cannot sync")),
        &["INFO …cannot sync…", "INFO synced code=75"],
    );
    says(&failure(|| assert_logged!(logs, INFO, "synced", code = 75, user = 1)), &["user=1"]);
    says(
        &failure(|| logs.assert_not_logged(Level::ERROR, "")),
        &["should not have been logged: ERROR cannot"],
    );
}

#[test]
fn lines_of_other_tests_are_not_seen_even_if_they_come_from_the_same_place() {
    fn log(n: usize) {
        tracing::info!(n, "same place");
    }
    // A thread without a subscriber comes there first: that must not make the place silent for all.
    let logs = Logs::capture();
    std::thread::spawn(|| log(1)).join().unwrap();
    log(2);
    {
        let inner = Logs::capture();
        log(3);
        assert_eq!(inner.lines().len(), 1);
    }
    log(4);
    let seen: Vec<_> = logs.lines().iter().map(ToString::to_string).collect();
    assert_eq!(seen, ["INFO same place n=2", "INFO same place n=4"]);
}

#[test]
fn nor_are_they_lost_in_a_process_that_has_no_other_subscriber() {
    // The other tests of this binary have theirs: so that one runs alone.
    let alone =
        "testing::tests::captures::lines_of_other_tests_are_not_seen_even_if_they_come_from_the_same_place";
    let mut test = std::process::Command::new(std::env::current_exe().unwrap());
    let ran = test.args(["--exact", alone]).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn secrets_are_hidden_as_in_the_log() {
    let logs = Logs::capture();
    tracing::info!(password = "hunter2", "login");
    assert_logged!(logs, INFO, "login", password = "[redacted]");
}

#[test]
fn counters_start_at_zero_and_are_summed_over_labels() {
    metrics::counter!("shop.orders", "result" => "ok").increment(100); // before
    let metrics = Metrics::capture();
    block_on_virtual(async {
        let tasks = TaskSet::current().unwrap();
        let work =
            async { metrics::counter!("shop.orders", "result" => "ok", "country" => "fr").increment(2) };
        tasks.spawn("work", work).await.unwrap();
        metrics::counter!("shop.orders", "result" => "refused").increment(1);
        metrics::counter!("absolute").absolute(7);
        metrics::gauge!("depth", "queue" => "a").set(3.0);
        metrics::gauge!("depth", "queue" => "b").increment(1.5);
        metrics::gauge!("depth", "queue" => "b").decrement(1.0);
        metrics::histogram!("seconds").record(0.25);
        metrics::histogram!("seconds").record(0.5);
    });
    metrics.assert_counter("shop.orders", &[], 3);
    metrics.assert_counter("shop.orders", &[("result", "ok")], 2);
    metrics.assert_counter("shop.orders", &[("result", "ok"), ("country", "de")], 0);
    metrics.assert_counter("absolute", &[], 7);
    assert_eq!(metrics.gauge("depth", &[]), Some(3.5));
    assert_eq!(metrics.gauge("depth", &[("queue", "b")]), Some(0.5));
    assert_eq!(metrics.gauge("nothing", &[]), None);
    assert_eq!(metrics.histogram("seconds", &[]), [0.25, 0.5]);
    says(
        &failure(|| metrics.assert_counter("shop.orders", &[("result", "ok")], 1)),
        &[
            r#"counter `shop.orders` [("result", "ok")] counted 2 instead of 1"#,
            "shop.orders{country=fr,result=ok} 2",
            "shop.orders{result=refused} 1",
            "depth{queue=a} 3",
            "seconds{} [0.25, 0.5]",
        ],
    );
}

#[test]
fn captures_within_each_other_count_each_for_itself_and_end_in_any_order() {
    let outer = Metrics::capture();
    metrics::counter!("n").increment(1);
    let inner = Metrics::capture();
    metrics::counter!("n").increment(2);
    outer.assert_counter("n", &[], 3);
    inner.assert_counter("n", &[], 2);
    drop(outer);
    metrics::counter!("n").increment(4);
    inner.assert_counter("n", &[], 6);
    std::thread::spawn(|| metrics::counter!("n").increment(100)).join().unwrap();
    inner.assert_counter("n", &[], 6);
    drop(inner);
    let after = Metrics::capture();
    after.assert_counter("n", &[], 0);
    assert_eq!(format!("{after:?}"), "nothing was recorded");
}

#[test]
fn what_is_captured_is_also_seen_where_metrics_are_scraped() {
    crate::telemetry::install(crate::telemetry::MAX_SERIES);
    let metrics = Metrics::capture();
    metrics::describe_counter!("kit.captured", "Seen twice");
    metrics::counter!("kit.captured").increment(2);
    metrics::gauge!("kit.depth").set(1.5);
    metrics::histogram!("kit.sizes").record(1.0);
    metrics.assert_counter("kit.captured", &[], 2);
    let scraped = crate::telemetry::render();
    for line in
        ["# HELP kit_captured_total Seen twice", "kit_captured_total 2", "kit_depth 1.5", "kit_sizes_count 1"]
    {
        assert!(scraped.contains(line), "`{line}` is missing:\n{scraped}");
    }
}

//! Every example prints exactly what it should, and `cargo run --example NAME` needs no flags.

mod order_flow;
mod users;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::time::timeout;

/// What each prints, to the byte. A file in the folder that has no line here fails the test.
const EXPECTED: &[(&str, &str)] = &[
    (
        "backpressure",
        "Producer slowed by backpressure\n\
         All items processed\n",
    ),
    (
        "event_bus",
        "user.created handler 1: alice\n\
         user.created handler 2: alice\n\
         order.placed handler: order_99\n",
    ),
    (
        "contact_sheet",
        "3 photographs found\n\
         Tried again: roll/harbour.ppm\n\
         Contact sheet: 3 thumbnails, 48 x 16 pixels\n\
         Nothing left to do\n",
    ),
    (
        "graceful_shutdown",
        "Server running\n\
         Shutdown initiated\n\
         In-flight requests drained\n\
         Server stopped\n",
    ),
    (
        "health_checks",
        "liveness: healthy\n\
         readiness: ready\n",
    ),
    (
        "middleware_pipeline",
        "[auth] checking token\n\
         [rate_limit] checking rate\n\
         [handler] processing request\n\
         [rate_limit] done\n\
         [auth] done\n\
         Response: ok\n",
    ),
    (
        "order_flow",
        "3 orders placed\n\
         2 accepted, 1 refused\n\
         stock: [1, 0]\n",
    ),
    (
        "production_service",
        "Service started\n\
         Processed 5 requests\n\
         Health: healthy\n\
         Graceful shutdown complete\n",
    ),
    (
        "retry_backoff",
        "Attempt 1 failed\n\
         Attempt 2 failed\n\
         Attempt 3 succeeded\n\
         Result: ok\n",
    ),
    ("service_tests", "All tests pass\n"),
    (
        "structured_logging",
        "INFO request_id=req-001 user_id=42 action=login duration_ms=10.0\n\
         INFO request_id=req-001 status=success\n",
    ),
    (
        "ttl_lock",
        "Lock acquired by client_1\n\
         Lock expired — acquired by client_2\n\
         Both clients processed\n",
    ),
    (
        "worker_pool",
        "All 10 jobs processed\n\
         Pool drained gracefully\n",
    ),
];

/// Long enough for a loaded machine; none takes a second.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn every_example_prints_exactly_this() {
    let mut wrong = String::new();
    for (name, expected) in EXPECTED {
        let run = tokio::process::Command::new(built(name)).stdin(Stdio::null()).kill_on_drop(true).output();
        let ran = timeout(PATIENCE, run).await.unwrap_or_else(|_| panic!("{name} does not end"));
        let ran = ran.unwrap_or_else(|error| panic!("{name} cannot be run: {error}"));
        let (out, log) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        if out != *expected || !ran.status.success() {
            wrong += &format!("== {name}: {}\n{out}== instead of\n{expected}== its log\n{log}\n", ran.status);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_page_on_testing_shows_tests_that_run() {
    let (page, tests) = (include_str!("../../../docs/testing.md"), include_str!("users.rs"));
    assert!(page.contains(tests.trim()), "docs/testing.md does not show tests/it/users.rs");
}

#[test]
fn no_example_is_forgotten() {
    let files =
        std::fs::read_dir(folder()).expect("the folder of the examples").map(|file| file.unwrap().path());
    let sources = files.filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
    let found: BTreeSet<_> =
        sources.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    let listed: BTreeSet<_> = EXPECTED.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(found, listed, "the folder and the table of expected outputs differ");
}

#[test]
fn cargo_run_example_works_at_the_root_without_flags() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(folder().join(".."));
    let answer = cargo.output().expect("cargo runs");
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let workspace: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let list = |value: &Value| value.as_array().unwrap().clone();

    // A package is looked into without `-p` if it is a default member.
    let members = list(&workspace["workspace_default_members"]);
    let defaults =
        list(&workspace["packages"]).into_iter().filter(|package| members.contains(&package["id"]));
    let targets: Vec<Value> = defaults.flat_map(|package| list(&package["targets"])).collect();
    let of_kind = |kind: &'static str| targets.iter().filter(move |target| target["kind"][0] == kind);
    for (name, _) in EXPECTED {
        let found = of_kind("example").filter(|target| target["name"] == *name);
        let flags: Vec<_> = found.map(|target| target["required-features"].clone()).collect();
        assert_eq!(flags, [Value::Null], "{name} is found once, and asks for no features");
    }
    // And `cargo run -- serve` still means the server.
    assert_eq!(
        of_kind("bin").map(|target| target["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["mainstay"]
    );
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Its executable, which `cargo test` has built beside this test. Built here if somebody asked for this test alone.
fn built(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("our own path");
    let target = this.parent().and_then(Path::parent).expect("target/debug/deps");
    let example = target.join("examples").join(name);
    let changed = |file: &Path| file.metadata().and_then(|data| data.modified()).ok();
    if changed(&example) < changed(&folder().join(name).with_extension("rs")) {
        let cargo = Command::new(env!("CARGO"))
            .args(["build", "-p", "mainstay-examples", "--example", name])
            .current_dir(folder())
            .status();
        assert!(cargo.is_ok_and(|status| status.success()), "{name} cannot be built");
    }
    example
}

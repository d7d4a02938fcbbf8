//! Requests of all kinds, straight into the pipeline and without sockets: made out of the OpenAPI document, spoilt, and
//! kept ones. Whatever comes, the server does not panic, does not answer with a fault of its own, tells of a mistake as
//! the contract says, refuses fields that it does not know, and has written nothing when it refuses.
//!
//! `MAINSTAY_FUZZ_CASES` says how many requests (default 3,000), `MAINSTAY_FUZZ_SEED` where chance begins (default 1).
//! A failure prints its request as a file of `tests/corpus`; what is there is asked in every run.

mod make;
mod spoil;
mod world;

use std::panic::AssertUnwindSafe;
use std::path::Path;

use futures_util::FutureExt;
use mainstay::testing::{TestApp, block_on_virtual};
use mainstay::{Boot, secs};
use mainstay_server::serve::{self, Config};
use serde_json::Value;

use make::{Asked, Maker};
use world::{Chance, everything};

/// A server is started anew after so many requests, so that it holds little and what it holds can be looked at often.
const REQUESTS: u64 = 200;
/// No request of the contract takes longer.
const STUCK_AFTER: std::time::Duration = secs(400);

fn from_env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{text}`")),
        Err(_) => default,
    }
}

/// Runs `test` beside a server that is its own.
fn on_a_server(test: impl AsyncFnOnce(&TestApp)) {
    let boot = async |b: &mut Boot<Config>| serve::boot(b).await;
    let run = TestApp::new(boot).set("log_level", "off").may_be_cut().run(test);
    block_on_virtual(run);
}

/// Asks, and judges the answer. Answers its status and body.
async fn ask(app: &TestApp, asked: &Asked) -> (u16, Value) {
    let (store, now) = (app.store(), tokio::time::Instant::now);
    let (before, began) = (everything(&store).await, now());
    let answer = tokio::time::timeout(STUCK_AFTER, app.try_request(asked.request())).await;
    let Ok(Some(answer)) = answer else { panic!("it was not answered") };
    let (status, text) = (answer.status(), String::from_utf8_lossy(answer.bytes()).into_owned());
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    // Whoever gives no time gets none.
    let late = status == 504 && body["code"] == "deadline-exceeded";
    assert!(status < 500 || late, "{status} {text}");
    if status >= 400 && !(late && body["outcome"] == "unknown") {
        assert_eq!(body["status"], status, "a problem says its status: {text}");
        assert_eq!(body["outcome"], "not-applied", "{text}");
        assert!(body["code"].is_string() && body["detail"].is_string(), "{text}");
        // Where time has passed, leases may have run out. Who asks for a lock under a key keeps a place in its line.
        let may_differ = now() > began || body["code"] == "lock-held";
        let after = everything(&store).await;
        assert!(may_differ || before == after, "{status} {text}\nbefore: {before}\nafter: {after}");
    }
    (status, body)
}

/// What was taken is taken no more with a field that nobody knows.
async fn unknown_fields_are_refused(app: &TestApp, asked: &Asked) {
    let Some(asked) = asked.with_a_field_more() else { return };
    let (status, body) = ask(app, &asked).await;
    let errors = body["errors"].as_array().cloned().unwrap_or_default();
    let named = errors.iter().any(|error| error["pointer"] == format!("/{}", make::UNKNOWN));
    assert!(status == 422 && named, "the unknown field was taken: {status} {body}");
}

/// Fails with the request that was under way.
async fn told(asked: &Asked, seed: u64, judged: impl Future<Output = ()>) {
    if let Err(panic) = AssertUnwindSafe(judged).catch_unwind().await {
        eprintln!("after this request (of seed {seed}; keep it in tests/corpus):\n{asked}\n");
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn whatever_is_asked_is_answered_by_the_contract() {
    let (cases, seed) = (from_env("MAINSTAY_FUZZ_CASES", 3_000), from_env("MAINSTAY_FUZZ_SEED", 1));
    let document = mainstay_server::openapi::document(None);
    let (mut taken, mut refused) = (0_u64, 0_u64);
    let mut reached = std::collections::BTreeSet::new();
    for round in 0..cases.div_ceil(REQUESTS) {
        let seed = seed.wrapping_add(round);
        on_a_server(async |app: &TestApp| {
            let mut maker = Maker::new(&document, Chance::new(seed));
            for _ in 0..REQUESTS {
                let asked = maker.next();
                told(&asked, seed, async {
                    let (status, body) = ask(app, &asked).await;
                    if status < 300 {
                        taken += 1;
                        reached.insert(asked.operation.clone());
                        maker.learn(&body);
                        unknown_fields_are_refused(app, &asked).await;
                    } else {
                        refused += 1;
                    }
                })
                .await;
            }
        });
    }
    eprintln!("{taken} requests taken, {refused} refused; {} operations done: {reached:?}", reached.len());
    assert!(taken > cases / 8 && refused > cases / 8, "{taken} taken, {refused} refused");
    assert!(cases < 3_000 || reached.len() > 40, "{} operations were done: {reached:?}", reached.len());
}

#[test]
fn what_was_trouble_once_is_none() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert!(!names.is_empty());
    on_a_server(async |app: &TestApp| {
        for name in &names {
            let asked = Asked::read(&std::fs::read(name).unwrap());
            eprintln!("{}", name.display());
            told(&asked, 0, async {
                let (status, _) = ask(app, &asked).await;
                let expected = asked.expected.expect("a kept request says its status");
                assert_eq!(status, expected, "{}", name.display());
            })
            .await;
        }
    });
}

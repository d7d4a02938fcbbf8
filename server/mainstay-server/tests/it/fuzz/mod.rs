//! Requests of all kinds, straight into the pipeline and without sockets: made out of the OpenAPI document, spoilt, and
//! kept ones. Whatever comes, the server does not panic, does not answer with a fault of its own, tells of a mistake as
//! the contract says, refuses fields that it does not know, and has written nothing when it refuses.
//!
//! `MAINSTAY_FUZZ_CASES` says how many requests (default 3,000), `MAINSTAY_FUZZ_SEED` where chance begins (default 1).
//! A failure prints its request as a file of `tests/corpus`; what is there is asked in every run.

mod judge;
mod make;
mod spoil;
mod world;

use std::path::Path;

use mainstay::testing::TestApp;

use judge::{ask, on_a_server, told, unknown_fields_are_refused};
use make::{Asked, Maker};
use world::Chance;

/// A server is started anew after so many requests, so that it holds little and what it holds can be looked at often.
const REQUESTS: u64 = 200;

fn from_env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{text}`")),
        Err(_) => default,
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
            let asked = Asked::read(&std::fs::read(name).unwrap()).expect("a kept request");
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

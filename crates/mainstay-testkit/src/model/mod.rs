//! The model test: random sequences of steps, on the store under test and on the reference (the engine behind the
//! memory store) at once.
//!
//! Two things are asked after every step. The *replies and records* of both are equal: to the byte while neither was
//! restarted, and but for token numbers after that. And the *invariants* hold, which need no reference: no job is in
//! two states, a queue's depth is the count of its jobs, what is blocked waits for something that can still end, tokens
//! only grow, at most one lease of a job lives, no lock has more holders than it may, a release hands it to whom the line
//! before it showed in front, and a claim hands out what the lists before it said was runnable, in the order of the
//! contract, within places and rates, and all of it that has a place.
//!
//! A store that may choose (which of several jobs, which token, which `run_at`) is not there yet. When it comes, its
//! choice goes through the one place where a grant is noted (`Play::note_grants`): there the reference is made to
//! choose likewise.
//!
//! ```text
//! #[test]
//! fn the_store_does_what_the_model_does() {
//!     mainstay_testkit::model::run(MyHarness::new);
//! }
//! ```
//!
//! `MAINSTAY_MODEL_CASES` says how many sequences of up to 200 steps (default 64), `MAINSTAY_MODEL_SEED` where chance
//! begins (default 1); `scripts/nightly` plays millions of steps. A failure is shrunk and printed with the variables that
//! bring it back.

mod cast;
mod check;
mod event_book;
mod events;
#[cfg(test)]
mod events_tests;
mod limits;
mod locks;
mod play;
mod step;

use proptest::{
    prelude::{ProptestConfig, Strategy},
    test_runner::{RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};

use crate::{
    harness::{Harness, run_with},
    world::World,
};

/// Steps of a sequence, at most.
const STEPS: usize = 200;
/// The same for events, whose steps look at more.
const EVENT_STEPS: usize = 120;

/// Runs the model test of jobs and locks on fresh stores. Panics with the shortest failing sequence found.
pub fn run<H: Harness>(open: impl Fn() -> H) {
    run_one_in(1, open);
}

/// Runs one in `n` of its sequences: for stores on which each is dear, beside one that has them all.
pub fn run_one_in<H: Harness>(n: u64, open: impl Fn() -> H) {
    // Every other sequence is of a world in which many jobs crowd before few places.
    let sequences = |seed: u64| {
        if seed.is_multiple_of(2) { step::crowds(STEPS).boxed() } else { step::sequences(STEPS).boxed() }
    };
    search(n, sequences, |steps| {
        let mut outcome = Ok(());
        run_with(open(), async |world: &mut World| outcome = play::play(world, steps).await);
        outcome
    });
}

/// Runs the model test of topics, events and groups on fresh stores. Panics with the shortest failing sequence found.
pub fn run_events<H: Harness>(open: impl Fn() -> H) {
    run_events_one_in(1, open);
}

/// Runs one in `n` of its sequences, as [`run_one_in`].
pub fn run_events_one_in<H: Harness>(n: u64, open: impl Fn() -> H) {
    search(
        n,
        |_| events::sequences(EVENT_STEPS),
        |steps| {
            let mut outcome = Ok(());
            run_with(open(), async |world: &mut World| outcome = events::play(world, steps).await);
            outcome
        },
    );
}

/// Plays random sequences until one fails; at least one.
fn search<S: std::fmt::Debug, T: Strategy<Value = Vec<S>>>(
    one_in: u64,
    sequences: impl Fn(u64) -> T,
    play: impl Fn(&[S]) -> play::Outcomes,
) {
    let cases = from_env("MAINSTAY_MODEL_CASES", 64).div_ceil(one_in);
    let seed = from_env("MAINSTAY_MODEL_SEED", 1);
    for case in 0..cases {
        // Each sequence has a seed of its own, so that one can be run again without those before it.
        let seed = seed.wrapping_add(case);
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let config = ProptestConfig {
            cases: 1,
            failure_persistence: None,
            max_shrink_iters: 20_000,
            max_shrink_time: 120_000,
            ..ProptestConfig::default()
        };
        let result = TestRunner::new_with_rng(config, rng)
            .run(&sequences(seed), |steps| play(&steps).map_err(TestCaseError::fail));
        match result {
            Ok(()) => {}
            Err(TestError::Fail(why, steps)) => {
                let steps: Vec<_> = steps.iter().map(|step| format!("  {step:?}")).collect();
                panic!(
                    "{why}\nafter these {} steps:\n{}\nagain with MAINSTAY_MODEL_SEED={seed} \
                     MAINSTAY_MODEL_CASES=1",
                    steps.len(),
                    steps.join("\n"),
                );
            }
            Err(TestError::Abort(why)) => panic!("the model test gave up: {why}"),
        }
    }
}

fn from_env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{text}`")),
        Err(_) => default,
    }
}

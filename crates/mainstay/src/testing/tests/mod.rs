//! The kit's own tests, by its public API: each feature does what it says, and fails when it should.

#[cfg(feature = "http")]
mod app;
mod captures;
mod fixtures;
mod leaks;
mod proxy;
mod scripts;
mod time;
#[cfg(feature = "http")]
mod work;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a test that should fail says.
#[track_caller]
fn failure<T>(test: impl FnOnce() -> T) -> String {
    match catch_unwind(AssertUnwindSafe(test)) {
        Ok(_) => panic!("it should have failed"),
        Err(panic) => crate::tasks::panic_message(&*panic),
    }
}

/// All of these are said.
#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is missing:\n{message}");
    }
}

//! What the targets share, most of it with the property-based tests: one set of rules, two ways to look for what breaks
//! them.

/// Cron expressions, topic filters, configuration files.
#[path = "../../crates/mainstay/tests/it/fuzz/judge.rs"]
pub mod texts;

/// Requests to a server in this process.
pub mod http;

/// Files of a killed store.
pub mod killed;

/// The parts of an input, which are divided by a byte that no text has.
pub fn parts(input: &[u8]) -> Vec<String> {
    input.split(|byte| *byte == 0xff).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

/// What ends a part.
pub const END: u8 = 0xff;

//! Text from outside, right and wrong: cron expressions, topic filters, configuration files. Nothing makes their readers
//! panic; what they refuse they name, and what they take means what it says.
//!
//! `MAINSTAY_FUZZ_CASES` says how many texts of each kind (default 1,000). What was trouble once, or looks as if it could
//! be, stands in the list of its test, and is tried in every run.

mod judge;

use proptest::{collection::vec, prelude::*, sample::select};

use judge::{
    HARD_CONFIG, HARD_CRON, a_cron_expression_is_refused_by_name_or_comes,
    a_file_is_read_or_every_mistake_is_told, filters_are_refused_or_match_by_the_rule,
};

fn config() -> ProptestConfig {
    let cases = std::env::var("MAINSTAY_FUZZ_CASES").ok().map(|text| text.parse().expect("a number"));
    ProptestConfig { cases: cases.unwrap_or(1_000), failure_persistence: None, ..ProptestConfig::default() }
}

/// Texts put together from words of a language, and now and then from anything.
fn texts(words: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    let word = prop_oneof![12 => select(words).prop_map(str::to_owned), 1 => "\\PC{0,6}", 1 => any::<char>().prop_map(String::from)];
    vec(word, 0..most).prop_map(|words| words.concat())
}

#[test]
fn kept_cron_expressions_are_read_or_refused() {
    for expression in HARD_CRON {
        for zone in ["UTC", "Africa/Casablanca", "Pacific/Apia", "", "UTC\0", "../UTC"] {
            for at in [i64::MIN, -1, 0, 253_402_300_799_999, i64::MAX] {
                a_cron_expression_is_refused_by_name_or_comes(expression, zone, at);
            }
        }
    }
}

const CRON: &[&str] = &[
    " ",
    " ",
    " ",
    " ",
    "*",
    "*",
    "0",
    "1",
    "5",
    "31",
    "59",
    "60",
    "99999999999",
    "/",
    "-",
    ",",
    "L",
    "W",
    "#",
    "+",
    "?",
    "MON",
    "FRI",
    "JAN",
    "@daily",
    "@",
    "\t",
];
const FILTER: &[&str] =
    &["a", "b", "order", "_", "-", "0", ".", ".", ".", "*", "*", ">", " ", "é", "x.y", "A"];
const TOML: &[&str] = &[
    "workers",
    "listen",
    "key",
    "db",
    "url",
    "tags",
    "grace_ms",
    "drain_ms",
    "log_level",
    "admin_listen",
    " = ",
    " = ",
    "\n",
    "\n",
    "\n",
    "[",
    "]",
    "[[",
    "\"",
    "'",
    "'''",
    "\\",
    "#",
    ".",
    ",",
    "{",
    "}",
    "1",
    "-1",
    "0x",
    "1e400",
    "99999999999999999999",
    "true",
    "nan",
    "2027-01-01",
    "'a'",
    "['a', 1]",
    "\u{0}",
    "\r",
];

#[test]
fn kept_configuration_files_are_read_or_refused() {
    let long = "a".repeat(100_000);
    let deep = format!("tags = {}{}", "[".repeat(5_000), "]".repeat(5_000));
    let dotted = format!("{} = 1", vec!["a"; 5_000].join("."));
    HARD_CONFIG.iter().copied().chain([&*long, &deep, &dotted]).for_each(|text| {
        a_file_is_read_or_every_mistake_is_told(text.as_bytes());
    });
    a_file_is_read_or_every_mistake_is_told(b"listen = '\xff\xfe'");
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_cron_expression_is_read_or_refused_by_name(
        expression in texts(CRON, 14),
        zone in select(&["UTC", "Europe/Berlin", "Pacific/Apia", "Nowhere"]),
        at in any::<i64>(),
    ) {
        a_cron_expression_is_refused_by_name_or_comes(&expression, zone, at);
    }

    #[test]
    fn any_topic_filter_is_refused_or_matches_by_the_rule(
        filters in vec(texts(FILTER, 6), 1..8),
        topics in vec(texts(FILTER, 6), 1..8),
    ) {
        filters_are_refused_or_match_by_the_rule(&filters, &topics);
    }

    #[test]
    fn any_configuration_file_is_read_or_its_mistakes_are_told(text in texts(TOML, 24)) {
        a_file_is_read_or_every_mistake_is_told(text.as_bytes());
    }
}

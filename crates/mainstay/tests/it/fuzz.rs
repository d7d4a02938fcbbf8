//! Text from outside, right and wrong: cron expressions, topic filters, configuration files. Nothing makes their readers
//! panic; what they refuse they name, and what they take means what it says.
//!
//! `MAINSTAY_FUZZ_CASES` says how many texts of each kind (default 1,000). What was trouble once, or looks as if it could
//! be, stands in the list of its test, and is tried in every run.

use std::io::Write;

use mainstay::{
    Secret,
    config::Loader,
    core::{
        Timestamp,
        topic::{FilterSet, TopicFilter, TopicName},
    },
    schedules::Cron,
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde::{Deserialize, Serialize};

fn config() -> ProptestConfig {
    let cases = std::env::var("MAINSTAY_FUZZ_CASES").ok().map(|text| text.parse().expect("a number"));
    ProptestConfig { cases: cases.unwrap_or(1_000), failure_persistence: None, ..ProptestConfig::default() }
}

/// Texts put together from words of a language, and now and then from anything.
fn texts(words: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    let word = prop_oneof![12 => select(words).prop_map(str::to_owned), 1 => "\\PC{0,6}", 1 => any::<char>().prop_map(String::from)];
    vec(word, 0..most).prop_map(|words| words.concat())
}

fn a_cron_expression_is_refused_by_name_or_comes(expression: &str, zone: &str, at: i64) {
    match Cron::new(expression, zone) {
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            for mistake in mistakes {
                assert!(["cron", "timezone"].contains(&mistake.field) && !mistake.detail.is_empty());
            }
        }
        Ok(cron) => {
            // In the time that people live in; of any other it is enough that nothing breaks.
            let now = Timestamp(1_800_000_000_000);
            let next = cron.after(now);
            assert!(next.is_some_and(|next| next > now), "{expression} {zone}: {next:?}");
            let next = cron.after(Timestamp(at));
            assert!(next.is_none_or(|next| next > Timestamp(at)), "{expression} {zone} after {at}: {next:?}");
        }
    }
}

#[test]
fn kept_cron_expressions_are_read_or_refused() {
    let hard = [
        "",
        " ",
        "@",
        "@every 1s",
        "* * * * * * *",
        "0 0 29 2 *",
        "0 0 30 2 *",
        "0 0 31 2,4,6,9,11 *",
        "0 0 L 2 +MON",
        "0 0 1W * *",
        "0 0 LW * *",
        "0 0 * * 5#6",
        "0 0 * * 0L",
        "0-0/1 * * * *",
        "59-0 * * * *",
        "*/61 * * * *",
        "4294967296 * * * *",
        "1,1,1,1 * * * *",
        "-1 * * * *",
        "1- * * * *",
        "/ * * * *",
        "? ? ? ? ?",
        "H * * * *",
        "0 0 * JAN-MAR,13 *",
        "0 0 * * MON-SUN",
        "\u{661} * * * *",
        "* *\t* *\n*",
        "0 0 29 2 +MON",
    ];
    for expression in hard {
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

/// The rule of the contract, word by word.
fn matches(filter: &str, topic: &str) -> bool {
    let (filter, topic): (Vec<_>, Vec<_>) = (filter.split('.').collect(), topic.split('.').collect());
    match filter.split_last() {
        Some((&">", before)) => {
            topic.len() > before.len() && before.iter().zip(&topic).all(|(f, t)| *f == "*" || f == t)
        }
        _ => filter.len() == topic.len() && filter.iter().zip(&topic).all(|(f, t)| *f == "*" || f == t),
    }
}

#[derive(Serialize, Deserialize)]
struct Config {
    listen: String,
    workers: u32,
    key: Secret<String>,
    db: Db,
    tags: Vec<String>,
}

#[derive(Serialize, Deserialize, Default)]
struct Db {
    url: String,
    pool: u32,
}

/// Looked for wherever it must not be.
const SECRET: &str = "hunter2-hunter2";

impl Default for Config {
    fn default() -> Self {
        let key = Secret::new(SECRET.to_owned());
        Self { listen: String::new(), workers: 1, key, db: Db::default(), tags: vec![] }
    }
}

fn a_file_is_read_or_every_mistake_is_told(text: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text).expect("written");
    let loaded = Loader::<Config>::new("shop").variables::<String, String>([]).file(file.path()).load();
    let shown = match loaded {
        Ok(loaded) => format!("{:?} {:?}", loaded.values, loaded.warnings),
        Err(problems) => {
            assert!(!problems.is_empty() && problems.iter().all(|problem| !problem.detail.is_empty()));
            problems.to_string()
        }
    };
    assert!(!shown.contains(SECRET), "{shown}");
}

#[test]
fn kept_configuration_files_are_read_or_refused() {
    let long = "a".repeat(100_000);
    let deep = format!("tags = {}{}", "[".repeat(5_000), "]".repeat(5_000));
    let dotted = format!("{} = 1", vec!["a"; 5_000].join("."));
    let hard = [
        "",
        "\u{feff}workers = 2",
        "workers",
        "workers =",
        "= 1",
        "workers = 1\nworkers = 2",
        "[db]\n[db]",
        "db = 1\n[db]",
        "key = ['hunter2-hunter2']",
        "db.url = 'x'\n[db]\npool = 1",
        "workers = 0x1F",
        "workers = 1_0",
        "workers = 4294967296",
        "grace_ms = -1",
        "grace_ms = 18446744073709551616",
        "tags = [1, 'a', []]",
        "listen = '''\n\n'''",
        "\"\" = 1",
        "workers = 1 # \u{0}",
        &long,
        &deep,
        &dotted,
    ];
    hard.iter().for_each(|text| a_file_is_read_or_every_mistake_is_told(text.as_bytes()));
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
        let topics: Vec<_> = topics.iter().filter_map(|text| TopicName::new(text).ok()).collect();
        let mut set = FilterSet::new();
        let mut taken = vec![];
        for (at, text) in filters.iter().enumerate() {
            if let Ok(filter) = TopicFilter::new(text) {
                prop_assert_eq!(filter.as_str(), text);
                set.insert(&filter, at);
                taken.push((at, filter));
            }
        }
        for topic in topics {
            let mut found = vec![];
            set.matches(&topic, |at| found.push(*at));
            found.sort_unstable();
            let fitting = taken.iter().filter(|(_, filter)| matches(filter.as_str(), topic.as_str()));
            let expected: Vec<_> = fitting.map(|(at, _)| *at).collect();
            prop_assert_eq!(&found, &expected, "{} and {:?}", topic.as_str(), taken);
            prop_assert!(taken.iter().all(|(at, filter)| filter.matches(&topic) == expected.contains(at)));
        }
    }

    #[test]
    fn any_configuration_file_is_read_or_its_mistakes_are_told(text in texts(TOML, 24)) {
        a_file_is_read_or_every_mistake_is_told(text.as_bytes());
    }
}

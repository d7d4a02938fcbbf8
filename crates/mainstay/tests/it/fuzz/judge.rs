//! What holds of any text from outside. The coverage-guided targets (`fuzz/`) use it too.

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
use serde::{Deserialize, Serialize};

/// What was trouble once, or looks as if it could be.
pub const HARD_CRON: &[&str] = &[
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
/// The same for files.
pub const HARD_CONFIG: &[&str] = &[
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
];

pub fn a_cron_expression_is_refused_by_name_or_comes(expression: &str, zone: &str, at: i64) {
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

/// Alone and as a set.
pub fn filters_are_refused_or_match_by_the_rule(filters: &[String], topics: &[String]) {
    let topics: Vec<_> = topics.iter().filter_map(|text| TopicName::new(text).ok()).collect();
    let mut set = FilterSet::new();
    let mut taken = vec![];
    for (at, text) in filters.iter().enumerate() {
        if let Ok(filter) = TopicFilter::new(text) {
            assert_eq!(filter.as_str(), text);
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
        assert_eq!(&found, &expected, "{} and {:?}", topic.as_str(), taken);
        assert!(taken.iter().all(|(at, filter)| filter.matches(&topic) == expected.contains(at)));
    }
}

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

pub fn a_file_is_read_or_every_mistake_is_told(text: &[u8]) {
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

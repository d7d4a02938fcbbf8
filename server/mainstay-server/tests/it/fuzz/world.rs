//! Chance, and what a store holds.

use std::fmt::Write;

use mainstay::Client;
use mainstay::core::event::{EventQuery, LogBudget, Position};
use mainstay::core::rules::mix;
use mainstay::core::schedule::ScheduleOrder;
use mainstay::core::store::{Page, Query};

/// Numbers by a seed, after those that were given.
pub struct Chance {
    given: std::vec::IntoIter<u8>,
    seed: u64,
    draws: u64,
}

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self::given(Vec::new(), seed)
    }

    /// What to choose is in these bytes, one a choice, as long as there are any.
    pub fn given(choices: Vec<u8>, seed: u64) -> Self {
        Self { given: choices.into_iter(), seed, draws: 0 }
    }

    /// There are none left of those that were given.
    #[allow(dead_code, reason = "the coverage-guided targets end with their input")]
    pub fn is_used_up(&self) -> bool {
        self.given.len() == 0
    }

    pub fn next(&mut self) -> u64 {
        if let Some(choice) = self.given.next() {
            return choice.into();
        }
        self.draws += 1;
        mix(self.seed, self.draws)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// Once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len()))
    }
}

/// Everything that can be seen of a store, as text.
pub async fn everything(store: &Client) -> String {
    let mut all = String::new();
    let queries = [
        Query::Jobs(Default::default()),
        Query::Queues,
        Query::AccessTokens,
        Query::Audit,
        Query::Locks { prefix: None },
        Query::Event(EventQuery::Topics),
        Query::Event(EventQuery::Groups),
        Query::Schedules(ScheduleOrder::Name),
    ];
    for query in queries {
        let mut page = Page { limit: 1_000, cursor: None };
        loop {
            let slice = store.store().list(&query, &page).await.expect("a list");
            slice.items.iter().for_each(|item| writeln!(all, "{item:?}").expect("text"));
            match slice.next {
                Some(cursor) => page.cursor = Some(cursor),
                None => break,
            }
        }
    }
    let log = store.store().read_log(&[], Position::Earliest, LogBudget::default()).await.expect("the log");
    writeln!(all, "{log:?}").expect("text");
    all
}

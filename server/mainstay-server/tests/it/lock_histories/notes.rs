//! What the clients noted.

use std::{collections::BTreeMap, path::Path, time::Duration};

use mainstay::core::lock::COLLECT_MS;
use mainstay_testkit::history::{Asked, Call, Got, line::Waited};
use serde::{Deserialize, Serialize};

use super::TTL_MS;

/// A line of a child.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Note {
    /// A call is about to be sent, or was answered: the last word counts.
    Call(u64, Call),
    /// One who waited in line was served.
    Waited(Waited),
    /// A write of a register was refused.
    Refused {
        /// The token it came with.
        token: u64,
        /// When, in microseconds.
        at: u64,
    },
}

#[derive(Default)]
pub(super) struct Notes {
    calls: BTreeMap<(usize, u64), Call>,
    pub(super) waited: Vec<Waited>,
    /// Token and time of each.
    refused: Vec<(u64, u64)>,
    /// When somebody was stopped or killed, and when it went on.
    pub(super) disturbed: Vec<(u64, u64)>,
    /// How often the server was killed.
    pub(super) restarts: u64,
}

/// A busy machine answers late.
const LATE: Duration = Duration::from_secs(2);

/// The lock of those who wait in line.
pub(super) const LINE: &str = "line";

impl Notes {
    pub(super) fn add(&mut self, child: usize, note: Note) {
        match note {
            Note::Call(id, call) => drop(self.calls.insert((child, id), call)),
            Note::Waited(waited) => self.waited.push(waited),
            Note::Refused { token, at } => self.refused.push((token, at)),
        }
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.calls.values().cloned().collect()
    }

    /// How much longer than its wait and its time an acquire may keep others out that nobody heard of.
    pub(super) fn slack(&self) -> Duration {
        // No time passes for a lock while its server is away or stands still, and a restart gives a grant its full time
        // again. One whose connection broke before it was told is kept for its ticket.
        let away: u64 = self.disturbed.iter().map(|(begin, end)| end - begin).sum();
        let again = self.restarts * TTL_MS;
        Duration::from_micros(away) + Duration::from_millis(again + COLLECT_MS) + LATE
    }

    pub(super) fn granted(&self) -> usize {
        self.calls.values().filter(|call| matches!(call.got, Got::Granted(_))).count()
    }

    /// From the sending of a release to the arrival of the next grant at one who was seen in the line before, in
    /// microseconds, sorted; where nobody was stopped or killed meanwhile.
    pub(super) fn grants_after_free(&self) -> Vec<u64> {
        let of_line = || self.calls.values().filter(|call| call.lock == LINE);
        let released: BTreeMap<u64, u64> = of_line()
            .filter_map(|call| match (call.asked, call.got) {
                (Asked::Release { token }, Got::Done) => Some((token, call.from)),
                _ => None,
            })
            .collect();
        let granted: BTreeMap<u64, u64> = of_line()
            .filter_map(|call| match call.got {
                Got::Granted(token) => Some((token, call.to?)),
                _ => None,
            })
            .collect();
        let mut latencies: Vec<u64> = self
            .waited
            .iter()
            .filter_map(|waited| {
                let to = *granted.get(&waited.token)?;
                let (last, _) = granted.range(..waited.token).next_back()?;
                let from = *released.get(last)?;
                let undisturbed = self.disturbed.iter().all(|(begin, end)| *end < from || *begin > to);
                (waited.seen? < from && from < to && undisturbed).then(|| to - from)
            })
            .collect();
        latencies.sort_unstable();
        latencies
    }

    /// How many writes the registers accepted, each with a token at least as high as the last, and how many they
    /// refused, none of them of somebody who held the lock.
    pub(super) fn registers(&self, folder: &Path) -> Result<(u64, u64), String> {
        let mut accepted = 0;
        for file in std::fs::read_dir(folder).map_err(|e| e.to_string())?.flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            if !name.starts_with("register-") {
                continue;
            }
            let text = std::fs::read_to_string(file.path()).map_err(|e| e.to_string())?;
            let tokens: Vec<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
            accepted += tokens.len() as u64;
            if !tokens.is_sorted() {
                return Err(format!("{name} accepted a token below one that it had seen: {tokens:?}"));
            }
        }
        for (token, at) in &self.refused {
            let held_later = self.calls.values().find(|call| {
                let of_it = matches!(call.asked, Asked::Renew { token: of, .. } | Asked::Release { token: of } if of == *token);
                of_it && call.got == Got::Done && call.from >= *at
            });
            if let Some(call) = held_later {
                return Err(format!("a write at {at} was refused to the holder of token {token}: {call:?}"));
            }
        }
        Ok((accepted, self.refused.len() as u64))
    }
}

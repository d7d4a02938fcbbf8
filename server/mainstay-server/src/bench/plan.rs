//! The cells of the matrix, in the order in which they are measured.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::args::JobsArgs;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// The limit of the disk: a preallocated log with group commit, and nothing else
    Raw,
    /// The store, called in its own process
    Store,
    /// The same, each job with one of 10,000 concurrency keys, of which each has one place
    Keys,
    /// The server over loopback HTTP, one job a call
    Http,
    /// The server over loopback HTTP, many jobs a call
    Batch,
    /// Producers alone, in the store's process, one job a call
    Enqueue,
    /// Producers alone, in the store's process, many jobs a call
    EnqueueBatch,
    /// Producers and the library's workers in the store's process, one job a call; the callers are both
    Work,
    /// The same, many jobs a call
    WorkBatch,
    /// Workers that have hardly anything to do: from before an enqueue to the beginning of the handler
    Pickup,
}

impl Variant {
    pub(super) fn name(self) -> &'static str {
        match self {
            Variant::Raw => "raw",
            Variant::Store => "store",
            Variant::Keys => "keys",
            Variant::Http => "http",
            Variant::Batch => "batch",
            Variant::Enqueue => "enqueue",
            Variant::EnqueueBatch => "enqueue-batch",
            Variant::Work => "work",
            Variant::WorkBatch => "work-batch",
            Variant::Pickup => "pickup",
        }
    }

    /// What is measured if nothing is named: the limit of the disk only where the store is on it.
    pub(super) fn usual(elsewhere: bool) -> Vec<Variant> {
        let all = [Variant::Raw, Variant::Store, Variant::Keys, Variant::Http, Variant::Batch];
        all.into_iter().filter(|variant| !elsewhere || *variant != Variant::Raw).collect()
    }

    /// Many jobs a call, by the library.
    pub(super) fn is_in_batches(self) -> bool {
        matches!(self, Variant::EnqueueBatch | Variant::WorkBatch)
    }

    /// Concurrency keys that its jobs have; 0: none.
    pub(super) fn keys(self) -> u64 {
        if self == Variant::Keys { 10_000 } else { 0 }
    }
}

/// A place in the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Place {
    pub(super) backlog: u64,
    pub(super) callers: usize,
    pub(super) variant: Variant,
}

/// All places of one round. Variants alternate, so that whatever the machine does meanwhile happens to all of them;
/// every other round goes the other way.
pub(super) fn round(args: &JobsArgs, round: usize) -> Vec<Place> {
    let mut places = Vec::new();
    for (i, &backlog) in args.backlog.iter().enumerate() {
        for &callers in &args.callers {
            for &variant in &args.only {
                // A log does not know what waits: once is enough.
                if variant != Variant::Raw || i == 0 {
                    places.push(Place { backlog, callers, variant });
                }
            }
        }
    }
    if round % 2 == 1 {
        places.reverse();
    }
    places
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: JobsArgs,
    }

    fn args(flags: &[&str]) -> JobsArgs {
        Cli::parse_from(std::iter::once(&"bench").chain(flags)).args.settled()
    }

    #[test]
    fn the_default_is_the_full_matrix() {
        let args = args(&[]);
        assert_eq!(round(&args, 0).len(), 4 + 2 * 4 * 4);
        assert_eq!((args.rounds, args.check()), (5, Ok(())));
    }

    #[test]
    fn variants_alternate_and_rounds_go_back_and_forth() {
        let args = args(&["--callers", "1,64", "--backlog", "0", "--only", "raw,store"]);
        let there = round(&args, 0);
        let names: Vec<_> = there.iter().map(|place| place.variant.name()).collect();
        assert_eq!(names, ["raw", "store", "raw", "store"]);
        let mut back = round(&args, 1);
        back.reverse();
        assert_eq!(there, back);
    }

    #[test]
    fn a_quick_look_is_short_and_nonsense_is_refused() {
        let quick = args(&["--quick"]);
        assert_eq!((quick.rounds, quick.callers.len(), quick.backlog.len()), (1, 1, 1));
        for bad in ["--callers=0", "--rounds=0", "--batch=1001", "--payload-bytes=1", "--cell-seconds=0"] {
            assert!(args(&[bad]).check().is_err(), "{bad}");
        }
    }
}

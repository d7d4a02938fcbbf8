//! Bits that have flipped in the files of a killed store: it opens and shows what is true, or it says what is wrong, where,
//! and what to do. It never panics.
//!
//! Two things no store can tell: whether the *last* record of the journal was damaged or never quite written (it is
//! taken for the latter, as after a power failure), and, as SQLite's pages have no checksums, whether a value within a
//! row of the tables is the one that was written. So the journal is held to the truth, and the tables to their form.
//!
//! `MAINSTAY_FUZZ_CASES` says how many bits of each (default 300).

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use mainstay_core::{Error, ErrorKind};
use mainstay_sqlite::{Options, SqliteStore};
use mainstay_testkit::{
    ManualClock,
    faults::{Image, Survival},
};

use super::{
    caller::Chance,
    from_env,
    judge::{Witness, look},
    run::Run,
    seed,
};
use crate::harness::Place;

/// Steps before the store is killed.
const STEPS: usize = 80;
/// Nothing takes so long; what does, hangs.
const STUCK_AFTER: Duration = Duration::from_secs(120);

/// What became of a flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Became {
    /// It shows what is true.
    Nothing,
    /// The store says that it is damaged: when it is opened, or when the damage is read.
    Told,
    /// The last record is taken for one that was never written.
    LastRecord,
    /// It shows something else.
    Silent,
}

struct Killed {
    run: Run,
    place: Place,
    now: Vec<Witness>,
    /// What was known before the last answer, and that it was asked for.
    before: Vec<Witness>,
}

impl Killed {
    /// A store with something of everything, without power at a moment when the tables lack some of it.
    async fn new() -> Killed {
        let run = Run::new(seed() + 300);
        run.alone(STEPS, |_| {}).await;
        let place = Place::new();
        let late = run.disk.points() / 2;
        let mut crashes = run.crashes();
        let (mut now, mut before) = (vec![], vec![]);
        while crashes.advance() {
            let is_answered = crashes.witnesses().iter().all(|witness| witness.begun.is_none());
            if !is_answered {
                before = crashes.witnesses().to_vec();
            } else if crashes.point() > late && !before.is_empty() {
                let image = crashes.image(Survival::None);
                place.put(&image);
                now = crashes.witnesses().to_vec();
                // Where the journal has what the tables lack.
                let tables = |image: &Image| image.digest_of(|name| !name.contains("-log"));
                if tables(&image) != tables(&crashes.image(Survival::All))
                    && place.file_bytes("jobs.db-log1") > 0
                    && place.file_bytes("jobs.db-wal") > 0
                {
                    break;
                }
            }
        }
        drop(crashes);
        Killed { run, place, now, before }
    }

    fn files(&self, name: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let folder = fs::read_dir(self.place.file("")).expect("a folder");
        let paths = folder.map(|entry| entry.expect("an entry").path());
        paths.filter(|path| path.file_name().and_then(|n| n.to_str()).is_some_and(&name)).collect()
    }

    fn copy(&self) -> Place {
        let copy = Place::new();
        for file in self.files(|_| true) {
            let name = file.file_name().and_then(|n| n.to_str()).expect("a name");
            fs::copy(&file, copy.file(name)).expect("a copy");
        }
        copy
    }

    /// One bit of these files flips, mostly where there is something.
    async fn flip(&self, of: &[PathBuf], chance: &mut Chance) -> (Became, String) {
        let path = &of[chance.below(of.len())];
        let mut bytes = fs::read(path).expect("readable");
        let mut at = chance.below(bytes.len());
        for _ in 0..20 {
            if bytes[at] != 0 {
                break;
            }
            at = chance.below(bytes.len());
        }
        let bit = 1 << chance.below(8);
        bytes[at] ^= bit;
        let damaged = self.copy();
        let name = path.file_name().and_then(|n| n.to_str()).expect("a name");
        fs::write(damaged.file(name), bytes).expect("writable");
        let looked = tokio::time::timeout(STUCK_AFTER, self.look_at(&damaged)).await;
        let (became, why) = looked.unwrap_or_else(|_| panic!("stuck: bit {bit:#x} of byte {at} of {name}"));
        (became, format!("bit {bit:#x} of byte {at} of {name}, seed {}: {why}", self.run.seed))
    }

    async fn look_at(&self, damaged: &Place) -> (Became, String) {
        let options = Options { housekeeping: false, ..Options::new(damaged.path(), ManualClock::new()) };
        let store = match SqliteStore::open(options) {
            Ok(store) => store,
            Err(error) => {
                says_what_to_do(&error);
                return (Became::Told, error.to_string());
            }
        };
        let Err(why) = look(&store, &self.now).await else { return (Became::Nothing, String::new()) };
        assert!(!why.contains("panick"), "{why}");
        // What cannot be read is told by whoever reads it.
        if why.contains("cannot be") {
            return (Became::Told, why);
        }
        match look(&store, &self.before).await {
            Ok(_) => (Became::LastRecord, why),
            Err(_) => (Became::Silent, why),
        }
    }

    async fn flip_many(&self, of: &[PathBuf]) -> BTreeMap<Became, Vec<String>> {
        assert!(!of.is_empty());
        let mut all = BTreeMap::<_, Vec<String>>::new();
        for case in 0..from_env("MAINSTAY_FUZZ_CASES", 300) {
            let (became, what) = self.flip(of, &mut Chance::new(seed().wrapping_add(case))).await;
            all.entry(became).or_default().push(what);
        }
        for (became, what) in &all {
            eprintln!("{became:?}: {} of them, such as {}", what.len(), what[0]);
        }
        all
    }
}

fn says_what_to_do(error: &Error) {
    let text = error.to_string();
    assert!(!text.contains("panick"), "{text}");
    let kinds = [ErrorKind::Untrusted, ErrorKind::Invalid, ErrorKind::Unavailable];
    assert!(kinds.contains(&error.kind()), "{error:?}");
    assert!(text.contains("jobs.db"), "it names the file: {text}");
}

#[tokio::test]
async fn a_flipped_bit_of_the_journal_is_never_taken_for_data() {
    let killed = Killed::new().await;
    assert_eq!(killed.look_at(&killed.copy()).await.0, Became::Nothing, "without a flip");
    let all = killed.flip_many(&killed.files(|name| name.contains("-log"))).await;
    assert_eq!(all.get(&Became::Silent), None);
    assert!(all.contains_key(&Became::Told), "some hit what is needed");
}

#[tokio::test]
async fn a_flipped_bit_of_sqlites_log_loses_nothing() {
    let killed = Killed::new().await;
    let wal = killed.files(|name| name.ends_with("-wal"));
    assert!(wal.iter().any(|path| fs::metadata(path).is_ok_and(|meta| meta.len() > 0)), "there is one");
    let all = killed.flip_many(&wal).await;
    assert_eq!((all.get(&Became::Silent), all.get(&Became::LastRecord)), (None, None));
}

#[tokio::test]
async fn a_flipped_bit_of_the_tables_is_survived_or_told() {
    let killed = Killed::new().await;
    let all = killed.flip_many(&killed.files(|name| name == "jobs.db")).await;
    assert!(all.contains_key(&Became::Told) && all.contains_key(&Became::Nothing), "{:?}", all.keys());
}

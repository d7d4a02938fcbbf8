//! Callers let loose on a store on a disk that keeps a log.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use mainstay_core::{
    Store, Timestamp,
    clock::Clock,
    op::{Commit, Op, Reply},
    store::{Batch, Budget},
};
use mainstay_sqlite::{Options, SqliteStore};
use mainstay_testkit::{
    ManualClock,
    faults::{Disk, Image, Replay, Survival},
    world::LEASE_MS,
};
use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::{
    caller::{Caller, Chance},
    judge::{Witness, judge},
    ledger::Act,
};
use crate::harness::{Place, Tell, on};

/// A run under way, or over.
pub(super) struct Run {
    pub(super) place: Place,
    pub(super) disk: Disk,
    pub(super) seed: u64,
    history: Mutex<BTreeMap<usize, Note>>,
}

/// What a mark in the disk's log stands for.
#[derive(Clone)]
enum Note {
    Begun {
        caller: usize,
        act: Act,
        at: Timestamp,
    },
    Heard {
        caller: usize,
        replies: Vec<Reply>,
    },
    /// All that is in the tables. Only one thing happens from one dump to the next.
    Dump(Arc<str>),
}

impl Run {
    pub(super) fn new(seed: u64) -> Run {
        Run { place: Place::new(), disk: Disk::new(), seed, history: Mutex::default() }
    }

    pub(super) fn options(&self) -> Options {
        on(&self.disk, self.place.options())
    }

    pub(super) fn now(&self) -> Timestamp {
        self.place.clock.now().wall
    }

    /// One caller, everything that can happen to a store in good health: commits, leases that run out, retention,
    /// checkpoints, restarts.
    pub(super) async fn alone(&self, steps: usize, change: impl Fn(&mut Options)) {
        let mut options = self.options();
        change(&mut options);
        let mut chance = Chance::new(self.seed ^ 0xa10e);
        let mut caller = Caller::new(&queue_of(0), self.seed);
        let mut store = SqliteStore::open(options.clone()).expect("open");
        self.dump();
        for step in 1..=steps {
            match chance.below(12) {
                0 => self.checkpoint(),
                1 if step % 4 == 0 => {
                    self.place.clock.advance(2 * LEASE_MS);
                    self.begin(0, Act::LoseLeases);
                    maintain(&store).await;
                    self.hear(0, vec![]);
                    caller.heard(&Act::LoseLeases, &[], self.now());
                }
                2 if step % 3 == 0 => {
                    self.begin(0, Act::Reopen);
                    store.close(Duration::from_secs(60)).await.expect("close");
                    self.dump();
                    store = SqliteStore::open(options.clone()).expect("open again");
                    // What is asked next may tidy up first.
                    self.dump();
                    self.hear(0, vec![]);
                    caller.heard(&Act::Reopen, &[], self.now());
                }
                3 => {
                    maintain(&store).await;
                }
                _ => self.one_act(&store, 0, &mut caller).await,
            }
            store.tables_follow().await;
            self.dump();
        }
        store.close(Duration::from_secs(60)).await.expect("close");
        self.dump();
    }

    /// Callers at once; what they ask for shares groups.
    pub(super) async fn together(&self, acts: usize) {
        // The tables follow now and then, in the middle of it all.
        let options = Options { behind_bytes: 8_000, ..self.options() };
        let store = SqliteStore::open(options).expect("open");
        let busy = async |n: usize| {
            let mut caller = Caller::new(&queue_of(n), self.seed.wrapping_mul(31).wrapping_add(n as u64));
            for act in 0..acts {
                self.one_act(&store, n, &mut caller).await;
                if act % 20 == 5 * n + 4 {
                    self.checkpoint();
                }
                if act % 16 == 15 {
                    maintain(&store).await;
                }
            }
        };
        tokio::join!(busy(0), busy(1), busy(2), busy(3));
        store.close(Duration::from_secs(60)).await.expect("close");
    }

    async fn one_act(&self, store: &SqliteStore, n: usize, caller: &mut Caller) {
        let commit = caller.next(self.now());
        let act = Act::Commit(commit.clone());
        self.begin(n, act.clone());
        let replies = submit(store, commit).await;
        self.hear(n, replies.clone());
        caller.heard(&act, &replies, self.now());
    }

    /// What the store's own checkpoints do in the background now and then, here and now.
    fn checkpoint(&self) {
        let conn = Connection::open_with_flags_and_vfs(
            self.place.path(),
            OpenFlags::SQLITE_OPEN_READ_WRITE,
            self.disk.vfs(),
        );
        let conn = conn.expect("a connection that checkpoints");
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).expect("config");
        conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).expect("checkpoint");
    }

    fn begin(&self, caller: usize, act: Act) {
        self.note(Note::Begun { caller, act, at: self.now() });
    }

    fn hear(&self, caller: usize, replies: Vec<Reply>) {
        self.note(Note::Heard { caller, replies });
    }

    fn dump(&self) {
        let (dump, _) = read_tables(&self.place.path()).expect("a healthy file");
        self.note(Note::Dump(dump.into()));
    }

    fn note(&self, note: Note) {
        self.history.lock().expect("no panic").insert(self.disk.mark(), note);
    }

    /// How often each kind of thing was asked for.
    pub(super) fn tally(&self) -> BTreeMap<String, usize> {
        let mut tally = BTreeMap::new();
        for note in self.history.lock().expect("no panic").values() {
            let kinds = match note {
                Note::Begun { act: Act::Commit(commit), .. } => {
                    // Of those that wrap another, which.
                    let kind = |op: &Op| {
                        let wraps = matches!(op, Op::Lock(_) | Op::Event(_) | Op::Schedule(_));
                        let shown = format!("{op:?}");
                        shown.split(['(', ' ']).take(1 + usize::from(wraps)).collect::<Vec<_>>().join(" ")
                    };
                    let keyed = commit.key.iter().map(|_| "Keyed".to_owned());
                    let waits = |op: &&Op| matches!(op, Op::Enqueue(job) if !job.after.is_empty());
                    let waits = commit.ops.iter().filter(waits).map(|_| "After".to_owned());
                    let requires = commit.require.iter().map(|_| "Require".to_owned());
                    commit.ops.iter().map(kind).chain(keyed).chain(waits).chain(requires).collect()
                }
                Note::Begun { act: act @ (Act::LoseLeases | Act::Reopen), .. } => vec![format!("{act:?}")],
                _ => vec![],
            };
            kinds.into_iter().for_each(|kind| *tally.entry(kind).or_default() += 1);
        }
        tally
    }

    /// Everything once more, with what was known at each point.
    pub(super) fn crashes(&self) -> Crashes<'_> {
        let mut crashes = Crashes {
            run: self,
            replay: self.disk.replay(),
            history: self.history.lock().expect("no panic").clone(),
            seen: 0,
            witnesses: vec![],
            dumps: vec![],
            opened: BTreeSet::new(),
            judged: 0,
        };
        crashes.catch_up();
        crashes
    }
}

fn queue_of(caller: usize) -> String {
    format!("caller-{caller}")
}

/// A way along the write points of a run.
pub(super) struct Crashes<'r> {
    run: &'r Run,
    replay: Replay,
    history: BTreeMap<usize, Note>,
    seen: usize,
    witnesses: Vec<Witness>,
    /// What the tables have held so far.
    dumps: Vec<Arc<str>>,
    /// Which tables and journals were opened, and how much was known then.
    opened: BTreeSet<(String, u64, usize)>,
    judged: usize,
}

impl Crashes<'_> {
    pub(super) fn advance(&mut self) -> bool {
        let more = self.replay.advance();
        self.catch_up();
        more
    }

    pub(super) fn point(&self) -> usize {
        self.replay.point()
    }

    /// How much was known.
    pub(super) fn marks(&self) -> usize {
        self.replay.marks()
    }

    pub(super) fn image(&self, how: Survival) -> Image {
        self.replay.survivors(how)
    }

    pub(super) fn witnesses(&self) -> &[Witness] {
        &self.witnesses
    }

    fn catch_up(&mut self) {
        while self.seen < self.replay.marks() {
            let note = self.history.get(&self.seen).cloned();
            self.seen += 1;
            match note.expect("every mark has a note") {
                Note::Begun { caller, act, at } => {
                    while self.witnesses.len() <= caller {
                        let ledger = Caller::new(&queue_of(self.witnesses.len()), 0).ledger;
                        self.witnesses.push(Witness { ledger, begun: None });
                    }
                    self.witnesses[caller].begun = Some((act, at));
                }
                Note::Heard { caller, replies } => {
                    let witness = &mut self.witnesses[caller];
                    let (act, at) = witness.begun.take().expect("it was begun");
                    witness.ledger.heard(&act, &replies, at);
                }
                Note::Dump(dump) => self.dumps.push(dump),
            }
        }
    }

    /// What the tables may hold: all of what they held at some time, or all of what they held after. (They follow the
    /// journal, and are synced now and then.)
    fn dumps(&self) -> Vec<&str> {
        let next = self.history.range(self.seen..).find_map(|(_, note)| match note {
            Note::Dump(dump) => Some(dump),
            _ => None,
        });
        self.dumps.iter().chain(next).map(|dump| &**dump).collect()
    }

    /// Holds what survived against what was known: first the tables, then the store that is opened on them, as any
    /// store is. Tables that were judged before, when as much was known, are opened again only now and then.
    pub(super) async fn judge(&mut self, image: &Image, place: &Place) -> Result<(), String> {
        place.put(image);
        let tables = self.tables_are_whole(&place.path())?;
        self.judged += 1;
        let journal = image.digest_of(|name| name.contains("-log"));
        if self.opened.insert((tables, journal, self.marks())) || self.judged.is_multiple_of(8) {
            self.judge_opened(place).await?;
        }
        Ok(())
    }

    /// The same of what survived a later crash, in which nothing was asked for.
    pub(super) async fn judge_later(&self, image: &Image, place: &Place) -> Result<(), String> {
        place.put(image);
        self.judge_opened(place).await
    }

    async fn judge_opened(&self, place: &Place) -> Result<(), String> {
        // By the clock it is as late as when the run began: tokens get no help from it.
        let clock = ManualClock::new();
        let options = Options { housekeeping: false, ..Options::new(place.path(), clock.clone()) };
        let store = SqliteStore::open(options).map_err(|e| format!("the store does not open: {e}"))?;
        judge(&store, &self.witnesses, clock.now().wall).await?;
        store.close(Duration::from_secs(60)).await.map_err(|e| format!("the store does not close: {e}"))?;
        let (_, integrity) = read_tables(&place.path())?;
        if integrity == "ok" { Ok(()) } else { Err(format!("after more work: {integrity}")) }
    }

    /// Answers what is in them.
    fn tables_are_whole(&self, path: &Path) -> Result<String, String> {
        let (dump, integrity) = read_tables(path)?;
        if integrity != "ok" {
            return Err(format!("integrity check: {integrity}"));
        }
        let allowed = self.dumps();
        // While the file is being made, and under many callers, there is nothing to compare with.
        if self.dumps.is_empty() || allowed.contains(&dump.as_str()) {
            return Ok(dump);
        }
        let against = |allowed: &str| {
            let mut different = dump.lines().zip(allowed.lines()).filter(|(a, b)| a != b);
            format!("{:?}", different.next())
        };
        let differences: Vec<_> = allowed.into_iter().rev().take(2).map(against).collect();
        Err(format!("the tables hold neither what they did nor what they would: {differences:?}"))
    }

    /// Where this is.
    pub(super) fn place(&self, how: Survival) -> String {
        let (point, seed) = (self.point(), self.run.seed);
        format!("write point {point}, survival {how:?}, again with MAINSTAY_CRASH_SEED={seed}")
    }
}

impl Place {
    /// Makes the folder hold this and no more.
    pub(super) fn put(&self, image: &Image) {
        image.write_to(self.path().parent().expect("a folder")).expect("the image can be written");
    }
}

/// Commits, which must be answered and not refused.
pub(super) async fn submit(store: &SqliteStore, commit: Commit) -> Vec<Reply> {
    let mut answers = store.submit(Batch::one(commit)).await.expect("submit");
    answers.remove(0).expect("callers ask for nothing that is refused").replies
}

async fn maintain(store: &SqliteStore) {
    while store.maintain(Budget::default()).await.expect("maintain").more {}
}

/// Every row of every table as text, and what SQLite says of the file. Leaves it as it is.
pub(super) fn read_tables(path: &Path) -> Result<(String, String), String> {
    let text = |e: rusqlite::Error| format!("the file cannot be read: {e}");
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(text)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(text)?;
    let mut statement =
        conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").map_err(text)?;
    let names: Result<Vec<String>, _> = statement.query_map([], |row| row.get(0)).map_err(text)?.collect();
    drop(statement);
    let mut dump = String::new();
    for name in names.map_err(text)? {
        let mut statement = conn.prepare(&format!("SELECT * FROM \"{name}\"")).map_err(text)?;
        let columns = statement.column_count();
        let mut rows = statement.query([]).map_err(text)?;
        while let Some(row) = rows.next().map_err(text)? {
            dump.push_str(&name);
            for column in 0..columns {
                let value = row.get_ref(column).map_err(text)?;
                dump.push_str(&format!("|{value:?}"));
            }
            dump.push('\n');
        }
    }
    let integrity = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).map_err(text)?;
    Ok((dump, integrity))
}

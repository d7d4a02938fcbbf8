//! The log gone through again: what the disk could hold at each point.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    io,
    ops::Range,
    path::Path,
    sync::Arc,
};

use mainstay_core::rules::mix;

use super::log::{Event, FileId, Log};

/// What a disk writes at once.
const SECTOR: usize = 512;

/// A position in the log of a [`super::Disk`]: just before a write point, or at the end.
pub struct Replay {
    log: Log,
    at: usize,
    point: usize,
    marks: usize,
    files: Vec<File>,
}

/// What survives of that which no sync has made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// All of it: the process died, the system did not.
    All,
    /// None of it: the power failed, and nothing had been written early.
    None,
    /// All but a part of the last write: the power failed in the middle of it. Chance by this seed.
    Torn(u64),
    /// Each sector by itself, or not: the disk had written some, in an order of its own. Chance by this seed.
    Some(u64),
}

/// What is on the disk after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Image {
    files: BTreeMap<String, Vec<u8>>,
}

/// A file twice: as the system shows it and as the disk has it, with what lies between.
#[derive(Clone, Default)]
struct File {
    shown: Option<Vec<u8>>,
    disk: Option<Vec<u8>>,
    pending: Vec<Pending>,
}

#[derive(Clone)]
struct Pending {
    /// The event that it belongs to.
    event: usize,
    /// A sync has failed over it: the next one leaves it out.
    doomed: bool,
    change: Change,
}

#[derive(Clone)]
enum Change {
    /// Within one sector.
    Piece {
        offset: usize,
        data: Arc<[u8]>,
        part: Range<usize>,
    },
    Truncate(usize),
    Delete,
}

impl Replay {
    pub(super) fn new(log: Log) -> Replay {
        let mut files = vec![File::default(); log.names.len()];
        // What was there when it was first opened had been there from the beginning.
        for (id, file) in files.iter_mut().enumerate() {
            let is_its = |event: &&Event| event.file() == Some(id);
            if let Some(Event::Found { data, .. }) = log.events.iter().find(is_its)
                && !data.is_empty()
            {
                file.found(data);
            }
        }
        let mut replay = Replay { log, at: 0, point: 0, marks: 0, files };
        replay.pass_the_rest();
        replay
    }

    /// Goes on to the next write point; `false` if this was the end.
    pub fn advance(&mut self) -> bool {
        if self.at == self.log.events.len() {
            return false;
        }
        self.step();
        self.point += 1;
        self.pass_the_rest();
        true
    }

    /// How many write points lie behind.
    pub fn point(&self) -> usize {
        self.point
    }

    /// How many marks lie behind.
    pub fn marks(&self) -> usize {
        self.marks
    }

    /// What is on the disk if the power, or the process, fails here.
    pub fn survivors(&self, how: Survival) -> Image {
        let files = self.log.names.iter().zip(&self.files);
        let survived = files.filter_map(|(name, file)| Some((name.clone(), file.survivor(how, self.at)?)));
        Image { files: survived.collect() }
    }

    /// What is not a write point happens together with the one before.
    fn pass_the_rest(&mut self) {
        while self.log.events.get(self.at).is_some_and(|event| !event.is_write_point()) {
            self.step();
        }
    }

    fn step(&mut self) {
        let event = self.log.events[self.at].clone();
        let at = self.at;
        self.at += 1;
        match event {
            Event::Mark => self.marks += 1,
            Event::Found { file, data } => self.files[file].found(&data),
            Event::Write { file, offset, data } => self.files[file].write(at, offset, &data),
            Event::Truncate { file, len } => self.change(file, at, Change::Truncate(len)),
            Event::Sync { file } => self.files[file].sync(),
            Event::SyncFailed { file } => {
                self.files[file].pending.iter_mut().for_each(|pending| pending.doomed = true);
            }
            Event::SyncFolder => self.files.iter_mut().for_each(File::sync_entry),
            Event::Delete { file, durable } => {
                self.change(file, at, Change::Delete);
                if durable {
                    self.files[file].sync_entry();
                }
            }
        }
    }

    fn change(&mut self, file: FileId, event: usize, change: Change) {
        let file = &mut self.files[file];
        change.apply(&mut file.shown);
        file.pending.push(Pending { event, doomed: false, change });
    }
}

impl File {
    fn found(&mut self, data: &[u8]) {
        // One that was deleted and is made again may come back with its old content: that deletion stays pending.
        if self.disk.is_none() || !data.is_empty() {
            self.disk = Some(data.to_vec());
            self.pending.clear();
        }
        self.shown = Some(data.to_vec());
    }

    fn write(&mut self, event: usize, offset: usize, data: &Arc<[u8]>) {
        let mut from = 0;
        while from < data.len() {
            let until = ((offset + from) / SECTOR + 1) * SECTOR - offset;
            let part = from..until.min(data.len());
            let change = Change::Piece { offset: offset + from, data: data.clone(), part: part.clone() };
            change.apply(&mut self.shown);
            self.pending.push(Pending { event, doomed: false, change });
            from = part.end;
        }
    }

    /// What is dirty becomes durable as it is shown, whole sectors; what a failed sync has given up stays given up,
    /// unless its sector was made dirty again.
    fn sync(&mut self) {
        let mut written = BTreeSet::new();
        for Pending { doomed, change, .. } in &self.pending {
            match change {
                Change::Piece { offset, .. } if !doomed => {
                    written.insert(offset / SECTOR);
                }
                Change::Piece { .. } => {}
                Change::Truncate(_) | Change::Delete => change.apply(&mut self.disk),
            }
        }
        for sector in &written {
            let Some(shown) = &self.shown else { break };
            let from = sector * SECTOR;
            let until = (from + SECTOR).min(shown.len());
            if from < until {
                place(&mut self.disk, from, &shown[from..until]);
            }
        }
        let given_up = |pending: &Pending| match &pending.change {
            Change::Piece { offset, .. } => pending.doomed && !written.contains(&(offset / SECTOR)),
            Change::Truncate(_) | Change::Delete => false,
        };
        self.pending.retain(given_up);
    }

    /// A deletion that the folder knows of is durable.
    fn sync_entry(&mut self) {
        let deletion = self.pending.iter().rposition(|pending| matches!(pending.change, Change::Delete));
        if let Some(deletion) = deletion {
            self.disk = None;
            self.pending.drain(..=deletion);
        }
    }

    fn survivor(&self, how: Survival, at: usize) -> Option<Vec<u8>> {
        if how == Survival::All {
            return self.shown.clone();
        }
        let mut file = self.disk.clone();
        let last = at.checked_sub(1);
        let of_the_last = self.pending.iter().filter(|pending| Some(pending.event) == last).count();
        let mut seen_of_the_last = 0;
        for pending in &self.pending {
            let survives = match how {
                Survival::All => true,
                Survival::None => false,
                Survival::Some(seed) => {
                    mix(mix(seed, pending.event as u64), pending.change.offset()) & 1 == 0
                }
                Survival::Torn(seed) if Some(pending.event) == last => {
                    seen_of_the_last += 1;
                    seen_of_the_last <= mix(seed, 0) as usize % of_the_last
                }
                Survival::Torn(_) => !pending.doomed,
            };
            if survives {
                pending.change.apply(&mut file);
            }
        }
        file
    }
}

impl Change {
    fn offset(&self) -> u64 {
        match self {
            Change::Piece { offset, .. } | Change::Truncate(offset) => *offset as u64,
            Change::Delete => 0,
        }
    }

    fn apply(&self, file: &mut Option<Vec<u8>>) {
        match self {
            Change::Piece { offset, data, part } => place(file, *offset, &data[part.clone()]),
            Change::Truncate(len) => {
                if let Some(file) = file {
                    file.resize(*len, 0);
                }
            }
            Change::Delete => *file = None,
        }
    }
}

fn place(file: &mut Option<Vec<u8>>, offset: usize, data: &[u8]) {
    let file = file.get_or_insert_default();
    if file.len() < offset + data.len() {
        file.resize(offset + data.len(), 0);
    }
    file[offset..offset + data.len()].copy_from_slice(data);
}

impl Image {
    /// Puts the files into `folder`, and takes away those that are not part of it: it then holds this and no more.
    pub fn write_to(&self, folder: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            std::fs::remove_file(entry?.path())?;
        }
        for (name, content) in &self.files {
            std::fs::write(folder.join(name), content)?;
        }
        Ok(())
    }

    /// Equal for equal images.
    pub fn digest(&self) -> u64 {
        self.digest_of(|_| true)
    }

    /// Equal for images whose files of these names are equal.
    pub fn digest_of(&self, names: impl Fn(&str) -> bool) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.files.iter().filter(|(name, _)| names(name)).for_each(|file| file.hash(&mut hasher));
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(events: impl IntoIterator<Item = Event>) -> Replay {
        let mut log = Log::default();
        log.opened(Path::new("/nowhere/f"));
        events.into_iter().for_each(|event| log.push(event));
        Replay::new(log)
    }

    fn write(offset: usize, text: &str) -> Event {
        Event::Write { file: 0, offset, data: text.as_bytes().into() }
    }

    fn at_the_end(mut replay: Replay, how: Survival) -> Vec<u8> {
        while replay.advance() {}
        replay.survivors(how).files.remove("f").expect("the file is there")
    }

    const SYNC: Event = Event::Sync { file: 0 };
    const FAILED: Event = Event::SyncFailed { file: 0 };

    #[test]
    fn only_what_was_synced_survives_a_power_cut() {
        let run = || log([write(0, "abc"), SYNC, write(1, "xy"), write(3, "z")]);
        assert_eq!(at_the_end(run(), Survival::None), b"abc");
        assert_eq!(at_the_end(run(), Survival::All), b"axyz");
    }

    #[test]
    fn a_sync_after_a_failed_one_does_not_bring_back_what_was_given_up() {
        let run = || log([write(0, "abc"), SYNC, write(0, "xyz"), FAILED, write(SECTOR, "new"), SYNC]);
        assert_eq!(at_the_end(run(), Survival::None)[..3], *b"abc");
        assert_eq!(at_the_end(run(), Survival::None)[SECTOR..], *b"new");
        assert_eq!(at_the_end(run(), Survival::All)[..3], *b"xyz");
        let written_again = log([write(0, "xyz"), FAILED, write(0, "xyz"), SYNC]);
        assert_eq!(at_the_end(written_again, Survival::None), b"xyz");
    }

    #[test]
    fn a_torn_write_survives_by_whole_sectors_and_never_whole() {
        let text = "t".repeat(3 * SECTOR);
        let mut lengths = BTreeSet::new();
        for seed in 0..64 {
            let torn = at_the_end(log([write(0, "first"), write(SECTOR, &text)]), Survival::Torn(seed));
            assert_eq!(torn[..5], *b"first");
            lengths.insert(torn.len().div_ceil(SECTOR));
        }
        assert_eq!(lengths, BTreeSet::from([1, 2, 3]));
    }

    #[test]
    fn unsynced_sectors_survive_in_any_combination() {
        let some = |seed| at_the_end(log([write(0, "a"), write(SECTOR, "b")]), Survival::Some(seed));
        let seen: BTreeSet<_> = (0..64).map(some).collect();
        assert_eq!(seen.len(), 4);
    }

    #[test]
    fn a_deletion_is_undone_until_the_folder_is_synced() {
        let run = |more: &[Event]| {
            let deleted = [write(0, "a"), SYNC, Event::Delete { file: 0, durable: false }];
            let mut replay = log(deleted.into_iter().chain(more.iter().cloned()));
            while replay.advance() {}
            replay.survivors(Survival::None).files.contains_key("f")
        };
        assert!(run(&[]));
        assert!(!run(&[Event::SyncFolder]));
    }

    #[test]
    fn marks_count_with_the_write_point_before_them() {
        let mut replay = log([Event::Mark, write(0, "a"), Event::Mark, Event::Mark, SYNC]);
        let mut seen = vec![(replay.point(), replay.marks())];
        while replay.advance() {
            seen.push((replay.point(), replay.marks()));
        }
        assert_eq!(seen, [(0, 1), (1, 3), (2, 3)]);
    }
}

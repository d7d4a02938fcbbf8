//! What the journal holds beyond the tables, when a store is opened.
//!
//! The end of the journal is the first record that is not there. That is damage if a later record says that it was
//! on the disk once; else the power failed before it was, and nobody was told of it.

use std::{fs, io, path::Path};

use mainstay_core::{
    Error, ErrorKind,
    engine::change::{Change, Counters},
};

use mainstay_writer::codec::decode;

use super::{
    files::Files,
    record::{self, ALIGN, Header},
    segment::{self, Segment},
};
use crate::fault::what_to_do;

/// All segments that are there, in the order of their numbers.
pub(crate) fn segments(files: &dyn Files, store: &Path) -> Result<Vec<Segment>, Error> {
    let mut found = Vec::new();
    for number in 1.. {
        let path = segment::path(store, number);
        match Segment::open(files, &path).map_err(|e| unreadable(&path, e))? {
            Some(segment) => found.push(segment),
            None => break,
        }
    }
    Ok(found)
}

/// The numbers of all segments that lie beside the store, also behind a gap; in order.
pub(super) fn numbers(store: &Path) -> io::Result<Vec<u32>> {
    let folder = store.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = store.file_name().and_then(|name| name.to_str()) else { return Ok(Vec::new()) };
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let found = entry?.file_name();
        let number = found.to_str().and_then(|found| found.strip_prefix(name)?.strip_prefix("-log"));
        // Only as a segment is spelt.
        numbers.extend(number.and_then(|n| n.parse().ok().filter(|number: &u32| number.to_string() == n)));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A store that was not closed in good order has a journal with a record of its epoch: without it, nobody knows what
/// was answered last.
pub(crate) fn belongs(
    files: &dyn Files,
    store: &Path,
    segments: &[Segment],
    epoch: u64,
) -> Result<(), Error> {
    let first_gap = segment::path(store, segments.len() as u32 + 1);
    for number in numbers(store).map_err(|e| unreadable(store, e))? {
        if number as usize <= segments.len() {
            continue;
        }
        let path = segment::path(store, number);
        let stray = Segment::open(files, &path).map_err(|e| unreadable(&path, e))?;
        // One of an earlier time may be left over; one of this epoch shows that there was another before it.
        if stray.is_some_and(|stray| read(&stray).is_ok_and(|bytes| whole(&bytes, epoch).next().is_some())) {
            let what =
                format!("{} is there, but {} before it is missing", path.display(), first_gap.display());
            return Err(missing(store, &what));
        }
    }
    for segment in segments {
        if whole(&read(segment)?, epoch).next().is_some() {
            return Ok(());
        }
    }
    let first = segment::path(store, 1);
    Err(missing(
        store,
        &match segments {
            [] => format!("{} is missing", first.display()),
            _ => format!(
                "what lies beside it ({} and on) is of another time or another store",
                first.display()
            ),
        },
    ))
}

fn missing(store: &Path, what: &str) -> Error {
    let message = format!(
        "the store {0} was not closed in good order, and its journal is not there: {what}; what was answered last lies \
         in it: put all of {0}-log* back beside it as they were and open it again, or restore a backup, or, to go on \
         without what the journal held, move {0}-log* away and run `sqlite3 {0} 'UPDATE meta SET clean = 1'`",
        store.display()
    );
    Error::new(ErrorKind::Untrusted, message)
}

fn read(segment: &Segment) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; segment.bytes as usize];
    let length = segment.file.read_at(&mut bytes, 0).map_err(|e| unreadable(&segment.path, e))?;
    bytes.truncate(length);
    Ok(bytes)
}

/// The whole records of an epoch, wherever they lie.
fn whole(bytes: &[u8], epoch: u64) -> impl Iterator<Item = Header> {
    (0..bytes.len()).step_by(ALIGN).filter_map(move |at| {
        let header = record::header(&bytes[at..]).filter(|header| header.epoch == epoch)?;
        record::content(&bytes[at..], &header).map(|_| header)
    })
}

/// Hands out the groups of this epoch behind `lsn`, in order. Answers the number of the last.
pub(crate) fn replay(
    store: &Path,
    segments: &[Segment],
    (epoch, lsn): (u64, u64),
    mut each: impl FnMut(u64, Counters, Vec<Change>, usize) -> Result<(), Error>,
) -> Result<u64, Error> {
    let mut firsts = Vec::new();
    for segment in segments {
        let mut bytes = [0; record::HEADER];
        segment.file.read_at(&mut bytes, 0).map_err(|e| unreadable(&segment.path, e))?;
        let first = record::header(&bytes).filter(|header| header.epoch == epoch);
        // Nothing was ever in one that is shorter than it was to be; records lie in whole ones alone.
        if let Some(made) = first.map(|header| header.of_bytes).filter(|made| *made > segment.bytes) {
            let what = format!("the file ends here and was {made} bytes long: {LOST}");
            return Err(damaged(store, segment, segment.bytes as usize, &what));
        }
        firsts.push(first.map(|header| header.lsn));
    }
    let mut next = lsn + 1;
    let mut ended_in = None;
    loop {
        // The one that begins with it, or the last that begins before it.
        let begins = firsts.iter().enumerate().filter_map(|(i, first)| Some((first.as_ref()?, i)));
        let Some((first, at)) = begins.filter(|(first, _)| **first <= next).max() else { break };
        if ended_in.is_some() && *first != next {
            break;
        }
        let before = next;
        let end = walk(&read(&segments[at])?, epoch, &mut next, |place, lsn, content| {
            let damaged = |what: String| damaged(store, &segments[at], place, &what);
            let content =
                content.ok_or_else(|| damaged(format!("the file ends within record {lsn}: {LOST}")))?;
            let (counters, changes) =
                decode::group(content).map_err(|what| damaged(format!("record {lsn} holds {what}")))?;
            each(lsn, counters, changes, content.len())
        })?;
        ended_in = Some((at, end));
        if next == before {
            break;
        }
    }
    for segment in segments {
        let bytes = read(segment)?;
        if let Some(later) = witness(&bytes, epoch, next) {
            let (at, end) = ended_in.unwrap_or((0, 0));
            let (lsn, of) = (later.lsn, segment.path.display());
            let what = if lsn == next {
                format!("nothing leads to record {next}, which is in {of}")
            } else {
                format!(
                    "record {next} should be there, for record {lsn} in {of} was written after it was on the disk"
                )
            };
            return Err(damaged(store, &segments[at], end, &what));
        }
    }
    Ok(next - 1)
}

/// A segment has all its bytes before it has a record.
const LOST: &str =
    "it was cut short, as by a copy that was not finished, and what was answered may be lacking";

/// Goes from record to record and hands out those from `next` on, with their places; without content, the file ends
/// within it. Answers where the first lies that is none.
fn walk(
    bytes: &[u8],
    epoch: u64,
    next: &mut u64,
    mut each: impl FnMut(usize, u64, Option<&[u8]>) -> Result<(), Error>,
) -> Result<usize, Error> {
    let mut at = 0;
    let mut last = None;
    while let Some(header) = bytes.get(at..).and_then(record::header) {
        let follows = last.is_none_or(|last: u64| header.lsn == last + 1);
        if header.epoch != epoch || !follows || header.lsn > *next {
            break;
        }
        if header.lsn == *next {
            let content = record::content(&bytes[at..], &header);
            if content.is_none() && bytes.len() - at >= record::HEADER + header.length {
                break;
            }
            each(at, header.lsn, content)?;
            *next += 1;
        }
        last = Some(header.lsn);
        at += record::padded(record::HEADER + header.length);
    }
    Ok(at)
}

/// A whole record that shows that record `missing` should have been reached: it was written when that one was known to
/// be on the disk, or it is that one, and was written when all before it were.
fn witness(bytes: &[u8], epoch: u64, missing: u64) -> Option<Header> {
    whole(bytes, epoch).find(|header| match header.lsn {
        lsn if lsn > missing => header.synced >= missing,
        lsn => lsn == missing && header.synced + 1 >= missing,
    })
}

fn damaged(store: &Path, segment: &Segment, at: usize, what: &str) -> Error {
    let path = segment.path.display();
    let message = format!(
        "the journal of the store {} is damaged: {path}, byte {at}: {what}; {}",
        store.display(),
        what_to_do(store)
    );
    Error::new(ErrorKind::Untrusted, message)
}

fn unreadable(path: &Path, e: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the journal {} could not be read: {e}", path.display()))
        .because(e)
}

#[cfg(test)]
mod tests {
    use mainstay_writer::codec::encode;

    use super::{super::files::SystemFiles, *};

    const EPOCH: u64 = 7;

    /// Replays a segment of `made` bytes with the records 5, 6 and 7, which is cut to the length that `cut` makes of the
    /// places where they begin. Answers the last record.
    fn replayed(made: u64, cut: impl FnOnce(&[usize]) -> usize) -> Result<u64, Error> {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("a.db");
        let (mut bytes, mut places, mut record) = (vec![], vec![], vec![]);
        for lsn in 5..8 {
            record::begin(&mut record);
            encode::counters(&mut record, &Counters::default());
            record::end(&mut record, EPOCH, lsn, lsn - 1, made);
            places.push(bytes.len());
            bytes.extend_from_slice(&record);
        }
        bytes.resize(8_192, 0);
        bytes.truncate(cut(&places));
        fs::write(segment::path(&store, 1), bytes).unwrap();
        replay(&store, &segments(&SystemFiles, &store)?, (EPOCH, 4), |_, _, _, _| Ok(()))
    }

    fn is_told(replayed: Result<u64, Error>, place: &str) {
        let error = replayed.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Untrusted, "{error}");
        assert!(error.to_string().contains(place), "{error}");
    }

    #[test]
    fn a_segment_that_is_shorter_than_it_was_made_is_damage() {
        assert_eq!(replayed(8_192, |_| 8_192).unwrap(), 7);
        // Behind the last record, between two, within one: also where nothing that is left looks as if it lacked anything.
        for cut in [|_: &[usize]| 4_096, |at: &[usize]| at[2], |at: &[usize]| at[2] + 50] {
            is_told(replayed(8_192, cut), "was 8192 bytes long");
        }
    }

    #[test]
    fn a_journal_of_before_lengths_were_noted_is_read_and_may_not_end_within_a_record() {
        assert_eq!(replayed(0, |_| 8_192).unwrap(), 7);
        assert_eq!(replayed(0, |_| 4_096).unwrap(), 7);
        // Nothing tells this from a record that was never written.
        assert_eq!(replayed(0, |at| at[2]).unwrap(), 6);
        is_told(replayed(0, |at| at[2] + 50), "ends within record 7");
    }
}

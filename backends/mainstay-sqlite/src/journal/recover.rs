//! What the journal holds beyond the tables, when a store is opened.
//!
//! The end of the journal is the first record that is not there. That is damage if a later record says that it was
//! on the disk once; else the power failed before it was, and nobody was told of it.

use std::{io, path::Path};

use mainstay_core::{
    Error, ErrorKind,
    engine::change::{Change, Counters},
};

use super::{
    decode,
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

/// Hands out the groups of this epoch behind `lsn`, in order. Answers the number of the last.
pub(crate) fn replay(
    store: &Path,
    segments: &[Segment],
    (epoch, lsn): (u64, u64),
    mut each: impl FnMut(u64, Counters, Vec<Change>, usize) -> Result<(), Error>,
) -> Result<u64, Error> {
    let read = |segment: &Segment| {
        let mut bytes = vec![0; segment.bytes as usize];
        let length = segment.file.read_at(&mut bytes, 0).map_err(|e| unreadable(&segment.path, e))?;
        bytes.truncate(length);
        Ok::<_, Error>(bytes)
    };
    let mut firsts = Vec::new();
    for segment in segments {
        let mut bytes = [0; record::HEADER];
        segment.file.read_at(&mut bytes, 0).map_err(|e| unreadable(&segment.path, e))?;
        firsts.push(record::header(&bytes).filter(|header| header.epoch == epoch).map(|header| header.lsn));
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
        let end = walk(&read(&segments[at])?, epoch, &mut next, |lsn, content| {
            let (counters, changes) = decode::group(content)
                .map_err(|what| damaged(store, &segments[at], 0, &format!("record {lsn} holds {what}")))?;
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
            let what = format!(
                "record {next} should be there, for record {} in {} was written after it was on the disk",
                later.lsn,
                segment.path.display()
            );
            return Err(damaged(store, &segments[at], end, &what));
        }
    }
    Ok(next - 1)
}

/// Goes from record to record and hands out those from `next` on. Answers where the first lies that is none.
fn walk(
    bytes: &[u8],
    epoch: u64,
    next: &mut u64,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), Error>,
) -> Result<usize, Error> {
    let mut at = 0;
    let mut last = None;
    while let Some(header) = bytes.get(at..).and_then(record::header) {
        let follows = last.is_none_or(|last: u64| header.lsn == last + 1);
        if header.epoch != epoch || !follows || header.lsn > *next {
            break;
        }
        if header.lsn == *next {
            let Some(content) = record::content(&bytes[at..], &header) else { break };
            each(header.lsn, content)?;
            *next += 1;
        }
        last = Some(header.lsn);
        at += record::padded(record::HEADER + header.length);
    }
    Ok(at)
}

/// A whole record that was written when record `missing` was known to be on the disk.
fn witness(bytes: &[u8], epoch: u64, missing: u64) -> Option<Header> {
    (0..bytes.len()).step_by(ALIGN).find_map(|at| {
        let header = record::header(&bytes[at..])?;
        let knows = header.epoch == epoch && header.lsn > missing && header.synced >= missing;
        (knows && record::content(&bytes[at..], &header).is_some()).then_some(header)
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

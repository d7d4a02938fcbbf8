//! Writer and maker of segments under a model checker.

#![allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "the same source over other locks; the model uses what it needs"
)]

#[path = "spare.rs"]
mod spare;
mod sync {
    pub(super) use mainstay_loom::{Condvar, Mutex, MutexGuard};

    pub(super) use mainstay_loom::stopped::Stopwatch;
}

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use mainstay_loom::{check, stopped as watch, thread};

use self::spare::Spare;
use super::{
    files::{self, Files, JournalFile},
    segment,
};

/// A disk that takes everything, but for the first so many files.
struct Disk {
    full_for: AtomicUsize,
}

struct Anything;

impl JournalFile for Anything {
    fn bytes(&self) -> io::Result<u64> {
        Ok(0)
    }
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Files for Disk {
    fn open(&self, _: &Path, _: bool) -> io::Result<Arc<dyn JournalFile>> {
        let less = |left: usize| left.checked_sub(1);
        match self.full_for.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            Ok(_) => Err(io::ErrorKind::StorageFull.into()),
            Err(_) => Ok(Arc::new(Anything)),
        }
    }
    fn delete(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

fn spare(full_for: usize) -> (Arc<Spare>, thread::JoinHandle<()>) {
    watch::stands_at(std::time::Duration::ZERO);
    let disk = Disk { full_for: AtomicUsize::new(full_for) };
    let spare = Arc::new(Spare::new(Arc::new(disk), "jobs.db".into(), 1));
    let runs = spare.clone();
    (spare, thread::spawn(move || runs.run()))
}

#[test]
fn a_segment_comes_whether_or_not_it_was_asked_for_before_it_was_needed() {
    check(|| {
        let (spare, thread) = spare(0);
        spare.ask(64);
        assert!(spare.take(64).is_ok() && spare.take(64).is_ok());
        spare.stop();
        thread.join().unwrap();
        assert_eq!(spare.made(), 2);
    });
}

#[test]
fn a_failure_is_told_to_whoever_needs_one_and_the_next_is_tried() {
    check(|| {
        let (spare, thread) = spare(1);
        spare.ask(64);
        let first = spare.take(64);
        assert!(first.is_ok() || first.is_err_and(|error| error.kind() == io::ErrorKind::StorageFull));
        assert!(spare.take(64).is_ok());
        spare.stop();
        thread.join().unwrap();
    });
}

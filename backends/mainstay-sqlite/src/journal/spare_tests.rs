use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{
    files::{Files, JournalFile},
    spare::Spare,
};

/// A disk without room, which counts how often that was tried.
#[derive(Default)]
struct Full(AtomicUsize);

impl Files for Full {
    fn open(&self, _: &Path, _: bool) -> io::Result<Arc<dyn JournalFile>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Err(io::ErrorKind::StorageFull.into())
    }

    fn delete(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_not_filled_again_for_a_segment_that_nobody_needs_yet() {
    let disk = Arc::new(Full::default());
    let spare = Arc::new(Spare::new(disk.clone(), "jobs.db".into(), 1));
    let runs = spare.clone();
    // Nobody waits for it but a test that has succeeded.
    let thread = thread::spawn(move || runs.run());
    let refused = |_| spare.take(4_096).err().map(|e| e.kind());
    assert!((0..3).map(refused).all(|kind| kind == Some(io::ErrorKind::StorageFull)));
    assert_eq!(disk.0.load(Ordering::SeqCst), 3, "one that is needed now is tried at once");
    spare.ask(4_096);
    assert_eq!(spare.lock().wanted, None, "in advance it is not");
    // The rest is over.
    spare.lock().resting = None;
    spare.ask(4_096);
    drop(spare.changed.wait_while(spare.lock(), |state| state.wanted.is_some() || state.making));
    assert_eq!(disk.0.load(Ordering::SeqCst), 4);
    spare.stop();
    thread.join().unwrap();
}

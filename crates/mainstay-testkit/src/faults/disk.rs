//! The handle of a test on its disk, and what it has planned.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::{
    files::DiskFiles,
    log::{Event, Log},
    replay::Replay,
    vfs::Registration,
};

/// A disk of a test, registered with SQLite under a name of its own. Its log is gone when it is dropped; stores on it
/// should be closed by then.
pub struct Disk {
    name: String,
    state: Arc<Mutex<State>>,
    _registration: Registration,
}

/// What goes wrong, once, at the first fitting write point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A write or a truncation fails with an I/O error; whole sectors of its first half may have landed.
    FailWrite,
    /// A sync fails. What it should have made durable is taken for written from then on.
    FailSync,
    /// Writes fail for lack of space, until [`Disk::heal`].
    Full,
}

/// Which file it happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Whichever comes first.
    Any,
    /// SQLite's write-ahead log.
    Wal,
    /// A store's own journal: a file with `-log` in its name.
    Journal,
    /// Anything else.
    Main,
}

/// All that the VFS and the test share.
#[derive(Default)]
pub(super) struct State {
    pub(super) log: Log,
    plans: Vec<Plan>,
    full: bool,
    /// Writes of [`DiskFiles`] wait.
    pub(super) held: bool,
    points: usize,
    marks: usize,
    struck: usize,
}

struct Plan {
    trouble: Trouble,
    on: On,
    from: usize,
}

/// What is to become of a call at a write point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Go,
    Fail,
    Full,
}

/// The kinds of write points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Write,
    Truncate,
    Sync,
    Delete,
}

impl Disk {
    /// A healthy disk.
    ///
    /// # Panics
    /// If SQLite has no VFS to put it on.
    pub fn new() -> Disk {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("mainstay-faults-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let state = Arc::<Mutex<State>>::default();
        let registration = Registration::new(&name, state.clone());
        Disk { name, state, _registration: registration }
    }

    /// The name of the VFS.
    pub fn vfs(&self) -> &str {
        &self.name
    }

    /// Files on it that do not go through SQLite.
    pub fn files(&self) -> DiskFiles {
        DiskFiles(self.state.clone())
    }

    /// Lets writes of [`Disk::files`] wait, or go on. (SQLite's go on.)
    pub fn hold(&self, held: bool) {
        self.lock().held = held;
    }

    /// How many write points there have been.
    pub fn points(&self) -> usize {
        self.lock().points
    }

    /// Lets `trouble` happen to a file of the kind `on`, at the write point that has `after` before it from now on,
    /// or the first fitting one behind that.
    pub fn plan(&self, trouble: Trouble, on: On, after: usize) {
        let mut state = self.lock();
        let from = state.points + after;
        state.plans.push(Plan { trouble, on, from });
    }

    /// There is space again, and no plan any more.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.full = false;
        state.plans.clear();
    }

    /// How many plans have come to pass.
    pub fn struck(&self) -> usize {
        self.lock().struck
    }

    /// Puts a mark into the log, behind everything that has happened. Answers its number, from 0.
    pub fn mark(&self) -> usize {
        let mut state = self.lock();
        state.log.push(Event::Mark);
        state.marks += 1;
        state.marks - 1
    }

    /// Everything from the beginning until now, once more.
    pub fn replay(&self) -> Replay {
        Replay::new(self.lock().log.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Default for Disk {
    fn default() -> Disk {
        Disk::new()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What is registered with SQLite stays for good, so that no connection can outlive it; its content need not.
        *self.lock() = State::default();
    }
}

impl State {
    /// Counts a write point and says what becomes of it.
    pub(super) fn verdict(&mut self, call: Call, file: &str) -> Verdict {
        let point = self.points;
        self.points += 1;
        let fits = |plan: &Plan| {
            let call_fits = match plan.trouble {
                Trouble::FailWrite => matches!(call, Call::Write | Call::Truncate),
                Trouble::FailSync => call == Call::Sync,
                Trouble::Full => call == Call::Write,
            };
            let (is_wal, is_journal) = (file.ends_with("-wal"), file.contains("-log"));
            let file_fits = match plan.on {
                On::Any => true,
                On::Wal => is_wal,
                On::Journal => is_journal,
                On::Main => !is_wal && !is_journal,
            };
            plan.from <= point && call_fits && file_fits
        };
        if let Some(i) = self.plans.iter().position(fits) {
            self.struck += 1;
            match self.plans.swap_remove(i).trouble {
                Trouble::FailWrite | Trouble::FailSync => return Verdict::Fail,
                Trouble::Full => self.full = true,
            }
        }
        if self.full && call == Call::Write { Verdict::Full } else { Verdict::Go }
    }
}

pub(super) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A test that panicked elsewhere has said so already.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Between the writer and the tables: groups that are in the journal and not yet in the tables. Bounded in bytes, and so
//! is the journal, apart.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use mainstay_core::{Error, engine::change::Counters};

use super::sync::{
    Condvar, Mutex, MutexGuard, Stopwatch,
    atomic::{AtomicBool, AtomicU64, Ordering},
    watch,
};
pub use crate::batch::Handed;
use crate::{
    batch::Batch,
    places::{Place, Places},
};

/// The tables follow after this long if nobody asks for them earlier: a job that comes and goes meanwhile costs them
/// nothing but its history, and not that if retention forgets it meanwhile.
pub const LAG: Duration = Duration::from_secs(1);
/// The batch gathers what waits when that is this part of the bound: what came and went leaves memory early.
const GATHER_PART: usize = 16;
/// When the tables could not be written, they are tried again after this long.
const TRY_AGAIN: Duration = Duration::from_millis(250);

/// How far the tables are.
#[derive(Clone, Default)]
pub struct Reached {
    /// The last group in the tables.
    pub lsn: u64,
    /// The tables cannot follow at the moment; this is why, and what they lack.
    pub stuck: Option<Stuck>,
    /// Nobody will bring them any further.
    pub over: bool,
}

/// Tables that cannot be written.
#[derive(Clone)]
pub struct Stuck {
    pub error: Error,
    /// Everything up to this group...
    pub lsn: u64,
    /// ... that the tables lack.
    pub overlay: Arc<Batch>,
}

pub struct Behind {
    state: Mutex<State>,
    /// For the tables' thread.
    wake: Condvar,
    /// For whoever waits for the tables.
    moved: Condvar,
    reached: watch::Sender<Reached>,
    limit: usize,
    /// Somebody waits for the tables to have this group; the writer waits for room, or is about to.
    wanted: AtomicU64,
    is_short: AtomicBool,
    /// The last group that was handed over: what a read that begins now must see.
    handed: AtomicU64,
    /// The last group in the tables, and the last body number given by then.
    lsn: AtomicU64,
    n: AtomicU64,
    /// The last event in the tables.
    seq: AtomicU64,
    /// The last group that is durable in the tables: the journal up to it is not needed any more.
    floor: AtomicU64,
}

struct State {
    groups: Vec<Handed>,
    /// Of those.
    queued: usize,
    /// Of those that were taken and are not in the tables, less what they no longer hold of them.
    held: usize,
    places: Places,
    growth: u64,
    /// Somebody waits for this group.
    wanted: u64,
    since: Option<Stopwatch>,
    stuck: Option<Stuck>,
    /// How often the tables could not be written, when last, and whether somebody wants them tried again now.
    failures: u64,
    failed: Option<Stopwatch>,
    again: bool,
    /// The writer has ended; the counters it ended with.
    closing: Option<Counters>,
    over: bool,
}

impl State {
    fn new(places: Places) -> State {
        State {
            groups: Vec::new(),
            queued: 0,
            held: 0,
            places,
            growth: 0,
            wanted: 0,
            since: None,
            stuck: None,
            failures: 0,
            failed: None,
            again: false,
            closing: None,
            over: false,
        }
    }

    /// Of all that was handed over and is not in the tables.
    fn bytes(&self) -> usize {
        self.queued + self.held
    }

    fn gather(&mut self) -> Vec<Handed> {
        self.held += std::mem::take(&mut self.queued);
        std::mem::take(&mut self.groups)
    }

    fn take(&mut self) -> Vec<Handed> {
        self.since = None;
        self.places.take();
        if self.wanted == u64::MAX {
            self.wanted = 0;
        }
        self.gather()
    }
}

/// What the tables' thread is to do.
pub enum Task {
    /// Add to the batch, which can wait.
    Gather(Vec<Handed>),
    /// Add to the batch, and write it.
    Apply(Vec<Handed>),
    /// The writer has ended in good order, and everything was applied.
    Finish(Counters),
    /// The store has ended badly.
    Stop,
}

/// Why the writer cannot hand over.
pub enum NoRoom {
    /// The tables cannot follow.
    Stuck(Error),
    /// The store has ended.
    Over,
}

/// The store has ended, and the tables have not followed.
#[derive(Debug)]
pub struct Over;

impl Behind {
    /// The tables may lack `limit` bytes, and the journal may hold `journal` that they need not have durably.
    pub fn new(limit: usize, journal: u64, (lsn, n, seq): (u64, u64, u64)) -> Behind {
        Behind {
            state: Mutex::new(State::new(Places::new(lsn, journal))),
            wake: Condvar::new(),
            moved: Condvar::new(),
            reached: watch::Sender::new(Reached { lsn, ..Reached::default() }),
            // A bound of nothing would never let anything in.
            limit: limit.max(1),
            wanted: AtomicU64::new(0),
            is_short: AtomicBool::new(false),
            handed: AtomicU64::new(lsn),
            lsn: AtomicU64::new(lsn),
            n: AtomicU64::new(n),
            seq: AtomicU64::new(seq),
            floor: AtomicU64::new(lsn),
        }
    }

    // The writer's side.

    /// Waits until there is room for another group. Tables that could not be written are tried once more, unless that
    /// was a moment ago: then every caller would have the disk filled anew, and wait for it.
    pub fn room(&self) -> Result<(), NoRoom> {
        let mut state = self.lock();
        let mut failures = None;
        while self.has_no_room(&state) {
            self.is_short.store(true, Ordering::Release);
            if state.over {
                return Err(NoRoom::Over);
            }
            if let Some(Stuck { error, .. }) = &state.stuck {
                let just_now = state.failed.is_some_and(|failed| failed.elapsed() < TRY_AGAIN);
                if just_now || *failures.get_or_insert(state.failures) < state.failures {
                    return Err(NoRoom::Stuck(error.clone()));
                }
                state.again = true;
            }
            state.wanted = u64::MAX;
            self.wake.notify_one();
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    fn look_for_room(&self, state: &State) {
        let is_short = state.bytes() >= self.limit / 4 * 3 || state.places.are_nearly_full();
        self.is_short.store(is_short, Ordering::Release);
    }

    fn has_no_room(&self, state: &State) -> bool {
        state.bytes() >= self.limit || state.places.are_full()
    }

    /// Hands a group over, with the bytes of its record. From now on, a read waits for it.
    pub fn hand_over(&self, group: Handed, record: usize) {
        let mut state = self.lock();
        self.handed.store(group.lsn, Ordering::Release);
        let before = state.queued;
        state.queued += group.bytes;
        state.places.hand_over(group.lsn, record as u64);
        self.look_for_room(&state);
        state.growth += group.growth;
        state.groups.push(group);
        let first = state.since.is_none();
        if first {
            state.since = Some(Stopwatch::start());
        }
        let enough = self.limit / GATHER_PART;
        let wake = first || (before < enough && state.queued >= enough);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    // The readers' side.

    /// What a read that begins now must see.
    pub fn handed(&self) -> u64 {
        self.handed.load(Ordering::Acquire)
    }

    /// The last group in the tables.
    pub fn lsn(&self) -> u64 {
        self.lsn.load(Ordering::Acquire)
    }

    /// Bodies up to this number are in the tables, or gone.
    pub fn n(&self) -> u64 {
        self.n.load(Ordering::Acquire)
    }

    /// Events up to this number are in the tables, or gone.
    pub fn seq(&self) -> u64 {
        self.seq.load(Ordering::Acquire)
    }

    /// Has the tables follow at once, up to this group.
    pub fn want(&self, lsn: u64) {
        self.wanted.fetch_max(lsn, Ordering::AcqRel);
        let mut state = self.lock();
        if state.wanted < lsn {
            state.wanted = lsn;
            drop(state);
            self.wake.notify_one();
        }
    }

    pub fn watch(&self) -> watch::Receiver<Reached> {
        self.reached.subscribe()
    }

    /// Waits until the tables have a group, on a thread of its own. `false`: they cannot have it now.
    pub fn wait_for(&self, lsn: u64) -> bool {
        if self.lsn() >= lsn {
            return true;
        }
        self.want(lsn);
        let lacks = |state: &mut State| self.lsn() < lsn && state.stuck.is_none() && !state.over;
        drop(self.moved.wait_while(self.lock(), lacks).unwrap_or_else(PoisonError::into_inner));
        self.lsn() >= lsn
    }

    /// Waits until the tables have a group, on a thread of its own. If they cannot be written now, answers what they
    /// lack up to it.
    pub fn wait_for_or_lack(&self, lsn: u64) -> Result<Option<Stuck>, Over> {
        self.want(lsn);
        let mut state = self.lock();
        loop {
            if self.lsn() >= lsn {
                return Ok(None);
            }
            if state.over {
                return Err(Over);
            }
            match &state.stuck {
                Some(stuck) if stuck.lsn >= lsn => return Ok(Some(stuck.clone())),
                // What it lacks is older: it is tried again with all there is.
                Some(_) => {
                    state.again = true;
                    self.wake.notify_one();
                }
                None => {}
            }
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    // The tables' side.

    /// Waits until there is enough to apply, or somebody waits for it.
    pub fn next(&self) -> Task {
        let mut state = self.lock();
        loop {
            if state.over {
                return Task::Stop;
            }
            let asked = state.wanted > self.lsn()
                || state.closing.is_some()
                || state.bytes() >= self.limit / 2
                || state.places.are_due();
            if state.since.is_none() {
                if let Some(counters) = state.closing {
                    return Task::Finish(counters);
                }
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let waited = state.since.map_or(Duration::ZERO, |since| since.elapsed());
            if asked || waited >= LAG {
                return Task::Apply(state.take());
            }
            if state.queued >= self.limit / GATHER_PART {
                return Task::Gather(state.gather());
            }
            state = self.wake.wait_timeout(state, LAG - waited).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Somebody waits for the tables: nothing goes before them.
    pub fn is_waited_for(&self) -> bool {
        self.is_short.load(Ordering::Acquire) || self.wanted.load(Ordering::Acquire) > self.lsn()
    }

    /// What was taken, and is not in the tables, counts for this much by now.
    pub fn holds(&self, bytes: usize) {
        let mut state = self.lock();
        state.held = bytes;
        self.look_for_room(&state);
        drop(state);
        self.moved.notify_all();
    }

    /// The tables have this; answers its bytes of the journal.
    pub fn applied(&self, batch: &Batch) -> u64 {
        let (lsn, n) = (batch.lsn, batch.counters.n);
        let mut state = self.lock();
        state.held = state.held.saturating_sub(batch.bytes);
        let journal = state.places.applied();
        self.look_for_room(&state);
        state.growth -= batch.growth;
        state.stuck = None;
        self.lsn.store(lsn, Ordering::Release);
        self.n.store(n, Ordering::Release);
        if let Some(seq) = batch.events.last_seq {
            self.seq.store(seq, Ordering::Release);
        }
        drop(state);
        self.moved.notify_all();
        self.reached.send_modify(|reached| (reached.lsn, reached.stuck) = (lsn, None));
        journal
    }

    /// Whether the batch that was taken is to be synced by itself: the journal is long.
    pub fn wants_sync(&self) -> bool {
        self.lock().places.want_sync()
    }

    /// The tables could not be written; answers what came meanwhile, after a rest.
    pub fn stuck(&self, stuck: Stuck) -> Option<Vec<Handed>> {
        self.failed(stuck);
        let rests = |state: &mut State| state.closing.is_none() && !state.over && !state.again;
        let rested = self.wake.wait_timeout_while(self.lock(), TRY_AGAIN, rests);
        let mut state = rested.unwrap_or_else(PoisonError::into_inner).0;
        (!state.over).then(|| state.take())
    }

    pub fn failed(&self, stuck: Stuck) {
        let mut state = self.lock();
        state.stuck = Some(stuck.clone());
        state.failures += 1;
        state.failed = Some(Stopwatch::start());
        state.again = false;
        drop(state);
        self.reached.send_modify(|reached| reached.stuck = Some(stuck));
        self.moved.notify_all();
    }

    /// Whether the writer has ended: what cannot be written now never will be.
    pub fn is_closing(&self) -> bool {
        self.lock().closing.is_some()
    }

    // The journal's side.

    /// How far the tables are.
    pub fn in_tables(&self) -> Place {
        self.lock().places.in_tables()
    }

    /// This is durable in the tables.
    pub fn set_floor(&self, place: Place) {
        let mut state = self.lock();
        state.places.set_floor(place);
        self.look_for_room(&state);
        self.floor.fetch_max(place.lsn, Ordering::AcqRel);
        drop(state);
        self.moved.notify_all();
    }

    pub fn floor(&self) -> u64 {
        self.floor.load(Ordering::Acquire)
    }

    // The end.

    /// Nothing more will be handed over; the tables get all there is.
    pub fn close(&self, counters: Counters) {
        self.lock().closing = Some(counters);
        self.wake.notify_all();
    }

    /// The store has ended badly: the tables stay as they are.
    pub fn abandon(&self) {
        self.lock().over = true;
        self.wake.notify_all();
        self.moved.notify_all();
        self.reached.send_modify(|reached| reached.over = true);
    }

    /// Bytes that are in the journal and not in the tables.
    pub fn journal_bytes(&self) -> u64 {
        self.lock().places.behind()
    }

    /// What the tables lack counts for this much.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.lock().bytes()
    }

    /// How much larger the file becomes at most when the tables have followed, roughly.
    pub fn growth(&self) -> u64 {
        self.lock().growth
    }

    /// Whether the writer would have to wait.
    #[cfg(test)]
    pub fn is_full(&self) -> bool {
        self.has_no_room(&self.lock())
    }

    /// Takes what waits, as the tables' thread does; answers how many groups.
    #[cfg(test)]
    pub fn gather(&self) -> usize {
        self.lock().gather().len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

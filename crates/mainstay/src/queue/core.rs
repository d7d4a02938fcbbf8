//! What a queue holds and who waits for it. Knows neither time nor metrics, nor the runtime.
//!
//! Two locks, always in this order: the [`Front`] is where entries leave, the [`State`] is all else, and where they come
//! in. Whoever puts an entry in needs the state alone, whoever takes one the front alone, as long as nothing else comes
//! of it; all others hold both ([`Whole`]).

use std::task::Context;

use super::front::Front;
use super::lanes::Entry;
use super::line::{Key, Wakes};
use super::room::{Put, Reserve};
use super::state::{Denied, Load, Refusal, State, Turn, fits};
use super::sync::{AtomicUsize, Mutex, MutexGuard, Ordering, lock};
use super::wait::{Looks, Wait};
use super::whole::Whole;

/// An entry for which the state knew no room, and the state, still locked.
pub(super) struct Missed<'a, T, I> {
    state: MutexGuard<'a, State<T, I>>,
    entry: Entry<T, I>,
}

impl<T, I> Missed<'_, T, I> {
    pub fn weight(&self) -> u64 {
        self.entry.weight
    }
}

/// There is nothing to take now.
pub(super) struct Nothing;

/// What a queue looks like from outside.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct View {
    pub depth: usize,
    pub weight: u64,
    pub waiting: usize,
    /// Handed out, and not reported done.
    pub busy: usize,
    pub taken: u64,
    pub expired: u64,
    pub closed: bool,
}

/// Of items of `T`; `I` is a point in time.
pub(super) struct Core<T, I> {
    front: Apart<Mutex<Front<T, I>>>,
    given: Apart<Given>,
    state: Apart<Mutex<State<T, I>>>,
    /// Entries may have a weight: then what was given out is known to those alone who hold both locks.
    detailed: bool,
}

/// How many were ever taken, for senders to see without the front's lock. Written by whoever has locked that, before the
/// state is told.
pub(super) struct Given(AtomicUsize);

impl Given {
    #[inline]
    pub fn tell(&self, given: Load) {
        self.0.store(given.items, Ordering::Release);
    }

    fn look(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

/// In cache lines of its own.
#[repr(align(128))]
struct Apart<M>(M);

impl<T, I: Copy> Core<T, I> {
    /// For one sender and one receiver. Only in a `detailed` queue may entries have a weight or an end.
    pub fn new(limit: Load, detailed: bool) -> Self {
        let state = State::new(limit, detailed);
        let (front, state) = (Apart(Mutex::new(Front::new())), Apart(Mutex::new(state)));
        Self { front, given: Apart(Given(AtomicUsize::new(0))), state, detailed }
    }

    /// Puts an entry in if there is room and nobody has been waiting for it. `now` is called for a sample of the
    /// entries.
    #[inline]
    pub fn offer(&self, lane: u8, entry: Entry<T, I>, now: impl Fn() -> I) -> Result<(), Refusal<T, I>> {
        match self.enter(lane, entry, &now) {
            Ok(()) => Ok(()),
            Err(missed) => self.offer_again(missed, lane, now, |_| {}),
        }
    }

    /// The same, by whoever has just found no room; `full` is called if there is none, before anybody else can take
    /// some.
    #[inline(never)]
    pub fn offer_again(
        &self,
        missed: Missed<'_, T, I>,
        lane: u8,
        now: impl FnOnce() -> I,
        full: impl FnOnce(&mut State<T, I>),
    ) -> Result<(), Refusal<T, I>> {
        let mut wakes = Wakes::default();
        let Missed { mut state, entry } = missed;
        if self.detailed || state.is_news(lane) {
            drop(state);
            let mut whole = self.whole(&mut wakes);
            return whole.state.offer(lane, entry, now, full, &mut wakes);
        }
        state.catch_up(self.given.0.look(), &mut wakes);
        state.offer(lane, entry, now, full, &mut wakes)
    }

    /// Puts an entry in if the state knows of room, and nothing has to be told to the front.
    #[inline]
    pub fn enter(
        &self,
        lane: u8,
        entry: Entry<T, I>,
        now: impl FnOnce() -> I,
    ) -> Result<(), Missed<'_, T, I>> {
        let mut state = self.state();
        let load = Load::one(entry.weight);
        if state.is_news(lane) || state.admits(load).is_err() {
            return Err(Missed { state, entry });
        }
        state.used = state.used.plus(load);
        let waker = state.insert(lane, entry, now);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Puts an entry in, at the cost of older ones that are no more urgent; answers those, or the entry itself if they
    /// would not make enough room.
    pub fn force(
        &self,
        lane: u8,
        entry: Entry<T, I>,
        now: impl Fn() -> I,
    ) -> Result<Vec<Entry<T, I>>, Refusal<T, I>> {
        let entry = match self.offer(lane, entry, &now) {
            Ok(()) => return Ok(Vec::new()),
            Err((Denied::Full, entry)) => entry,
            Err(refusal) => return Err(refusal),
        };
        let mut wakes = Wakes::default();
        let mut whole = self.whole(&mut wakes);
        let load = Load::one(entry.weight);
        if let Err(denied @ (Denied::Closed | Denied::TooHeavy)) = whole.state.admits(load) {
            return Err((denied, entry));
        }
        let kept = whole.state.used.minus(whole.evictable(lane));
        if !fits(kept, load, whole.state.limit) {
            return Ok(vec![entry]);
        }
        let mut evicted = Vec::new();
        while !fits(whole.state.used, load, whole.state.limit) {
            let Some(oldest) = whole.evict(lane) else { break };
            whole.state.used = whole.state.used.minus(Load::one(oldest.weight));
            evicted.push(oldest);
        }
        whole.state.enter(lane, entry, now, &mut wakes);
        // What was heavy has made room for more than what came.
        whole.state.grant(&mut wakes);
        Ok(evicted)
    }

    /// Room for one entry, to be used with [`fill`](Self::fill) or given back. Cancel safe.
    pub fn reserve(&self, weight: u64) -> Reserve<'_, T, I> {
        Reserve::new(self, weight)
    }

    /// Puts an entry in after all, or stands in line with it: that one is cancel safe, and dropped before it is done has
    /// put in nothing.
    pub fn put<'a>(
        &'a self,
        missed: Missed<'a, T, I>,
        lane: u8,
        now: impl FnOnce() -> I,
    ) -> Result<Option<Put<'a, T, I>>, Refusal<T, I>> {
        Put::begin(self, missed, lane, now)
    }

    /// The same as [`reserve`](Self::reserve) without waiting.
    pub fn try_reserve(&self, weight: u64) -> Result<(), Denied> {
        self.reserve_or(Load::one(weight), |_| {})
    }

    /// The same; `full` is called if there is none, before anybody else can make or take some.
    pub fn reserve_or(&self, load: Load, full: impl FnOnce(&mut State<T, I>)) -> Result<(), Denied> {
        let mut wakes = Wakes::default();
        let mut whole = self.whole(&mut wakes);
        let admitted = whole.state.admits(load);
        match admitted {
            Ok(()) => whole.state.take_room(load),
            Err(Denied::Full) => full(&mut whole.state),
            Err(_) => {}
        }
        admitted
    }

    /// Puts an entry into reserved room of at least its weight.
    pub fn fill(
        &self,
        reserved: u64,
        lane: u8,
        entry: Entry<T, I>,
        now: impl FnOnce() -> I,
    ) -> Result<(), Refusal<T, I>> {
        let mut wakes = Wakes::default();
        let state = self.state();
        self.fill_in(state, reserved, lane, entry, now, &mut wakes)
    }

    /// The same by whoever has locked the state.
    pub fn fill_in(
        &self,
        mut state: MutexGuard<'_, State<T, I>>,
        reserved: u64,
        lane: u8,
        entry: Entry<T, I>,
        now: impl FnOnce() -> I,
        wakes: &mut Wakes,
    ) -> Result<(), Refusal<T, I>> {
        let weight = entry.weight;
        if state.deaf || weight > reserved {
            let denied = if state.deaf { Denied::Closed } else { Denied::TooHeavy };
            drop(state);
            self.whole(wakes).release(Load::one(reserved), wakes);
            return Err((denied, entry));
        }
        if state.is_news(lane) {
            drop(state);
            let mut whole = self.whole(wakes);
            if whole.state.deaf {
                whole.release(Load::one(reserved), wakes);
                return Err((Denied::Closed, entry));
            }
            whole.state.fill(reserved, lane, entry, now, wakes);
        } else {
            state.fill(reserved, lane, entry, now, wakes);
        }
        Ok(())
    }

    pub fn give_back(&self, reserved: u64) {
        let mut wakes = Wakes::default();
        self.whole(&mut wakes).release(Load::one(reserved), &mut wakes);
    }

    /// A receiver's wait. Cancel safe: what it was called for, the next one gets.
    pub fn wait(&self, looks: Looks) -> Wait<'_, T, I> {
        Wait::for_items(self, looks)
    }

    /// Takes up to `max` live entries; `Some(0)` means that there will be none any more, `None` that there is none now.
    /// `held` is how many entries the receiver has in hand; asking for more says that those are done.
    pub fn take(
        &self,
        held: &mut usize,
        max: usize,
        live: impl Fn(&Entry<T, I>) -> bool,
        mut out: impl FnMut(Entry<T, I>),
        expired: &mut Vec<Entry<T, I>>,
    ) -> Option<usize> {
        match self.take_front(held, max, &live, &mut out, expired) {
            Ok(taken) => Some(taken),
            Err(front) => {
                let mut wakes = Wakes::default();
                let mut whole = self.whole_with(front, &mut wakes);
                whole.take(held, max, &live, &mut out, expired, &mut wakes)
            }
        }
    }

    /// Takes one entry, of whose end nobody asks; `Ok(None)` means that there will be none any more, an error that there
    /// is none now.
    #[inline]
    pub fn pop(&self, held: &mut usize) -> Result<Option<Entry<T, I>>, Nothing> {
        let mut front = self.front();
        if let Some(entry) = front.pop(held) {
            self.given.0.tell(front.given);
            return Ok(Some(entry));
        }
        self.pop_whole(front, held)
    }

    #[inline(never)]
    fn pop_whole(
        &self,
        front: MutexGuard<'_, Front<T, I>>,
        held: &mut usize,
    ) -> Result<Option<Entry<T, I>>, Nothing> {
        let mut wakes = Wakes::default();
        let (mut whole, mut got) = (self.whole_with(front, &mut wakes), None);
        let taken =
            whole.take(held, 1, &|_| true, &mut |entry| got = Some(entry), &mut Vec::new(), &mut wakes);
        taken.map(|_| got).ok_or(Nothing)
    }

    /// Takes out of the front alone; if that will not do, answers the front, still locked.
    #[inline]
    pub fn take_front(
        &self,
        held: &mut usize,
        max: usize,
        live: &impl Fn(&Entry<T, I>) -> bool,
        out: &mut impl FnMut(Entry<T, I>),
        expired: &mut Vec<Entry<T, I>>,
    ) -> Result<usize, MutexGuard<'_, Front<T, I>>> {
        let mut front = self.front();
        if front.has(max) {
            let taken = front.take(held, max, live, out, expired, |front| front.lane.pop());
            self.given.0.tell(front.given);
            if taken > 0 || max == 0 {
                return Ok(taken);
            }
        }
        Err(front)
    }

    /// Nothing is reserved any more; what is inside can still be taken.
    pub fn close(&self) {
        let mut wakes = Wakes::default();
        self.whole(&mut wakes).close(&mut wakes);
    }

    /// Waits until nothing is inside and nothing is in hand; `true` at once if nobody is there to take anything.
    pub fn idle(&self) -> Wait<'_, T, I> {
        Wait::for_idleness(self)
    }

    /// Takes out what is left, in the order in which it would have been taken.
    pub fn sweep(&self) -> Vec<T> {
        let mut wakes = Wakes::default();
        // However much it is, the locks are held for a moment only.
        let left = self.whole(&mut wakes).sweep(&mut wakes);
        left.map(|entry| entry.item).collect()
    }

    pub fn view(&self) -> View {
        let mut wakes = Wakes::default();
        let whole = self.whole(&mut wakes);
        let (front, state) = (&whole.front, &whole.state);
        View {
            depth: front.lane.len() + state.lanes.len(),
            weight: state.used.weight,
            waiting: state.waiting,
            busy: front.busy,
            taken: front.taken,
            expired: front.expired,
            closed: state.closed,
        }
    }

    pub fn add_sender(&self) {
        self.state().senders += 1;
    }

    pub fn add_receiver(&self) {
        self.state().receivers += 1;
    }

    /// The last one closes.
    pub fn remove_sender(&self) {
        let mut wakes = Wakes::default();
        let mut whole = self.whole(&mut wakes);
        whole.state.senders -= 1;
        if whole.state.senders == 0 {
            whole.close(&mut wakes);
        }
    }

    /// The last one closes, and what is inside stays there.
    pub fn remove_receiver(&self, held: usize) {
        let mut wakes = Wakes::default();
        let mut whole = self.whole(&mut wakes);
        whole.front.busy -= held;
        whole.state.receivers -= 1;
        if whole.state.receivers == 0 {
            whole.state.deaf = true;
            whole.close(&mut wakes);
        } else {
            whole.settle(&mut wakes);
        }
    }

    #[inline]
    pub fn front(&self) -> MutexGuard<'_, Front<T, I>> {
        lock(&self.front.0)
    }

    /// Who holds it must not ask for the front.
    #[inline]
    pub fn state(&self) -> MutexGuard<'_, State<T, I>> {
        lock(&self.state.0)
    }

    pub fn whole(&self, wakes: &mut Wakes) -> Whole<'_, T, I> {
        self.whole_with(self.front(), wakes)
    }

    /// The same by whoever has locked the front.
    pub fn whole_with<'a>(
        &'a self,
        front: MutexGuard<'a, Front<T, I>>,
        wakes: &mut Wakes,
    ) -> Whole<'a, T, I> {
        Whole::new(front, &self.given.0, self.state(), wakes)
    }

    /// Whether this waiter for room was called; else it will be woken when it is. For whoever has looked twice.
    pub fn rest<'a>(&'a self, key: Key, wakes: &mut Wakes, cx: &Context<'_>) -> Turn<'a, T, I> {
        let mut state = self.state();
        if state.room.called(key).is_none() && !self.detailed {
            state.catch_up(self.given.0.look(), wakes);
        }
        if state.room.called(key).is_some() {
            return state;
        }
        drop(state);
        let mut whole = self.whole(wakes);
        wakes.discard(whole.state.room.rest(key, cx.waker()));
        drop(whole);
        self.state()
    }
}

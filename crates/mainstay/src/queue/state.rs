//! What a queue holds and who waits for it, under one lock. Knows neither time nor metrics, nor the runtime.

use std::future::Future;
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll};

use super::lanes::{Entry, Lanes};
use super::line::{Key, Line, Wakes};
use super::sync::{Mutex, MutexGuard};

/// Room: places, and what they weigh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub items: usize,
    pub weight: u64,
}

impl Load {
    pub fn one(weight: u64) -> Self {
        Self { items: 1, weight }
    }
}

/// Why there was no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    Full,
    Closed,
    /// Heavier than the whole queue.
    TooHeavy,
}

/// An entry that was not taken, and why.
pub(super) type Refusal<T, I> = (Denied, Entry<T, I>);

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

/// Entries a receiver may throw away in one go before others get their turn.
const EXPIRED_AT_ONCE: usize = 128;

/// Of items of `T`; `I` is a point in time.
pub(super) struct Core<T, I> {
    state: Mutex<State<T, I>>,
}

struct State<T, I> {
    lanes: Lanes<T, I>,
    limit: Load,
    /// What is in the lanes and what is reserved.
    used: Load,
    reserved: usize,
    /// No new reservations.
    closed: bool,
    /// No receivers: nothing is taken any more.
    deaf: bool,
    senders: usize,
    receivers: usize,
    busy: usize,
    sent: u64,
    taken: u64,
    expired: u64,
    waiting: usize,
    room: Line<Load>,
    items: Line<()>,
    idle: Line<()>,
}

impl<T, I: Copy> Core<T, I> {
    /// For one sender and one receiver. Only in a `detailed` queue may entries have a weight or an end.
    pub fn new(limit: Load, detailed: bool) -> Self {
        Self {
            state: Mutex::new(State {
                lanes: Lanes::new(detailed),
                limit,
                used: Load::default(),
                reserved: 0,
                closed: false,
                deaf: false,
                senders: 1,
                receivers: 1,
                busy: 0,
                sent: 0,
                taken: 0,
                expired: 0,
                waiting: 0,
                room: Line::new(),
                items: Line::new(),
                idle: Line::new(),
            }),
        }
    }

    /// Puts an entry in if there is room and nobody has been waiting for it. `now` is called for a sample of the
    /// entries.
    pub fn offer(&self, lane: u8, entry: Entry<T, I>, now: impl FnOnce() -> I) -> Result<(), Refusal<T, I>> {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        if let Err(denied) = state.admits(Load::one(entry.weight)) {
            return Err((denied, entry));
        }
        state.used.items += 1;
        state.used.weight += entry.weight;
        state.insert(lane, entry, now, &mut wakes);
        Ok(())
    }

    /// Puts an entry in, at the cost of older ones that are no more urgent; answers those, or the entry itself if they
    /// would not make enough room.
    pub fn force(
        &self,
        lane: u8,
        entry: Entry<T, I>,
        now: impl FnOnce() -> I,
    ) -> Result<Vec<Entry<T, I>>, Refusal<T, I>> {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        let load = Load::one(entry.weight);
        if let Err(denied @ (Denied::Closed | Denied::TooHeavy)) = state.admits(load) {
            return Err((denied, entry));
        }
        let evictable = state.lanes.evictable(lane);
        let kept =
            Load { items: state.used.items - evictable.items, weight: state.used.weight - evictable.weight };
        if !fits(kept, load, state.limit) {
            return Ok(vec![entry]);
        }
        let mut evicted = Vec::new();
        while !fits(state.used, load, state.limit) {
            let Some(oldest) = state.lanes.evict(lane) else { break };
            state.used.items -= 1;
            state.used.weight -= oldest.weight;
            evicted.push(oldest);
        }
        state.used.items += 1;
        state.used.weight += entry.weight;
        state.insert(lane, entry, now, &mut wakes);
        // What was heavy has made room for more than what came.
        state.grant(&mut wakes);
        Ok(evicted)
    }

    /// Room for one entry, to be used with [`fill`](Self::fill) or given back. Cancel safe.
    pub fn reserve(&self, weight: u64) -> Reserve<'_, T, I> {
        Reserve { core: self, load: Load::one(weight), ticket: None }
    }

    /// The same without waiting.
    pub fn try_reserve(&self, weight: u64) -> Result<(), Denied> {
        let mut state = self.lock();
        let load = Load::one(weight);
        state.admits(load)?;
        state.take_room(load);
        Ok(())
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
        let mut state = self.lock();
        let weight = entry.weight;
        if state.deaf || weight > reserved {
            let denied = if state.deaf { Denied::Closed } else { Denied::TooHeavy };
            state.release(Load::one(reserved), &mut wakes);
            return Err((denied, entry));
        }
        state.reserved -= 1;
        state.used.weight -= reserved - weight;
        state.insert(lane, entry, now, &mut wakes);
        if weight < reserved {
            state.grant(&mut wakes);
        }
        Ok(())
    }

    pub fn give_back(&self, reserved: u64) {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        state.release(Load::one(reserved), &mut wakes);
    }

    /// A receiver's wait. Cancel safe: what it was called for, the next one gets.
    pub fn wait(&self) -> Wait<'_, T, I> {
        Wait { core: self, ticket: None, line: |state| &mut state.items }
    }

    /// Takes up to `max` live entries; `Some(0)` means that there will be none any more, `None` that there is none now.
    /// `held` is how many entries the receiver has in hand; asking for more says that those are done.
    pub fn take(
        &self,
        held: &mut usize,
        max: usize,
        live: impl Fn(&Entry<T, I>) -> bool,
        out: impl FnMut(Entry<T, I>),
        expired: &mut Vec<Entry<T, I>>,
    ) -> Option<usize> {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        state.take(held, max, live, out, expired, &mut wakes)
    }

    /// Nothing is reserved any more; what is inside can still be taken.
    pub fn close(&self) {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        state.close(&mut wakes);
    }

    /// Waits until nothing is inside and nothing is in hand; `true` at once if nobody is there to take anything.
    pub fn idle(&self) -> Wait<'_, T, I> {
        Wait { core: self, ticket: None, line: |state| &mut state.idle }
    }

    /// Takes out what is left.
    pub fn sweep(&self) -> Vec<T> {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        // However much it is, the lock is held for a moment only.
        let mut left = state.lanes.take_all();
        state.used.items -= left.len();
        state.used.weight -= left.weight();
        state.grant(&mut wakes);
        state.settle(&mut wakes);
        drop(state);
        let mut items = Vec::with_capacity(left.len());
        items.extend(std::iter::from_fn(|| left.pop()).map(|entry| entry.item));
        items
    }

    pub fn view(&self) -> View {
        let state = self.lock();
        View {
            depth: state.lanes.len(),
            weight: state.used.weight,
            waiting: state.waiting,
            busy: state.busy,
            taken: state.taken,
            expired: state.expired,
            closed: state.closed,
        }
    }

    pub fn add_sender(&self) {
        self.lock().senders += 1;
    }

    pub fn add_receiver(&self) {
        self.lock().receivers += 1;
    }

    /// The last one closes.
    pub fn remove_sender(&self) {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        state.senders -= 1;
        if state.senders == 0 {
            state.close(&mut wakes);
        }
    }

    /// The last one closes, and what is inside stays there.
    pub fn remove_receiver(&self, held: usize) {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        state.busy -= held;
        state.receivers -= 1;
        if state.receivers == 0 {
            state.deaf = true;
            state.close(&mut wakes);
        } else {
            state.settle(&mut wakes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T, I>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[inline]
fn fits(used: Load, more: Load, limit: Load) -> bool {
    used.items + more.items <= limit.items
        && used.weight.checked_add(more.weight).is_some_and(|weight| weight <= limit.weight)
}

impl<T, I: Copy> State<T, I> {
    fn admits(&self, load: Load) -> Result<(), Denied> {
        if self.closed {
            Err(Denied::Closed)
        } else if load.weight > self.limit.weight {
            Err(Denied::TooHeavy)
        } else if !self.room.is_empty() || !fits(self.used, load, self.limit) {
            // Who waits is before who comes.
            Err(Denied::Full)
        } else {
            Ok(())
        }
    }

    fn take_room(&mut self, load: Load) {
        self.used.items += load.items;
        self.used.weight += load.weight;
        self.reserved += 1;
    }

    fn release(&mut self, load: Load, wakes: &mut Wakes) {
        self.reserved -= 1;
        self.used.items -= load.items;
        self.used.weight -= load.weight;
        self.grant(wakes);
        self.settle(wakes);
    }

    fn insert(&mut self, lane: u8, mut entry: Entry<T, I>, now: impl FnOnce() -> I, wakes: &mut Wakes) {
        // A clock read for each would cost as much as all the rest.
        if self.sent.is_multiple_of(16) {
            entry.since = Some(now());
        }
        self.sent += 1;
        self.lanes.push(lane, entry);
        wakes.add(self.items.call(true));
    }

    /// Gives free room to those who wait for it, in their order: a heavy one is not overtaken by light ones.
    fn grant(&mut self, wakes: &mut Wakes) {
        while let Some(load) = self.room.front() {
            if !fits(self.used, load, self.limit) {
                break;
            }
            self.take_room(load);
            wakes.add(self.room.call(true));
        }
    }

    fn take(
        &mut self,
        held: &mut usize,
        max: usize,
        live: impl Fn(&Entry<T, I>) -> bool,
        mut out: impl FnMut(Entry<T, I>),
        expired: &mut Vec<Entry<T, I>>,
        wakes: &mut Wakes,
    ) -> Option<usize> {
        self.busy -= std::mem::take(held);
        let (mut taken, mut thrown) = (0, 0);
        while taken < max && thrown < EXPIRED_AT_ONCE {
            let Some(entry) = self.lanes.pop() else { break };
            self.used.items -= 1;
            self.used.weight -= entry.weight;
            if live(&entry) {
                taken += 1;
                out(entry);
            } else {
                thrown += 1;
                expired.push(entry);
            }
        }
        self.taken += taken as u64;
        self.expired += thrown as u64;
        self.busy += taken;
        *held = taken;
        self.grant(wakes);
        self.settle(wakes);
        (taken > 0 || self.is_over()).then_some(taken)
    }

    fn close(&mut self, wakes: &mut Wakes) {
        self.closed = true;
        while !self.room.is_empty() {
            wakes.add(self.room.call(false));
        }
        self.settle(wakes);
    }

    /// Whether nothing will ever be taken again.
    fn is_over(&self) -> bool {
        self.closed && self.lanes.is_empty() && self.reserved == 0
    }

    fn is_idle(&self) -> bool {
        self.deaf || self.lanes.is_empty() && self.reserved == 0 && self.busy == 0
    }

    /// Tells those who wait for a state when it has come.
    fn settle(&mut self, wakes: &mut Wakes) {
        if self.is_over() {
            while !self.items.is_empty() {
                wakes.add(self.items.call(true));
            }
        }
        if !self.idle.is_empty() && self.is_idle() {
            while !self.idle.is_empty() {
                wakes.add(self.idle.call(true));
            }
        }
    }
}

/// Waits for room. Dropped before it is done, it gives back what it may have got.
pub(super) struct Reserve<'a, T, I: Copy> {
    core: &'a Core<T, I>,
    load: Load,
    ticket: Option<Key>,
}

impl<T, I: Copy> Future for Reserve<'_, T, I> {
    type Output = Result<(), Denied>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (core, load) = (self.core, self.load);
        let mut wakes = Wakes::default();
        let mut state = core.lock();
        let Some(key) = self.ticket else {
            return match state.admits(load) {
                Ok(()) => {
                    state.take_room(load);
                    Poll::Ready(Ok(()))
                }
                Err(Denied::Full) => {
                    let key = state.room.join(load, cx.waker().clone());
                    state.waiting += 1;
                    drop(state);
                    self.ticket = Some(key);
                    Poll::Pending
                }
                Err(denied) => Poll::Ready(Err(denied)),
            };
        };
        let Some(granted) = state.room.called(key) else {
            wakes.discard(state.room.refresh(key, cx.waker()));
            return Poll::Pending;
        };
        state.room.remove(key);
        state.waiting -= 1;
        drop(state);
        self.ticket = None;
        Poll::Ready(if granted { Ok(()) } else { Err(Denied::Closed) })
    }
}

impl<T, I: Copy> Drop for Reserve<'_, T, I> {
    fn drop(&mut self) {
        let Some(key) = self.ticket.take() else { return };
        let mut wakes = Wakes::default();
        let mut state = self.core.lock();
        state.waiting -= 1;
        let (called, waker) = state.room.remove(key);
        wakes.discard(waker);
        match called {
            Some(true) => state.release(self.load, &mut wakes),
            Some(false) => {}
            // It may have been a heavy one that the light ones behind it waited for.
            None => state.grant(&mut wakes),
        }
    }
}

/// Waits for entries, or for the queue to be idle.
pub(super) struct Wait<'a, T, I: Copy> {
    core: &'a Core<T, I>,
    ticket: Option<Key>,
    line: fn(&mut State<T, I>) -> &mut Line<()>,
}

impl<T, I: Copy> Wait<'_, T, I> {
    /// As [`Core::take`], and waits while there is none.
    pub fn poll_take(
        &mut self,
        held: &mut usize,
        max: usize,
        live: impl Fn(&Entry<T, I>) -> bool,
        out: impl FnMut(Entry<T, I>),
        expired: &mut Vec<Entry<T, I>>,
        cx: &mut Context<'_>,
    ) -> Poll<usize> {
        let core = self.core;
        let mut wakes = Wakes::default();
        let mut state = core.lock();
        let thrown = expired.len();
        let taken = state.take(held, max, live, out, expired, &mut wakes);
        if taken.is_none() && expired.len() > thrown {
            // Nothing but expired ones so far: others' turn.
            wakes.add(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        match taken {
            Some(taken) => {
                if let Some(key) = self.ticket.take() {
                    wakes.discard(state.items.remove(key).1);
                }
                Poll::Ready(taken)
            }
            None => {
                self.join(&mut state, &mut wakes, cx);
                Poll::Pending
            }
        }
    }

    /// Waits until the queue is idle.
    pub fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let core = self.core;
        let mut wakes = Wakes::default();
        let mut state = core.lock();
        if state.is_idle() {
            if let Some(key) = self.ticket.take() {
                wakes.discard(state.idle.remove(key).1);
            }
            return Poll::Ready(());
        }
        self.join(&mut state, &mut wakes, cx);
        Poll::Pending
    }

    /// Stands in line again, or still.
    fn join(&mut self, state: &mut State<T, I>, wakes: &mut Wakes, cx: &mut Context<'_>) {
        let line = (self.line)(state);
        match self.ticket {
            Some(key) if line.called(key).is_none() => wakes.discard(line.refresh(key, cx.waker())),
            called => {
                if let Some(key) = called {
                    line.remove(key);
                }
                self.ticket = Some(line.join((), cx.waker().clone()));
            }
        }
    }
}

impl<T, I: Copy> Drop for Wait<'_, T, I> {
    fn drop(&mut self) {
        let Some(key) = self.ticket.take() else { return };
        let mut wakes = Wakes::default();
        let mut state = self.core.lock();
        let (called, waker) = (self.line)(&mut state).remove(key);
        wakes.discard(waker);
        // It was called for an entry that it will not take: the next one is called instead.
        if called.is_some() && !state.lanes.is_empty() {
            wakes.add(state.items.call(true));
        }
    }
}

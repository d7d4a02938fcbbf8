//! What comes in at one end of a queue, who waits for it, and the room there is.

use std::task::Waker;

use super::lanes::{Entry, Lanes, place};
use super::line::{Line, Wakes};
use super::sync::MutexGuard;

/// Room: places, and what they weigh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub items: usize,
    pub weight: u64,
}

impl Load {
    #[inline]
    pub fn one(weight: u64) -> Self {
        Self { items: 1, weight }
    }

    #[inline]
    pub fn plus(self, more: Load) -> Self {
        Self { items: self.items + more.items, weight: self.weight + more.weight }
    }

    #[inline]
    pub fn minus(self, less: Load) -> Self {
        Self { items: self.items - less.items, weight: self.weight - less.weight }
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

/// The state, locked by whoever asks whether its turn has come.
pub(super) type Turn<'a, T, I> = MutexGuard<'a, State<T, I>>;

/// An entry that was not taken, and why.
pub(super) type Refusal<T, I> = (Denied, Entry<T, I>);

// In this order: what is written with every entry lies in one line of memory, beside the lock, and what is only looked at
// behind it.
#[repr(C)]
pub(super) struct State<T, I> {
    /// What is in the lanes, what is reserved, and what is in the front or was taken and is not accounted for.
    pub used: Load,
    pub sent: u64,
    pub lanes: Lanes<T, I>,
    pub limit: Load,
    /// What is more urgent than this has to be told to the front: 0 while nothing lies there.
    pub front_at: usize,
    /// No new reservations.
    pub closed: bool,
    /// No receivers: nothing is taken any more.
    pub deaf: bool,
    pub room: Line<Load>,
    pub items: Line<()>,
    /// So much of all that was ever taken is not in `used` any more.
    accounted: Load,
    pub reserved: usize,
    pub waiting: usize,
    pub senders: usize,
    pub receivers: usize,
    pub idle: Line<()>,
}

#[inline]
pub(super) fn fits(used: Load, more: Load, limit: Load) -> bool {
    used.items + more.items <= limit.items
        && used.weight.checked_add(more.weight).is_some_and(|weight| weight <= limit.weight)
}

impl<T, I: Copy> State<T, I> {
    /// For one sender and one receiver.
    pub fn new(limit: Load, detailed: bool) -> Self {
        Self {
            lanes: Lanes::new(detailed),
            limit,
            used: Load::default(),
            accounted: Load::default(),
            reserved: 0,
            closed: false,
            deaf: false,
            senders: 1,
            receivers: 1,
            sent: 0,
            waiting: 0,
            front_at: 0,
            room: Line::new(),
            items: Line::new(),
            idle: Line::new(),
        }
    }

    /// By what it knows: there may be more room.
    #[inline]
    pub fn admits(&self, load: Load) -> Result<(), Denied> {
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

    /// Whether an entry of this priority goes before what lies in the front.
    #[inline]
    pub fn is_news(&self, lane: u8) -> bool {
        place(lane) < self.front_at
    }

    /// What was taken is room again, for those first who wait for it; `given` is all that ever was.
    pub fn account(&mut self, given: Load, wakes: &mut Wakes) {
        self.used = self.used.minus(given.minus(self.accounted));
        self.accounted = given;
        self.grant(wakes);
    }

    /// The same where nothing has a weight.
    pub fn catch_up(&mut self, given: usize, wakes: &mut Wakes) {
        self.account(Load { items: given, ..self.accounted }, wakes);
    }

    /// Puts an entry in if there is room; else `full` is called.
    pub fn offer(
        &mut self,
        lane: u8,
        entry: Entry<T, I>,
        now: impl FnOnce() -> I,
        full: impl FnOnce(&mut Self),
        wakes: &mut Wakes,
    ) -> Result<(), Refusal<T, I>> {
        match self.admits(Load::one(entry.weight)) {
            Ok(()) => self.enter(lane, entry, now, wakes),
            Err(denied) => {
                if denied == Denied::Full {
                    full(self);
                }
                return Err((denied, entry));
            }
        }
        Ok(())
    }

    pub fn take_room(&mut self, load: Load) {
        self.used = self.used.plus(load);
        self.reserved += 1;
    }

    pub fn fill(
        &mut self,
        reserved: u64,
        lane: u8,
        entry: Entry<T, I>,
        now: impl FnOnce() -> I,
        wakes: &mut Wakes,
    ) {
        let weight = entry.weight;
        self.reserved -= 1;
        self.used.weight -= reserved - weight;
        wakes.add(self.insert(lane, entry, now));
        if weight < reserved {
            self.grant(wakes);
        }
    }

    /// Takes room for an entry, and puts it there.
    #[inline]
    pub fn enter(&mut self, lane: u8, entry: Entry<T, I>, now: impl FnOnce() -> I, wakes: &mut Wakes) {
        self.used = self.used.plus(Load::one(entry.weight));
        wakes.add(self.insert(lane, entry, now));
    }

    /// Answers whom to wake.
    #[inline]
    pub fn insert(&mut self, lane: u8, mut entry: Entry<T, I>, now: impl FnOnce() -> I) -> Option<Waker> {
        // A clock read for each would cost as much as all the rest.
        if self.sent.is_multiple_of(16) {
            entry.since = Some(now());
        }
        self.sent += 1;
        self.lanes.push(lane, entry);
        if self.items.is_empty() { None } else { self.items.call(true) }
    }

    /// Gives free room to those who wait for it, in their order: a heavy one is not overtaken by light ones.
    pub fn grant(&mut self, wakes: &mut Wakes) {
        while let Some(load) = self.room.front() {
            if !fits(self.used, load, self.limit) {
                break;
            }
            self.take_room(load);
            wakes.add(self.room.call(true));
        }
    }
}

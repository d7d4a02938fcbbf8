//! Both locks of a queue: for whatever concerns both ends.

use super::core::Given;
use super::front::Front;
use super::lanes::{Entry, Lane, Lanes, place};
use super::line::Wakes;
use super::state::{Load, State};
use super::sync::MutexGuard;

/// While it lives, what is used is exact. When it goes, each end knows what it must know of the other.
pub(super) struct Whole<'a, T, I: Copy> {
    pub front: MutexGuard<'a, Front<T, I>>,
    given: &'a Given,
    pub state: MutexGuard<'a, State<T, I>>,
}

impl<'a, T, I: Copy> Whole<'a, T, I> {
    pub fn new(
        front: MutexGuard<'a, Front<T, I>>,
        given: &'a Given,
        state: MutexGuard<'a, State<T, I>>,
        wakes: &mut Wakes,
    ) -> Self {
        let mut whole = Self { front, given, state };
        whole.state.account(whole.front.given, wakes);
        whole
    }

    /// As [`Core::take`](super::core::Core::take).
    pub fn take(
        &mut self,
        held: &mut usize,
        max: usize,
        live: &impl Fn(&Entry<T, I>) -> bool,
        out: &mut impl FnMut(Entry<T, I>),
        expired: &mut Vec<Entry<T, I>>,
        wakes: &mut Wakes,
    ) -> Option<usize> {
        let (front, state) = (&mut *self.front, &mut *self.state);
        let taken = front.take(held, max, live, out, expired, |front| next(front, &mut state.lanes));
        // In this order: the state never knows of more than senders can see.
        self.given.tell(self.front.given);
        self.state.account(self.front.given, wakes);
        self.settle(wakes);
        (taken > 0 || self.is_over()).then_some(taken)
    }

    pub fn release(&mut self, load: Load, wakes: &mut Wakes) {
        self.state.reserved -= 1;
        self.state.used = self.state.used.minus(load);
        self.state.grant(wakes);
        self.settle(wakes);
    }

    pub fn close(&mut self, wakes: &mut Wakes) {
        self.state.closed = true;
        while !self.state.room.is_empty() {
            wakes.add(self.state.room.call(false));
        }
        self.settle(wakes);
    }

    /// What [`evict`](Self::evict) could make room of, all told.
    pub fn evictable(&self, lane: u8) -> Load {
        let at = place(lane);
        let front = if self.front.at < at { Load::default() } else { self.front.lane.load() };
        self.state.lanes.load_from(at).plus(front)
    }

    /// The oldest of the least urgent, unless that is more urgent than `lane`.
    pub fn evict(&mut self, lane: u8) -> Option<Entry<T, I>> {
        let Self { front, state, .. } = self;
        let in_front = (!front.lane.is_empty()).then_some(front.at);
        let last = state.lanes.last().max(in_front)?;
        if last < place(lane) {
            None
        } else if in_front == Some(last) {
            front.lane.pop()
        } else {
            state.lanes.take(last)
        }
    }

    /// Everything, in the order in which it would have been taken.
    pub fn sweep(&mut self, wakes: &mut Wakes) -> impl Iterator<Item = Entry<T, I>> + use<T, I> {
        let mut front = Front::new();
        front.at = self.front.at;
        front.lane = std::mem::replace(&mut self.front.lane, Lane::new());
        let mut lanes = self.state.lanes.take_all();
        let left = front.lane.load().plus(lanes.load_from(0));
        self.state.used = self.state.used.minus(left);
        self.state.grant(wakes);
        self.settle(wakes);
        std::iter::from_fn(move || next(&mut front, &mut lanes))
    }

    pub fn is_empty(&self) -> bool {
        self.front.lane.is_empty() && self.state.lanes.is_empty()
    }

    /// Whether nothing will ever be taken again.
    pub fn is_over(&self) -> bool {
        self.state.closed && self.is_empty() && self.state.reserved == 0
    }

    pub fn is_idle(&self) -> bool {
        self.state.deaf || self.is_empty() && self.state.reserved == 0 && self.front.busy == 0
    }

    /// Tells those who wait for a state when it has come.
    pub fn settle(&mut self, wakes: &mut Wakes) {
        if self.is_over() {
            while !self.state.items.is_empty() {
                wakes.add(self.state.items.call(true));
            }
        }
        if !self.state.idle.is_empty() && self.is_idle() {
            while !self.state.idle.is_empty() {
                wakes.add(self.state.idle.call(true));
            }
        }
    }
}

/// The next entry to leave. When the front is empty, the most urgent lane moves there.
#[inline]
fn next<T, I: Copy>(front: &mut Front<T, I>, lanes: &mut Lanes<T, I>) -> Option<Entry<T, I>> {
    let first = lanes.first();
    if front.lane.is_empty() {
        if lanes.is_empty() {
            return None;
        }
        lanes.hand_over(first, &mut front.lane);
        front.at = first;
    } else if first < front.at {
        return lanes.pop();
    }
    front.lane.pop()
}

impl<T, I: Copy> Drop for Whole<'_, T, I> {
    fn drop(&mut self) {
        let Self { front, state, .. } = self;
        state.front_at = if front.lane.is_empty() { 0 } else { front.at };
        front.look = state.room.rests()
            || !state.idle.is_empty()
            // The last entry ends whoever waits for another.
            || state.closed && !state.items.is_empty()
            || state.lanes.first() < state.front_at;
    }
}

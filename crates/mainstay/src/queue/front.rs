//! What receivers take from: a lane as a whole, under a lock of their own, so that whoever sends and whoever receives
//! meet once a lane and not once an item. (Two locks for two ends: Michael and Scott, "Simple, fast, and practical
//! non-blocking and blocking concurrent queue algorithms", 1996.)

use super::lanes::{Entry, Lane};
use super::state::Load;

/// Entries a receiver may throw away in one go before others get their turn.
const EXPIRED_AT_ONCE: usize = 128;

// In this order: what is written with every entry lies together, beside the lock.
#[repr(C)]
pub(super) struct Front<T, I> {
    pub lane: Lane<T, I>,
    /// All that was ever taken out of here.
    pub given: Load,
    /// Handed out, and not reported done.
    pub busy: usize,
    pub taken: u64,
    /// Whoever takes has to look at the state too: somebody waits to be woken for what that will change, or something
    /// more urgent lies there.
    pub look: bool,
    /// Which lane it was.
    pub at: usize,
    pub expired: u64,
}

impl<T, I: Copy> Front<T, I> {
    pub fn new() -> Self {
        Self { lane: Lane::new(), at: 0, given: Load::default(), look: false, busy: 0, taken: 0, expired: 0 }
    }

    /// Whether so many can be taken without a look at the state.
    #[inline]
    pub fn has(&self, entries: usize) -> bool {
        !self.look && self.lane.len() >= entries
    }

    /// Takes one, of whose end nobody asks, without a look at the state. What is in hand (`held`) is done.
    #[inline]
    pub fn pop(&mut self, held: &mut usize) -> Option<Entry<T, I>> {
        if self.look {
            return None;
        }
        let entry = self.lane.pop()?;
        self.given = self.given.plus(Load::one(entry.weight));
        self.taken += 1;
        self.busy = self.busy + 1 - std::mem::replace(held, 1);
        Some(entry)
    }

    /// Takes up to `max` live entries of `next`; answers how many. What is in hand (`held`) is done.
    #[inline]
    pub fn take(
        &mut self,
        held: &mut usize,
        max: usize,
        live: &impl Fn(&Entry<T, I>) -> bool,
        out: &mut impl FnMut(Entry<T, I>),
        expired: &mut Vec<Entry<T, I>>,
        mut next: impl FnMut(&mut Self) -> Option<Entry<T, I>>,
    ) -> usize {
        self.busy -= std::mem::take(held);
        let (mut taken, mut thrown) = (0, 0);
        while taken < max && thrown < EXPIRED_AT_ONCE {
            let Some(entry) = next(self) else { break };
            self.given = self.given.plus(Load::one(entry.weight));
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
        taken
    }
}

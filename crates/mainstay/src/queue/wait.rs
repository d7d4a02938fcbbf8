//! Waits for entries, or for there to be none.

use std::task::{Context, Poll};

use super::core::Core;
use super::lanes::Entry;
use super::line::{Key, Line, Wakes};
use super::room::give_turn;
use super::state::State;

/// What a receiver does before it stands in line to be woken: it looks, gives others their turn (which often puts
/// something in), and looks again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Looks {
    First,
    Turn,
    Last,
}

/// Waits for entries, or for the queue to be idle.
pub(super) struct Wait<'a, T, I: Copy> {
    core: &'a Core<T, I>,
    ticket: Option<Key>,
    looks: Looks,
    line: fn(&mut State<T, I>) -> &mut Line<()>,
}

impl<'a, T, I: Copy> Wait<'a, T, I> {
    /// By somebody who has this to do.
    pub fn for_items(core: &'a Core<T, I>, looks: Looks) -> Self {
        Self { core, ticket: None, looks, line: |state| &mut state.items }
    }

    pub fn for_idleness(core: &'a Core<T, I>) -> Self {
        Self { core, ticket: None, looks: Looks::Last, line: |state| &mut state.idle }
    }

    /// As [`Core::take`], and waits while there is none.
    #[inline]
    pub fn poll_take(
        &mut self,
        held: &mut usize,
        max: usize,
        live: impl Fn(&Entry<T, I>) -> bool,
        mut out: impl FnMut(Entry<T, I>),
        expired: &mut Vec<Entry<T, I>>,
        cx: &mut Context<'_>,
    ) -> Poll<usize> {
        let core = self.core;
        if self.looks == Looks::Turn {
            return self.give_turn(cx);
        }
        let front = match self.ticket {
            None => match core.take_front(held, max, &live, &mut out, expired) {
                Ok(taken) => return Poll::Ready(taken),
                Err(front) => front,
            },
            // A place in line has to be given up, and that is in the state.
            Some(_) => core.front(),
        };
        let mut wakes = Wakes::default();
        let mut whole = core.whole_with(front, &mut wakes);
        let taken = whole.take(held, max, &live, &mut out, expired, &mut wakes);
        if taken.is_none() && !expired.is_empty() {
            // Nothing but expired ones so far: others' turn.
            wakes.add(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        match taken {
            Some(taken) => {
                if let Some(key) = self.ticket.take() {
                    wakes.discard(whole.state.items.remove(key).1);
                }
                Poll::Ready(taken)
            }
            None if self.looks == Looks::First => self.give_turn(cx),
            None => {
                self.join(&mut whole.state, &mut wakes, cx);
                Poll::Pending
            }
        }
    }

    fn give_turn(&mut self, cx: &Context<'_>) -> Poll<usize> {
        self.looks = Looks::Last;
        give_turn(cx)
    }

    /// Waits until the queue is idle.
    pub fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut wakes = Wakes::default();
        let mut whole = self.core.whole(&mut wakes);
        if whole.is_idle() {
            if let Some(key) = self.ticket.take() {
                wakes.discard(whole.state.idle.remove(key).1);
            }
            return Poll::Ready(());
        }
        self.join(&mut whole.state, &mut wakes, cx);
        Poll::Pending
    }

    /// Stands in line again, or still.
    fn join(&mut self, state: &mut State<T, I>, wakes: &mut Wakes, cx: &mut Context<'_>) {
        let line = (self.line)(state);
        match self.ticket {
            Some(key) if line.called(key).is_none() => wakes.discard(line.rest(key, cx.waker())),
            called => {
                if let Some(key) = called {
                    line.remove(key);
                }
                self.ticket = Some(line.join((), Some(cx.waker().clone())));
            }
        }
    }
}

impl<T, I: Copy> Drop for Wait<'_, T, I> {
    fn drop(&mut self) {
        let Some(key) = self.ticket.take() else { return };
        let mut wakes = Wakes::default();
        let mut whole = self.core.whole(&mut wakes);
        let (called, waker) = (self.line)(&mut whole.state).remove(key);
        wakes.discard(waker);
        // It was called for an entry that it will not take: the next one is called instead.
        if called.is_some() && !whole.is_empty() {
            wakes.add(whole.state.items.call(true));
        }
    }
}

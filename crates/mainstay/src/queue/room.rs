//! Waits for room: to have it, or to put something into it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::lanes::Entry;
use super::line::{Key, Wakes};
use super::state::{Core, Denied, Load, Refusal, State};
use super::sync::MutexGuard;

/// Waits for room. Dropped before it is done, it gives back what it may have got.
pub(super) struct Reserve<'a, T, I: Copy> {
    core: &'a Core<T, I>,
    load: Load,
    ticket: Option<Key>,
}

impl<'a, T, I: Copy> Reserve<'a, T, I> {
    pub fn new(core: &'a Core<T, I>, weight: u64) -> Self {
        Self { core, load: Load::one(weight), ticket: None }
    }

    /// Stands in line: the last one.
    fn join(&mut self, state: &mut State<T, I>, cx: &Context<'_>) {
        self.ticket = Some(state.room.join(self.load, cx.waker().clone()));
        state.waiting += 1;
    }

    /// Whether its turn has come; then the state is still locked.
    fn poll_turn(
        &mut self,
        key: Key,
        wakes: &mut Wakes,
        cx: &Context<'_>,
    ) -> Poll<Result<Turn<'a, T, I>, Denied>> {
        let mut state = self.core.state();
        let Some(granted) = state.room.called(key) else {
            wakes.discard(state.room.refresh(key, cx.waker()));
            return Poll::Pending;
        };
        state.room.remove(key);
        state.waiting -= 1;
        self.ticket = None;
        Poll::Ready(if granted { Ok(state) } else { Err(Denied::Closed) })
    }
}

/// Room was taken, and is to be filled.
type Turn<'a, T, I> = MutexGuard<'a, State<T, I>>;

impl<T, I: Copy> Future for Reserve<'_, T, I> {
    type Output = Result<(), Denied>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut wakes = Wakes::default();
        if let Some(key) = self.ticket {
            return self.poll_turn(key, &mut wakes, cx).map_ok(drop);
        }
        let mut whole = self.core.whole();
        let admitted = whole.state.admits(self.load);
        match admitted {
            Ok(()) => whole.state.take_room(self.load),
            Err(Denied::Full) => {
                self.join(&mut whole.state, cx);
                return Poll::Pending;
            }
            Err(_) => {}
        }
        Poll::Ready(admitted)
    }
}

impl<T, I: Copy> Drop for Reserve<'_, T, I> {
    fn drop(&mut self) {
        let Some(key) = self.ticket.take() else { return };
        let mut wakes = Wakes::default();
        let mut whole = self.core.whole();
        whole.state.waiting -= 1;
        let (called, waker) = whole.state.room.remove(key);
        wakes.discard(waker);
        match called {
            Some(true) => whole.release(self.load, &mut wakes),
            Some(false) => {}
            // It may have been a heavy one that the light ones behind it waited for.
            None => whole.state.grant(&mut wakes),
        }
    }
}

/// An entry that waits for room. Dropped before it is done, it has not been put in.
pub(super) struct Put<'a, T, I: Copy> {
    room: Reserve<'a, T, I>,
    lane: u8,
    entry: Option<Entry<T, I>>,
}

impl<'a, T, I: Copy> Put<'a, T, I> {
    pub fn new(core: &'a Core<T, I>, lane: u8, entry: Entry<T, I>) -> Self {
        Self { room: Reserve::new(core, entry.weight), lane, entry: Some(entry) }
    }

    /// Puts the entry in if there is room. `now` as for [`Core::offer`].
    pub fn poll(&mut self, now: impl FnOnce() -> I, cx: &Context<'_>) -> Poll<Result<(), Refusal<T, I>>> {
        let Self { room, lane, entry: waiting } = self;
        let Some(entry) = waiting.take() else { return Poll::Pending };
        let (core, weight) = (room.core, entry.weight);
        let Some(key) = room.ticket else {
            let full = |state: &mut State<T, I>| room.join(state, cx);
            return match core.offer_or(*lane, entry, now, full) {
                Err((Denied::Full, entry)) => {
                    *waiting = Some(entry);
                    Poll::Pending
                }
                done => Poll::Ready(done),
            };
        };
        let mut wakes = Wakes::default();
        match room.poll_turn(key, &mut wakes, cx) {
            Poll::Pending => {
                *waiting = Some(entry);
                Poll::Pending
            }
            Poll::Ready(Ok(turn)) => Poll::Ready(core.fill_in(turn, weight, *lane, entry, now, &mut wakes)),
            Poll::Ready(Err(denied)) => Poll::Ready(Err((denied, entry))),
        }
    }

    /// The entry, if it was not put in.
    pub fn into_entry(self) -> Option<Entry<T, I>> {
        self.entry
    }
}

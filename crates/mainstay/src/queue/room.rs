//! Waits for room: to have it, or to put something into it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::core::{Core, Missed};
use super::lanes::Entry;
use super::line::{Key, Wakes};
use super::state::{Denied, Load, Refusal, State, Turn};

/// Waits for room. Dropped before it is done, it gives back what it may have got.
///
/// Who finds none stands in line at once, gives others their turn (which often make some), and looks again before it is
/// to be woken: so nobody has to wake it where everybody is busy.
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
    fn join(&mut self, state: &mut State<T, I>) {
        self.ticket = Some(state.room.join(self.load, None));
        state.waiting += 1;
    }

    /// Whether its turn has come; then the state is still locked.
    fn poll_turn(&mut self, wakes: &mut Wakes, cx: &Context<'_>) -> Poll<Result<Turn<'a, T, I>, Denied>> {
        let Some(key) = self.ticket else { return Poll::Pending };
        let mut state = self.core.rest(key, wakes, cx);
        let Some(granted) = state.room.called(key) else { return Poll::Pending };
        state.room.remove(key);
        state.waiting -= 1;
        self.ticket = None;
        Poll::Ready(if granted { Ok(state) } else { Err(Denied::Closed) })
    }
}

impl<T, I: Copy> Future for Reserve<'_, T, I> {
    type Output = Result<(), Denied>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (core, load) = (self.core, self.load);
        if self.ticket.is_none() {
            let admitted = core.reserve_or(load, |state| self.join(state));
            return if admitted == Err(Denied::Full) { give_turn(cx) } else { Poll::Ready(admitted) };
        }
        let mut wakes = Wakes::default();
        self.poll_turn(&mut wakes, cx).map_ok(drop)
    }
}

/// Lets everybody who is ready go first.
pub(super) fn give_turn<R>(cx: &Context<'_>) -> Poll<R> {
    cx.waker().wake_by_ref();
    Poll::Pending
}

impl<T, I: Copy> Drop for Reserve<'_, T, I> {
    fn drop(&mut self) {
        let Some(key) = self.ticket.take() else { return };
        let mut wakes = Wakes::default();
        let mut whole = self.core.whole(&mut wakes);
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
    /// It has just begun to stand in line, and nobody has had a turn since.
    fresh: bool,
}

impl<'a, T, I: Copy> Put<'a, T, I> {
    /// `None` if there is room after all.
    pub fn begin(
        core: &'a Core<T, I>,
        missed: Missed<'a, T, I>,
        lane: u8,
        now: impl FnOnce() -> I,
    ) -> Result<Option<Self>, Refusal<T, I>> {
        let mut room = Reserve::new(core, missed.weight());
        match core.offer_again(missed, lane, now, |state| room.join(state)) {
            Ok(()) => Ok(None),
            Err((Denied::Full, entry)) => Ok(Some(Self { room, lane, entry: Some(entry), fresh: true })),
            Err(refusal) => Err(refusal),
        }
    }

    /// Puts the entry in when its turn has come. `now` as for [`Core::offer`].
    pub fn poll(&mut self, now: impl FnOnce() -> I, cx: &Context<'_>) -> Poll<Result<(), Refusal<T, I>>> {
        let Self { room, lane, entry: waiting, fresh } = self;
        if std::mem::take(fresh) {
            return give_turn(cx);
        }
        let (core, mut wakes) = (room.core, Wakes::default());
        let Poll::Ready(turn) = room.poll_turn(&mut wakes, cx) else { return Poll::Pending };
        let Some(entry) = waiting.take() else { return Poll::Pending };
        let weight = entry.weight;
        Poll::Ready(match turn {
            Ok(turn) => core.fill_in(turn, weight, *lane, entry, now, &mut wakes),
            Err(denied) => Err((denied, entry)),
        })
    }

    /// The entry, if it was not put in.
    pub fn into_entry(self) -> Option<Entry<T, I>> {
        self.entry
    }
}

//! The end that puts items in.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::coop;
use tokio::time::Instant;

use super::patience::Patience;
use super::room::Put;
use super::shared::{NotTaken, Shared};
use super::{Drained, Overflow, Permit, Refused, SendError, drain};

/// Puts items into a queue. Cheap to clone; when the last one is dropped, the queue closes.
pub struct Sender<T>(pub(super) Arc<Shared<T>>);

/// An item that the queue has dealt with.
#[derive(Debug, PartialEq, Eq)]
pub struct Sent<T> {
    evicted: Vec<T>,
    waited: Duration,
}

impl<T> Sender<T> {
    pub(super) fn new(shared: Arc<Shared<T>>) -> Self {
        Self(shared)
    }

    /// Puts an item in, by the queue's rule for when it is full. With [`Overflow::Wait`] it waits until the deadline of
    /// the current [`Context`](crate::Context), if that has one; [`send_by`](Self::send_by) brings its own.
    ///
    /// # Errors
    /// The item with the reason: [`Refused::Full`] (only with [`Overflow::Reject`]), `TimedOut`, `Closed`, `TooLarge`.
    ///
    /// # Cancel safety
    /// Dropped before it is done, it has sent nothing, and the item is dropped with it. [`reserve`](Self::reserve)
    /// first to keep it.
    pub async fn send(&self, item: T) -> Result<Sent<T>, SendError<T>> {
        self.send_until(item, None).await
    }

    /// The same, and waits no longer than until `deadline`, or the context's if that is earlier.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub async fn send_by(&self, item: T, deadline: Instant) -> Result<Sent<T>, SendError<T>> {
        self.send_until(item, Some(deadline)).await
    }

    /// Puts an item in if that is possible at once. In a queue that drops, it is.
    ///
    /// # Errors
    /// The item with the reason: [`Refused::Full`], `Closed`, `TooLarge`.
    pub fn try_send(&self, item: T) -> Result<Sent<T>, SendError<T>> {
        let shared = &*self.0;
        shared
            .admit(shared.incoming(item))
            .map_err(|(denied, item)| shared.refuse(item.into_item(), denied.into()))
    }

    /// Waits for a place, which then is there for one item that weighs nothing; see
    /// [`reserve_bytes`](Self::reserve_bytes). Waits whatever the queue's rule for when it is full is, until the
    /// deadline of the current [`Context`](crate::Context). Cancel safe.
    ///
    /// # Errors
    /// [`Refused::TimedOut`], `Closed`.
    pub async fn reserve(&self) -> Result<Permit<'_, T>, Refused> {
        self.reserve_bytes(0).await
    }

    /// Waits as [`reserve`](Self::reserve) for a place for one item of up to so many bytes. Cancel safe.
    ///
    /// # Errors
    /// [`Refused::TimedOut`], `Closed`, or `TooLarge` for more than the queue can hold.
    pub async fn reserve_bytes(&self, bytes: u64) -> Result<Permit<'_, T>, Refused> {
        let shared = &*self.0;
        match room(shared, bytes, None).await {
            Ok(()) => Ok(Permit::new(shared, bytes)),
            Err(refused) => Err(shared.meter.refused(refused)),
        }
    }

    /// A place for one item of up to so many bytes, if there is one at once.
    ///
    /// # Errors
    /// [`Refused::Full`], `Closed`, `TooLarge`.
    pub fn try_reserve(&self, bytes: u64) -> Result<Permit<'_, T>, Refused> {
        let shared = &*self.0;
        match shared.core.try_reserve(bytes) {
            Ok(()) => Ok(Permit::new(shared, bytes)),
            Err(denied) => Err(shared.meter.refused(denied.into())),
        }
    }

    /// How many items are inside.
    pub fn depth(&self) -> usize {
        self.0.core.view().depth
    }

    /// How many may be.
    pub fn capacity(&self) -> usize {
        self.0.plan.capacity
    }

    /// How many senders wait for room.
    pub fn waiting(&self) -> usize {
        self.0.core.view().waiting
    }

    /// Whether it takes no more items.
    pub fn is_closed(&self) -> bool {
        self.0.core.view().closed
    }

    /// Takes no more items. What is inside, and what has a [`Permit`], still reaches the receivers; whoever waits for
    /// room is refused.
    pub fn close(&self) {
        self.0.core.close();
    }

    /// Waits until nothing is inside and every receiver has asked for more, or is gone: then all that was sent has been
    /// dealt with. Returns at once when there are no receivers. Cancel safe.
    pub async fn idle(&self) {
        let mut wait = self.0.core.idle();
        poll_fn(|cx| wait.poll_idle(cx)).await;
    }

    /// Closes, waits for the receivers to finish as [`idle`](Self::idle) does, until `deadline`, and takes out what is
    /// left. Dropped before it is done, the queue stays closed and nothing is taken out.
    pub async fn drain_by(&self, deadline: Instant) -> Drained<T> {
        drain::drain(self, deadline).await
    }

    pub(crate) async fn send_until(
        &self,
        item: T,
        deadline: Option<Instant>,
    ) -> Result<Sent<T>, SendError<T>> {
        let shared = &*self.0;
        let incoming = shared.incoming(item);
        // Whoever sends in a loop gives others their turn.
        coop::consume_budget().await;
        if shared.plan.overflow != Overflow::Wait {
            let refused =
                |(denied, incoming): NotTaken<T>| shared.refuse(incoming.into_item(), denied.into());
            return shared.admit(incoming).map_err(refused);
        }
        match shared.put(incoming) {
            Ok(()) => Ok(Sent::at_once()),
            Err(waits) => self.wait(waits?, deadline).await,
        }
    }

    /// Puts an item in that has to wait.
    async fn wait(
        &self,
        mut put: Put<'_, T, Instant>,
        deadline: Option<Instant>,
    ) -> Result<Sent<T>, SendError<T>> {
        let shared = &*self.0;
        let mut patience = Patience::new(&shared.meter, deadline);
        match poll_fn(|cx| patience.poll(cx, |cx| put.poll(Instant::now, cx))).await {
            Some(Ok(())) => Ok(Sent { evicted: Vec::new(), waited: patience.waited().unwrap_or_default() }),
            Some(Err((denied, entry))) => Err(shared.refuse(entry.item, denied.into())),
            None => match put.into_entry() {
                Some(entry) => Err(shared.refuse(entry.item, Refused::TimedOut)),
                None => unreachable!("whoever is late has not put anything in"),
            },
        }
    }
}

/// Waits for room until then, or until the context's deadline.
async fn room<T>(shared: &Shared<T>, bytes: u64, deadline: Option<Instant>) -> Result<(), Refused> {
    let (mut room, mut patience) = (shared.core.reserve(bytes), Patience::new(&shared.meter, deadline));
    match poll_fn(|cx| patience.poll(cx, |cx| Pin::new(&mut room).poll(cx))).await {
        Some(got) => Ok(got?),
        None => Err(Refused::TimedOut),
    }
}

impl<T> Sent<T> {
    pub(super) fn at_once() -> Self {
        Self { evicted: Vec::new(), waited: Duration::ZERO }
    }

    pub(super) fn evicting(evicted: Vec<T>) -> Self {
        Self { evicted, waited: Duration::ZERO }
    }

    /// What was dropped to make room; the item itself, if that was dropped.
    pub fn evicted(&self) -> &[T] {
        &self.evicted
    }

    /// The same, to keep.
    pub fn into_evicted(self) -> Vec<T> {
        self.evicted
    }

    /// How long the sender waited for room; `None` if there was some, at once or after one turn of the other tasks.
    pub fn waited(&self) -> Option<Duration> {
        (!self.waited.is_zero()).then_some(self.waited)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.core.add_sender();
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.core.remove_sender();
    }
}

impl<T> std::fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let view = self.0.core.view();
        let mut fields = f.debug_struct("Sender");
        fields.field("queue", &self.0.name).field("depth", &view.depth).field("closed", &view.closed);
        fields.finish_non_exhaustive()
    }
}

//! A subscription without a handler: a stream of events.

use std::{
    marker::PhantomData,
    sync::{Arc, Weak, atomic::Ordering},
};

use super::{
    Bus, Inner, ListenError, Overflow, PublishError,
    outlet::{Item, Outlet},
};
use crate::{event::Payload, queue::Receiver};

/// A stream of events; made by [`Bus::listen`]. For whoever shows what happens now, as an event stream of HTTP does:
/// publishers never wait for it, and nothing is tried again. Dropped, it unsubscribes.
pub struct Listener<P> {
    bus: Weak<Inner>,
    outlet: Arc<Outlet>,
    queue: Receiver<Item>,
    /// Taken out, and not given yet because there was a gap before it.
    next: Option<Item>,
    _payload: PhantomData<fn() -> P>,
}

impl<P: Payload> Listener<P> {
    pub(super) fn open(bus: &Bus, filter: &str, capacity: usize) -> Result<Self, PublishError> {
        let filter = Bus::filter(filter)?;
        let name: Arc<str> = format!("listener {filter}").into();
        let open = |id| Outlet::open(id, name, filter.clone(), capacity, Overflow::DropOldest, 0);
        let (outlet, queue) = bus.0.routes.add(&filter, open)?;
        Ok(Self { bus: Arc::downgrade(&bus.0), outlet, queue, next: None, _payload: PhantomData })
    }

    /// The next event.
    ///
    /// # Errors
    /// [`ListenError::Lagged`] and `Unreadable` are told once, where the gap is; `Closed` ends it.
    ///
    /// # Cancel safety
    /// Dropped before it is done, it has taken nothing.
    pub async fn recv(&mut self) -> Result<P, ListenError> {
        if self.next.is_none() {
            self.next = self.queue.recv().await;
            let missed = self.outlet.missed.swap(0, Ordering::Relaxed);
            if missed > 0 {
                return Err(ListenError::Lagged(missed));
            }
        }
        let Some(item) = self.next.take() else { return Err(ListenError::Closed) };
        P::of(&item.envelope).map_err(|error| ListenError::Unreadable(error.to_message()))
    }

    /// How many events wait.
    pub fn depth(&self) -> usize {
        self.outlet.queue.depth()
    }
}

impl<P> Drop for Listener<P> {
    fn drop(&mut self) {
        if let Some(bus) = self.bus.upgrade() {
            bus.routes.remove(self.outlet.id);
        }
    }
}

impl<P> std::fmt::Debug for Listener<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("filter", &self.outlet.filter).finish_non_exhaustive()
    }
}

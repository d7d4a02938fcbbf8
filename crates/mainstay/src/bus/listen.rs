//! A subscription without a handler: a stream of events.

use std::{marker::PhantomData, sync::Weak};

use super::{Bus, Inner, ListenError, PublishError, ring::Reader};
use crate::event::Payload;

/// A stream of events; made by [`Bus::listen`]. For whoever shows what happens now, as an event stream of HTTP does:
/// publishers never wait for it, and nothing is tried again. Dropped, it unsubscribes.
pub struct Listener<P> {
    bus: Weak<Inner>,
    reader: Option<Reader>,
    _payload: PhantomData<fn() -> P>,
}

impl<P: Payload> Listener<P> {
    pub(super) fn open(bus: &Bus, filter: &str, capacity: usize) -> Result<Self, PublishError> {
        let reader = bus.0.routes.listen(&Bus::filter(filter)?, capacity)?;
        Ok(Self { bus: std::sync::Arc::downgrade(&bus.0), reader: Some(reader), _payload: PhantomData })
    }

    /// The next event.
    ///
    /// # Errors
    /// [`ListenError::Lagged`] and `Unreadable` are told once, where the gap is; `Closed` ends it.
    ///
    /// # Cancel safety
    /// Dropped before it is done, it has taken nothing.
    pub async fn recv(&mut self) -> Result<P, ListenError> {
        let Some(reader) = &mut self.reader else { return Err(ListenError::Closed) };
        reader.recv(P::of).await?.map_err(|error| ListenError::Unreadable(error.to_message()))
    }

    /// How many events wait.
    pub fn depth(&self) -> usize {
        self.reader.as_ref().map_or(0, Reader::depth)
    }
}

impl<P> Drop for Listener<P> {
    fn drop(&mut self) {
        let Some(reader) = self.reader.take() else { return };
        let ring = reader.ring().clone();
        drop(reader);
        if let Some(bus) = self.bus.upgrade() {
            bus.routes.unlisten(&ring);
        }
    }
}

impl<P> std::fmt::Debug for Listener<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let filter = self.reader.as_ref().map(|reader| &reader.ring().filter);
        f.debug_struct("Listener").field("filter", &filter).finish_non_exhaustive()
    }
}

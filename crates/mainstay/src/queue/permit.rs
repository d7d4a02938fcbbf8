//! A place in a queue before there is anything to put into it.

use super::SendError;
use super::shared::Shared;

/// A place for one item. Dropped unused, somebody else gets it. A closed queue still takes what has a place, so that
/// receivers wait for it: do not keep one for long.
#[must_use = "a place that is not used is given back"]
pub struct Permit<'a, T> {
    shared: &'a Shared<T>,
    bytes: u64,
}

impl<'a, T> Permit<'a, T> {
    pub(super) fn new(shared: &'a Shared<T>, bytes: u64) -> Self {
        Self { shared, bytes }
    }

    /// Puts an item into the place.
    ///
    /// # Errors
    /// [`Refused::Closed`](super::Refused::Closed) when no receiver is left, `TooLarge` when the item weighs more than
    /// was reserved. The place is given back.
    pub fn send(self, item: T) -> Result<(), SendError<T>> {
        let (shared, bytes) = (self.shared, self.bytes);
        let incoming = shared.incoming(item);
        // From here on the place is the entry's.
        std::mem::forget(self);
        shared.fill(bytes, incoming)
    }
}

impl<T> Drop for Permit<'_, T> {
    fn drop(&mut self) {
        self.shared.core.give_back(self.bytes);
    }
}

impl<T> std::fmt::Debug for Permit<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit").field("queue", &self.shared.name).field("bytes", &self.bytes).finish()
    }
}

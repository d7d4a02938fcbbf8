//! The end that takes items out.

use std::future::poll_fn;
use std::sync::Arc;

use tokio::task::coop;

use super::TryRecvError;
use super::core::Nothing;
use super::shared::{Entry, Shared};
use super::wait::Looks;

/// Takes items out of a queue. A clone competes with it: each item goes to one of them. When the last one is dropped,
/// the queue closes, and what is inside waits for [`Sender::drain_by`](super::Sender::drain_by).
///
/// Asking for more, or dropping the receiver, says that what it got before is done; that is what
/// [`Sender::idle`](super::Sender::idle) waits for. A consumer that hands items on to other tasks is done with them
/// when it has handed them on.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    held: usize,
}

impl<T> Receiver<T> {
    pub(super) fn new(shared: Arc<Shared<T>>) -> Self {
        Self { shared, held: 0 }
    }

    /// The next item; `None` when the queue is closed and empty.
    ///
    /// # Cancel safety
    /// Dropped before it is done, it has taken nothing.
    pub async fn recv(&mut self) -> Option<T> {
        // Whoever receives in a loop gives others their turn.
        coop::consume_budget().await;
        if let Ok(got) = self.shared.pop(&mut self.held) {
            return got;
        }
        self.take_one(if self.shared.plain { Looks::Turn } else { Looks::First }).await
    }

    /// The same, by somebody who has looked and given others their turn. Cancel safe as that.
    pub(crate) async fn recv_at_rest(&mut self) -> Option<T> {
        self.take_one(Looks::Last).await
    }

    /// Waits for at least one item and appends up to `max` that are there to `into`; answers how many. 0 when the queue
    /// is closed and empty, or `max` is 0.
    ///
    /// # Cancel safety
    /// Dropped before it is done, it has taken nothing.
    pub async fn recv_many(&mut self, into: &mut Vec<T>, max: usize) -> usize {
        if max == 0 {
            return 0;
        }
        coop::consume_budget().await;
        let shared = self.shared.clone();
        self.take(max, Looks::First, |entry| into.push(shared.delivered(entry))).await
    }

    /// The next item, if there is one now.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`], or `Closed` when there will be none.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let Self { shared, held } = self;
        if shared.plain {
            return match shared.pop(held) {
                Ok(Some(item)) => Ok(item),
                Ok(None) => Err(TryRecvError::Closed),
                Err(Nothing) => Err(TryRecvError::Empty),
            };
        }
        let (mut got, mut expired) = (None, Vec::new());
        loop {
            let taken = shared.core.take(held, 1, shared.live(), |entry| got = Some(entry), &mut expired);
            let some_expired = !expired.is_empty();
            shared.expired(&mut expired);
            match (taken, got.take()) {
                (_, Some(entry)) => return Ok(shared.delivered(entry)),
                (Some(_), None) => return Err(TryRecvError::Closed),
                (None, None) if some_expired => {}
                (None, None) => return Err(TryRecvError::Empty),
            }
        }
    }

    /// Says that what was received is done, without asking for more.
    pub fn done(&mut self) {
        self.shared.core.take(&mut self.held, 0, |_: &Entry<T>| true, |_| {}, &mut Vec::new());
    }

    /// Takes no more items into the queue; what is inside can still be received.
    pub fn close(&self) {
        self.shared.core.close();
    }

    /// How many items are inside.
    pub fn depth(&self) -> usize {
        self.shared.core.view().depth
    }

    async fn take_one(&mut self, looks: Looks) -> Option<T> {
        let mut got = None;
        self.take(1, looks, |entry| got = Some(entry)).await;
        got.map(|entry| self.shared.delivered(entry))
    }

    async fn take(&mut self, max: usize, looks: Looks, mut out: impl FnMut(Entry<T>)) -> usize {
        let Self { shared, held } = self;
        let mut wait = shared.core.wait(looks);
        let mut expired = Vec::new();
        poll_fn(|cx| {
            let polled = wait.poll_take(held, max, shared.live(), &mut out, &mut expired, cx);
            shared.expired(&mut expired);
            polled
        })
        .await
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.core.add_receiver();
        Self { shared: self.shared.clone(), held: 0 }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.core.remove_receiver(self.held);
    }
}

impl<T> std::fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let view = self.shared.core.view();
        let mut fields = f.debug_struct("Receiver");
        fields.field("queue", &self.shared.name).field("depth", &view.depth).field("closed", &view.closed);
        fields.finish_non_exhaustive()
    }
}

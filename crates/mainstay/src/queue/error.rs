//! Why an item was not taken, or none was there.

use std::fmt;

use super::state::Denied;

/// Why the queue did not take an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refused {
    /// No room.
    Full,
    /// Still no room when the deadline came.
    TimedOut,
    /// Closed, or nobody is there to receive.
    Closed,
    /// Heavier than the whole queue, or than the place that was reserved for it.
    TooLarge,
}

impl Refused {
    /// The reason as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Refused::Full => "full",
            Refused::TimedOut => "timed_out",
            Refused::Closed => "closed",
            Refused::TooLarge => "too_large",
        }
    }

    /// Whether the same may work later.
    pub fn is_retryable(self) -> bool {
        matches!(self, Refused::Full | Refused::TimedOut)
    }
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Full => Refused::Full,
            Denied::Closed => Refused::Closed,
            Denied::TooHeavy => Refused::TooLarge,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::Full => "the queue is full",
            Refused::TimedOut => "the queue was still full when the deadline came",
            Refused::Closed => "the queue is closed",
            Refused::TooLarge => "the item is too large for the queue",
        })
    }
}

impl std::error::Error for Refused {}

/// An item that was not taken, with the reason. Nothing is lost: [`into_item`](Self::into_item).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SendError<T> {
    item: T,
    refused: Refused,
}

impl<T> SendError<T> {
    pub(super) fn new(item: T, refused: impl Into<Refused>) -> Self {
        Self { item, refused: refused.into() }
    }

    /// Why.
    pub fn reason(&self) -> Refused {
        self.refused
    }

    /// Whether the same may work later.
    pub fn is_retryable(&self) -> bool {
        self.refused.is_retryable()
    }

    /// The item.
    pub fn into_item(self) -> T {
        self.item
    }

    /// The same refusal of something made from the item.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> SendError<U> {
        SendError { item: make(self.item), refused: self.refused }
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SendError").field(&self.refused).finish()
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refused.fmt(f)
    }
}

impl<T> std::error::Error for SendError<T> {}

/// Why there was nothing to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TryRecvError {
    /// Nothing is inside now.
    Empty,
    /// Nothing is inside, and nothing will ever be.
    Closed,
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryRecvError::Empty => "the queue is empty",
            TryRecvError::Closed => "the queue is empty and closed",
        })
    }
}

impl std::error::Error for TryRecvError {}

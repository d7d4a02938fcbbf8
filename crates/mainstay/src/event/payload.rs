//! What a handler may take as its first argument.

use super::{Envelope, Event};
use crate::job::JobError;

/// The first argument of an event's handler: an [`Event`] of one type, or the [`Envelope`] of any.
pub trait Payload: Send + Sized + 'static {
    /// Takes itself out of an envelope.
    ///
    /// # Errors
    /// Data that does not fit; the delivery becomes a dead letter.
    fn of(envelope: &Envelope) -> Result<Self, JobError>;
}

impl<E: Event> Payload for E {
    fn of(envelope: &Envelope) -> Result<Self, JobError> {
        Ok(envelope.read()?)
    }
}

impl Payload for Envelope {
    fn of(envelope: &Envelope) -> Result<Self, JobError> {
        Ok(envelope.clone())
    }
}

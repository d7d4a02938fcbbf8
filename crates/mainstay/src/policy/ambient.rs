//! What a call takes from its surroundings: the current [`Context`].

use tokio::time::Instant;

use crate::context::Context;

/// When whoever asked stops waiting.
pub(super) fn deadline() -> Option<Instant> {
    Context::current_limits().0
}

/// The same, and how many retries whoever asked has made.
pub(super) fn deadline_and_retries() -> (Option<Instant>, u32) {
    let (deadline, attempt) = Context::current_limits();
    (deadline, attempt - 1)
}

//! What a call takes from its surroundings: the current [`Context`].

use tokio::time::Instant;

use crate::context::Context;

/// When whoever asked stops waiting, and how many retries they have made.
pub(super) fn deadline_and_retries() -> (Option<Instant>, u32) {
    Context::current_limits()
}

//! The right to run.

use std::sync::Arc;

use tokio::time::Instant;

use super::Inner;

/// The right to run a piece of work; hold it until the work is over, for a response until its body has been sent.
///
/// Dropped, it only gives its place back, unless the deadline has passed by then: work that was cut for being slow
/// must not look as if nothing had been slow.
#[must_use = "the place is free again when the permit is dropped"]
pub struct Permit {
    inner: Option<Arc<Inner>>,
    began: Instant,
    deadline: Option<Instant>,
    ended_well: bool,
}

impl Permit {
    pub(super) fn new(inner: Arc<Inner>, began: Instant, deadline: Option<Instant>) -> Self {
        Self { inner: Some(inner), began, deadline, ended_well: false }
    }

    /// The work has ended well: how long it took counts.
    pub fn done(mut self) {
        self.ended_well = true;
    }

    /// Its place has been given back otherwise.
    pub(super) fn forget(mut self) {
        self.inner = None;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        let cut = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        inner.release((self.ended_well || cut).then_some(self.began));
    }
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit").field("began", &self.began).finish_non_exhaustive()
    }
}

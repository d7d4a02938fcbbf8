//! The right to run.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::gate::Inner;

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
    /// How long the work took, if it was over before the permit.
    took: Option<Duration>,
}

impl Permit {
    pub(super) fn new(inner: Arc<Inner>, began: Instant, deadline: Option<Instant>) -> Self {
        Self { inner: Some(inner), began, deadline, ended_well: false, took: None }
    }

    /// The work has ended well: how long it took counts.
    pub fn done(mut self) {
        self.ended_well = true;
    }

    /// The work is over, but not what it has to do with its place, as a body that is still being sent to a slow client.
    pub fn answered(&mut self) {
        self.took = Some(self.began.elapsed());
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
        let took = self.took.unwrap_or_else(|| self.began.elapsed());
        inner.release((self.ended_well || cut).then_some((self.began, took)));
    }
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit").field("began", &self.began).finish_non_exhaustive()
    }
}

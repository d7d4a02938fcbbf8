//! A call to a store ends with the deadline of the context it is made in.

use std::{future::Future, time::Duration};

use mainstay_core::error::{Error, ErrorKind};
use tokio::time::Instant;

use crate::context::Context;
use crate::policy::Within;

/// When whoever asked stops waiting; `None`: never.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    /// The current context's, for a call that begins now.
    ///
    /// # Errors
    /// It has passed: nobody waits for an answer any more, so the store is not asked.
    pub fn current() -> Result<Deadline, Error> {
        let deadline = Deadline(Context::current_limits().0);
        match deadline.left() {
            Some(Duration::ZERO) => {
                let message = "the deadline of the call had passed, so the store was not asked; give the call more \
                               time, or detach the context of work that outlives its caller";
                Err(Error::new(ErrorKind::DeadlineExceeded, message))
            }
            _ => Ok(deadline),
        }
    }

    /// How much time there is until then.
    pub fn left(self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// `own`, or what is left if that is less.
    pub fn limit(self, own: Option<Duration>) -> Option<Duration> {
        own.into_iter().chain(self.left()).min()
    }

    /// The same for a store's wait: in whole milliseconds, as stores count, upwards, so that no wait is over before
    /// it has begun while there is time.
    pub fn limit_wait(self, own: Duration) -> Duration {
        let up = |left: Duration| Duration::from_millis(left.as_micros().div_ceil(1_000) as u64);
        self.left().map_or(own, |left| own.min(up(left)))
    }

    /// A commit's answer, until then.
    pub async fn commit<T>(self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let late = "the deadline passed before the store had answered, so nobody can say whether the commit happened; \
                    repeat it under the same idempotency key to find out";
        let late = || Error::unknown(ErrorKind::DeadlineExceeded, late);
        Within::new(call, self.0).await.unwrap_or_else(|| Err(late()))
    }

    /// The answer of a read, until then.
    pub async fn read<T>(self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let late = || {
            let message = "the deadline passed before the store had answered; read again with more time";
            Error::new(ErrorKind::DeadlineExceeded, message)
        };
        Within::new(call, self.0).await.unwrap_or_else(|| Err(late()))
    }
}

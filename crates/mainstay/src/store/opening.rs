//! How long a store may take to open: as long as it goes on.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::app::notify;
use crate::{Error, ErrorKind, Result, secs};

/// A store that has shown no sign of life for so long does not open any more.
const PATIENCE: Duration = secs(120);
/// How often it is looked at, and the service manager is asked for more time.
const LOOK: Duration = secs(10);
/// So much more, from then on: enough until the next look, also on a busy machine.
const MORE_TIME: &str = "EXTEND_TIMEOUT_USEC=60000000";

/// What has been done since a store began to open. Clones count together.
#[derive(Clone, Default)]
pub(super) struct Steps(Arc<AtomicU64>);

impl Steps {
    /// Another one was made. Only the embedded store tells.
    #[cfg(any(feature = "sqlite", test))]
    pub(super) fn one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Awaits `opened`, as long as steps are made: a file is checked after a fatal error, or brought to a new format, in
    /// one go, and what is given up begins anew with the next start.
    ///
    /// # Errors
    /// `TimedOut`: no step was made for two minutes.
    pub(super) async fn made_by<T>(&self, opened: impl Future<Output = Result<T>>) -> Result<T> {
        let mut opened = pin!(opened);
        let (mut seen, mut idle) = (0, Duration::ZERO);
        loop {
            tokio::select! {
                biased;
                done = &mut opened => return done,
                () = tokio::time::sleep(LOOK) => {}
            }
            let made = self.0.load(Ordering::Relaxed);
            if made > seen {
                (seen, idle) = (made, Duration::ZERO);
                notify(MORE_TIME);
                continue;
            }
            idle += LOOK;
            if idle >= PATIENCE {
                let limit = crate::time::human(PATIENCE);
                let message = format!("nothing has happened for {limit} while the store was opened");
                return Err(Error::new(ErrorKind::TimedOut, message));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_store_that_takes_an_hour_to_open_opens_as_long_as_it_goes_on() {
        let steps = Steps::default();
        let opens = async {
            for _ in 0..60 {
                tokio::time::sleep(secs(60)).await;
                steps.one();
            }
            Ok(7)
        };
        assert_eq!(steps.made_by(opens).await.unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_while_it_opens_is_given_up() {
        let steps = Steps::default();
        let began = tokio::time::Instant::now();
        let hangs = async {
            steps.one();
            std::future::pending::<Result<()>>().await
        };
        let error = steps.made_by(hangs).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert_eq!(began.elapsed(), PATIENCE + LOOK);
    }
}

//! Where a test holds calls, and learns that they have come.

use std::{panic::Location, sync::Arc};

use tokio::sync::{Semaphore, watch};

use super::wait::until;

/// Holds whatever comes to it until the test lets it pass: the signal that a test waits on instead of sleeping.
///
/// Closed at first. All clones are one gate.
///
/// ```
/// use mainstay::testing::{Gate, Script, block_on_virtual};
///
/// block_on_virtual(async {
///     let gate = Gate::new();
///     let load = Script::<u64, Result<&str, ()>>::new().pending_until(&gate).ok("late");
///     let call = load.call(7);
///     tokio::join!(async { assert_eq!(call.await, Ok("late")) }, async {
///         gate.until_arrived(1).await; // the call is under way now
///         load.assert_not_awaited();
///         gate.open();
///     });
/// });
/// ```
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    passes: Semaphore,
    arrived: watch::Sender<usize>,
    made: &'static Location<'static>,
}

impl Gate {
    /// A closed gate.
    #[track_caller]
    pub fn new() -> Gate {
        let (passes, arrived) = (Semaphore::new(0), watch::Sender::new(0));
        Gate(Arc::new(Inner { passes, arrived, made: Location::caller() }))
    }

    /// Lets all pass, those that wait and those that come.
    pub fn open(&self) {
        self.0.passes.close();
    }

    /// Lets `n` pass, the first come first.
    pub fn release(&self, n: usize) {
        self.0.passes.add_permits(n);
    }

    /// How many have come so far, whether or not they have passed.
    pub fn arrived(&self) -> usize {
        *self.0.arrived.borrow()
    }

    /// Resolves when `n` have come since the gate was made. Cancel safe.
    ///
    /// # Panics
    /// After 30 seconds, on virtual time after six days: nobody comes any more.
    #[track_caller]
    pub fn until_arrived(&self, n: usize) -> impl Future<Output = ()> + Send + use<> {
        let (gate, at) = (self.0.clone(), Location::caller());
        async move {
            let tell =
                |come: &usize| format!("{come} instead of {n} have come to the gate made at {}", gate.made);
            until(&gate.arrived, at, |come| *come >= n, tell).await;
        }
    }

    /// Waits here until the test lets it pass. For code of the test's own; a script has
    /// [`pending_until`](super::Script::pending_until). Cancel safe: who leaves takes no place.
    pub async fn pass(&self) {
        self.0.arrived.send_modify(|come| *come += 1);
        // An error means that the gate is open for good.
        if let Ok(pass) = self.0.passes.acquire().await {
            pass.forget();
        }
    }
}

impl Default for Gate {
    #[track_caller]
    fn default() -> Gate {
        Gate::new()
    }
}

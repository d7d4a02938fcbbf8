//! How the suites open the store they judge.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use mainstay_core::Store;

use crate::{clock::ManualClock, world::World};

/// One place where a store lives (a directory, a schema, nothing at all), with the clock that its stores read.
#[async_trait]
pub trait Harness: Send + Sync + 'static {
    /// The clock of this harness. Its stores must take time and chance from nowhere else.
    fn clock(&self) -> &Arc<ManualClock>;

    /// Opens the store: empty the first time; later, if [`Harness::durable`], as the closed one left it.
    /// Retention is left to [`Store::maintain`].
    async fn open(&self) -> Arc<dyn Store>;

    /// Whether what was answered is there again after closing and opening. Defaults to `false`.
    fn durable(&self) -> bool {
        false
    }

    /// Whether the store may notice by itself, between two calls, what has become due: then nobody can say when a
    /// job's end was noted, and the model test lets it notice at once. Defaults to `true`, which is always safe;
    /// with `false` the model test also leaves things overdue.
    fn acts_between_calls(&self) -> bool {
        true
    }
}

/// No case takes this long in real time; one that does hangs.
const STUCK_AFTER: Duration = Duration::from_secs(120);

/// Opens a store, runs `test` on it to its end, and closes it. Panics if the test is stuck.
pub fn run_with(harness: impl Harness, test: impl AsyncFnOnce(&mut World)) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime for the test");
    runtime.block_on(async {
        let body = async {
            let mut world = World::open(Box::new(harness)).await;
            test(&mut world).await;
            world.close().await;
        };
        tokio::time::timeout(STUCK_AFTER, body).await.expect("the test is stuck");
    });
}

//! What every store of mainstay is tested with. A store crate adds this as a dev-dependency, says how it is opened,
//! and gets two judges:
//!
//! 1. [`mod@conformance`]: one named test a behaviour of the contract that can be seen at the
//!    [`Store`](mainstay_core::Store) seam;
//! 2. [`model`]: random sequences of operations, on the store and on the reference at once, with invariants checked
//!    after every step; a failure is shrunk to the shortest sequence that still fails.
//!
//! And a third for what clients saw of a server: [`history`] says whether what they were told of locks can be true.
//!
//! Read on with [`clock`] (time only moves when the test says so), [`harness`] (how a store is opened) and
//! [`world`] (a store with short names for what tests do).
//!
//! ```
//! use std::sync::Arc;
//! use mainstay_core::{Store, memory::MemoryStore};
//! use mainstay_testkit::{Harness, ManualClock, World, async_trait};
//!
//! struct Memory(Arc<ManualClock>);
//!
//! #[async_trait]
//! impl Harness for Memory {
//!     fn clock(&self) -> &Arc<ManualClock> {
//!         &self.0
//!     }
//!     async fn open(&self) -> Arc<dyn Store> {
//!         Arc::new(MemoryStore::new(self.0.clone()).without_housekeeping())
//!     }
//! }
//!
//! // In tests/it/main.rs this line stands for a #[test] a behaviour:
//! // mainstay_testkit::conformance!(Memory(ManualClock::new()));
//! mainstay_testkit::run_with(Memory(ManualClock::new()), async |world: &mut World| {
//!     let id = world.enqueue(world.job("mail")).await;
//!     world.advance(10);
//!     assert_eq!(world.claim("mail").await.id, id);
//! });
//! ```

pub mod clock;
#[cfg(unix)]
pub mod cluster;
pub mod conformance;
#[cfg(feature = "sqlite-faults")]
pub mod faults;
pub mod harness;
pub mod history;
pub mod model;
pub mod world;

pub use async_trait::async_trait;
pub use clock::ManualClock;
pub use harness::{Harness, run_with};
pub use world::World;

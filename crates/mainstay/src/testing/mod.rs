//! For tests of services: time that moves only when nothing else can, and what a test puts around the service.
//!
//! - [`block_on_virtual`], [`Runtime`]: virtual time. A test that leaves tasks behind fails, and names them.
//! - [`Script`], [`Gate`]: what the service depends on, as the test wants it; and what was asked of it.
//! - `TestApp`: the whole service in the test's process, from the same `boot` that `main` runs.
//! - [`Logs`], [`Metrics`]: what this test has logged and counted.
//! - [`Fixture`], [`Shared`]: what is set up before a test, and torn down however it ends.
//! - [`FaultProxy`]: a network that misbehaves. [`real`], [`hold_time`], [`Patient`]: time waits for the real world.
//!
//! ```
//! use mainstay::{Client, secs, testing::block_on_virtual};
//! # use mainstay::Job;
//! # #[derive(serde::Serialize, serde::Deserialize)] struct Remind;
//! # impl Job for Remind { const KIND: &'static str = "remind"; const QUEUE: &'static str = "mail"; }
//!
//! block_on_virtual(async {
//!     let store = Client::memory();
//!     let job = store.enqueue(Remind.with().delay(secs(3600))).await?;
//!     tokio::time::sleep(secs(3601)).await; // takes no time at all
//!     assert_eq!(store.job(job.id).await?.unwrap().state.as_str(), "available");
//!     Ok::<_, mainstay::StoreError>(())
//! })
//! .unwrap();
//! ```
//!
//! Everything that takes its time from `tokio::time` or from mainstay's own clock obeys: sleeps, time limits, back-off,
//! leases, schedules, health checks, the stamps of log lines. What runs on other threads does not: a store in a file
//! waits on a thread of its own, so tests on virtual time use `memory:`.
//!
//! `docs/testing.md` shows all of it at work.
//!
//! Needs the feature `testing`, which belongs into `[dev-dependencies]`.

#[cfg(feature = "http")]
mod app;
mod clock;
mod fixture;
mod gate;
mod hold;
mod keeper;
mod leaks;
mod logs;
mod metrics;
mod proxy;
mod runtime;
mod script;
mod server;
#[cfg(test)]
mod tests;
mod wait;

#[cfg(feature = "http")]
pub use app::{Answer, Delivered, TestApp, TestBoot};
pub use clock::{START, VirtualClock};
pub use fixture::{Fixture, Shared, with_fixture};
pub use gate::Gate;
pub use hold::{Hold, Patient, hold_time, real};
pub(crate) use leaks::Sets;
pub use leaks::assert_no_leaks;
pub use logs::{Level, LogLine, Logs};
pub use metrics::Metrics;
pub use proxy::{Direction, FaultProxy, Faults};
pub(crate) use runtime::sockets_in_use;
pub use runtime::{Runtime, block_on_virtual};
pub use script::{Call, Script};
pub use server::TestServer;

pub use crate::assert_logged;

/// Compiles and runs what the page for users shows.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/testing.md")]
struct Page;

//! For tests of services: time that moves only when nothing else can.
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
//! Needs the feature `testing`, which belongs into `[dev-dependencies]`.

mod clock;
mod runtime;

pub use clock::{START, VirtualClock};
pub use runtime::{Runtime, block_on_virtual, real};

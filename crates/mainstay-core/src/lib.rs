//! Words and rules of mainstay, without a runtime, a clock or I/O.
//!
//! Read the modules in this order:
//!
//! 1. vocabulary: [`time`], [`name`], [`id`], [`lease`], [`job`], [`after`], [`queue`], [`schedule`], [`lock`],
//!    [`topic`], [`event`], [`worker`], [`access`], and [`text`], of which names are made;
//! 2. what can be asked of a store and what it answers: [`op`], [`store`], [`error`];
//! 3. the rules: [`rules`] are pure transition functions over one job, [`engine`] is the deterministic state
//!    machine built from them. It is the memory store, the heart of the embedded store, and the executable
//!    specification every other store is tested against;
//! 4. what stores share: [`clock`] is where time and chance come from, [`hub`] wakes claimers without a
//!    stampede, [`memory`] is the engine behind the [`Store`] seam.
//!
//! ```
//! use mainstay_core::rules::backoff_delay;
//! use mainstay_core::job::{Backoff, Jitter};
//!
//! let backoff = Backoff { jitter: Jitter::None, ..Backoff::default() };
//! assert_eq!(backoff_delay(&backoff, 3, 0), 4_000); // the third retry waits base × factor²
//! ```

pub mod access;
pub mod after;
pub mod clock;
pub mod engine;
pub mod error;
pub mod event;
pub mod hub;
#[cfg(test)]
mod hub_model;
#[cfg(test)]
mod hub_tests;
pub mod id;
pub mod job;
pub mod lease;
pub mod lock;
pub mod memory;
pub mod name;
pub mod op;
pub mod queue;
pub mod rules;
pub mod schedule;
pub mod store;
mod sync;
pub mod text;
pub mod time;
pub mod topic;
pub mod worker;

pub use error::{Applied, Error, ErrorKind};
pub use id::JobId;
pub use lease::{LeaseId, Token};
pub use memory::MemoryStore;
pub use name::{GroupName, QueueName, WorkerName};
pub use store::Store;
pub use time::{Now, StoreTime, Timestamp};
pub use topic::{TopicFilter, TopicName};

//! The embedded store of mainstay: everything in one SQLite file with a journal beside it, served by one process.
//!
//! What decides who gets which job is the [`Engine`](mainstay_core::engine::Engine), which lives in RAM and is rebuilt
//! when the store is opened. Its changes, those of many callers at once, become durable as one record of a journal
//! beside the file; the tables follow in the background, and whoever reads them waits until they have.
//!
//! ```no_run
//! # fn clock() -> std::sync::Arc<dyn mainstay_core::clock::Clock> { unimplemented!() }
//! use mainstay_core::Store;
//! use mainstay_sqlite::{Options, SqliteStore};
//!
//! # async fn example() -> Result<(), mainstay_core::Error> {
//! let store = SqliteStore::open(Options::new("jobs.db", clock()))?;
//! store.ping().await?;
//! store.close(std::time::Duration::from_secs(5)).await
//! # }
//! ```
//!
//! The modules, from the caller to the disk:
//!
//! 1. `store` is what callers see, `options` how it is opened, `open` how it comes to life;
//! 2. `inbox` carries commits to the `writer`, which makes groups of them, and `answer` carries the answers back;
//! 3. `journal` makes a group durable, `behind` holds it until `apply` has brought it into the `tables`; `row` and
//!    `schema` say how they look, `load` reads them at open;
//! 4. `read` answers everything else from snapshots; `cache` keeps the bodies that are about to be claimed, `archive`
//!    the finished jobs and events that the tables lack, `tail` the end of the log for all who read along;
//! 5. `checkpoint` keeps SQLite's own log short, `backup` copies the file, `lock` keeps others out;
//! 6. `fault` decides what an error of SQLite means, `aftermath` what is done after the worst of them.

mod aftermath;
mod answer;
mod apply;
mod archive;
mod backup;
mod behind;
mod cache;
mod checkpoint;
mod clock;
mod connection;
mod fault;
mod inbox;
mod journal;
mod load;
mod lock;
mod open;
mod options;
mod read;
mod row;
mod schema;
mod shared;
mod stopwatch;
mod store;
mod tables;
mod tail;
mod writer;

pub use journal::files::{Files, JournalFile};
pub use options::{Durability, FatalHook, Options};
pub use store::SqliteStore;

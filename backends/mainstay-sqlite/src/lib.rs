//! The embedded store of mainstay: everything in one SQLite file, served by one process.
//!
//! SQLite is the journal and the archive; what decides who gets which job is the
//! [`Engine`](mainstay_core::engine::Engine), which lives in RAM and is rebuilt when the file is opened. Its changes
//! reach the tables as blind writes by primary key, many callers' commits in one transaction with one sync.
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
//! 3. `tables` writes changes, `row` and `schema` say how they look, `load` reads them at open;
//! 4. `read` answers everything else from snapshots; `cache` keeps the bodies that are about to be claimed;
//! 5. `checkpoint` keeps the journal short, `backup` copies the file, `lock` keeps others out;
//! 6. `fault` decides what an error of SQLite means, `aftermath` what is done after the worst of them.

mod aftermath;
mod answer;
mod backup;
mod cache;
mod checkpoint;
mod clock;
mod connection;
mod fault;
mod inbox;
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
mod writer;

pub use options::{Durability, FatalHook, Options};
pub use store::SqliteStore;

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
//! 1. `store` is what callers see, `options` how it is opened, `open` how it comes to life, `progress` what is said
//!    while that takes long;
//! 2. the writer of `mainstay_writer` makes groups of commits; `ground` is what it stands on here, `room` whether there is
//!    room for another group;
//! 3. `journal` makes a group durable, `behind` (of `mainstay_writer`) holds it until `apply` has brought it into the
//!    `tables`, at a `pace` that lets others go first; `row` and `schema` say how the tables look, `load` reads them at open;
//! 4. `read` answers everything else from snapshots; `archive` is what the engine is told of the tables;
//! 5. `checkpoint` keeps SQLite's own log short, `backup` copies the file, `lock` keeps others out;
//! 6. `fault` decides what an error of SQLite means, `aftermath` what is done after the worst of them.

mod aftermath;
mod apply;
mod archive;
mod backup;
mod checkpoint;
mod connection;
mod fault;
mod ground;
mod journal;
mod load;
mod lock;
mod open;
mod options;
mod pace;
mod progress;
mod read;
mod room;
mod row;
mod schema;
mod shared;
mod store;
mod sync;
mod tables;

use mainstay_writer::{answer, behind, block, clock, inbox, message, places, stopwatch, tail};

pub use journal::files::{Files, JournalFile};
pub use options::{Durability, FatalHook, Options, ProgressHook};
pub use store::SqliteStore;

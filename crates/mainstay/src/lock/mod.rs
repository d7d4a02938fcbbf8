//! Locks with a TTL that are safe to use: first come first served, kept by themselves, and loud when they are lost.
//!
//! ```
//! use mainstay::{Client, secs};
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # let store = Client::memory();
//! let report = store.lock("report:2026-11")?.ttl(secs(30)).acquire().await?;
//! let written = report.run(async {
//!     // Dropped half-way if the lock is lost. What is written carries `report.token()`.
//!     store.commit().require_lock(&report).await
//! });
//! written.await??;
//! report.release().await?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! A lock with a TTL is a promise of the *store*: to give it to nobody else before it has run out there. A holder that is
//! paused for longer goes on when it wakes, believing. [`LockGuard`] makes that window as small as a clock can; what closes
//! it is [`fence`]: what is written to compares tokens. `docs/locks.md` says what can be relied on, case by case.
//!
//! - [`Lock`] says how a lock is asked for; [`LockGuard`] is one that is held; [`LockLost`] says why it is not any more.
//! - [`Election`]: one leader at a time, and who it is.
//! - [`Term`]: how long a grant may be relied on, for those who hold locks by other means.

mod election;
pub mod fence;
mod guard;
mod hold;
#[cfg(test)]
mod hold_model;
mod keeper;
#[cfg(test)]
mod keeper_model;
mod request;
mod term;

pub use election::{Election, Leader, Leadership, Observer};
pub use guard::LockGuard;
pub use hold::{LockLost, Loss};
pub(crate) use keeper::Keeper;
pub use request::Lock;
pub use term::Term;

use crate::sync;

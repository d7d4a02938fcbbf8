//! The mainstay server as a library: what the binary is made of, and what its tests start in process.
//!
//! Read the modules in this order:
//!
//! 1. [`serve`]: flags, configuration, and the boot that puts everything together;
//! 2. [`api`]: the routes under `/v1`, a resource a file; its `error` is the only place that knows which code stands
//!    for which of a store's reasons;
//! 3. [`auth`]: who asks, and whether they may;
//! 4. [`admin`]: tokens, audit trail and backup on the admin listener;
//! 5. [`bench`](mod@bench): what it all costs on this machine;
//! 6. [`openapi`], and [`pages`] for people: `/docs` and `/ui/`.

#![warn(clippy::unwrap_used)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod admin;
pub mod api;
pub mod auth;
pub mod bench;
mod docs;
pub mod openapi;
pub mod pages;
pub mod serve;
mod ui;

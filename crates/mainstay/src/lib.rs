//! The production chassis for async services: life cycle and graceful drain, health, logs, metrics, configuration
//! and HTTP, in one consistent piece.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use axum::{Router, routing::get};
//! use mainstay::{App, Boot, Result};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Config { listen: String }
//!
//! impl Default for Config {
//!     fn default() -> Self {
//!         Self { listen: "127.0.0.1:8080".into() }
//!     }
//! }
//!
//! async fn boot(b: &mut Boot<Config>) -> Result<()> {
//!     b.http(&b.config.listen, Router::new().route("/", get(|| async { "hello\n" })));
//!     Ok(())
//! }
//!
//! fn main() -> ExitCode {
//!     App::new("shop").run(boot)
//! }
//! ```
//!
//! # Contents
//! - [`App`] runs a service; [`Boot`] is what its `boot` registers things with. [`Ended`] says how it went.
//! - [`shutdown`]: the phases of the end, and the handle that shows them.
//! - [`streams`]: event streams and WebSockets that end when the service does.
//! - [`tasks`]: the owner of every spawned task.
//! - [`context`]: what travels with a request to tasks, jobs, calls and log lines.
//! - [`config`]: defaults < file < variables < flags, checked all at once.
//! - [`health`]: background checks and probes.
//! - [`log`]: `tracing` in, flat lines out. [`telemetry`]: `metrics` in, Prometheus and StatsD out.
//! - `testing` (feature): virtual time, scripts for dependencies, log and metric capture, fixtures and a fault proxy for
//!   tests.
//! - [`event`]: events as a program sees them. [`bus`]: the event bus of a process. [`group`]: handlers of the log.
//! - [`queue`]: one bounded queue, with a rule for when it is full. [`rate`]: rate limits by key.
//! - [`pool`]: workers for jobs inside the process. [`scale`]: how many.
//! - [`pipeline`]: layers around any handler, as one list that can be read.
//! - [`admission`]: how much runs at once: as much as the server can do.
//! - [`lock`]: locks with a TTL that are kept by themselves, told when lost, and fenced; leader election.
//! - [`schedules`]: jobs that are enqueued again and again.
//! - [`policy`]: time limits, retries, breaker and their kin around calls that may fail.
//! - [`http`]: listeners with an orderly end. [`request`]: the pipeline of every request. [`auth`]: who asks.

#![warn(clippy::unwrap_used)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(feature = "http")]
mod admin;
#[cfg(not(feature = "http"))]
#[path = "admin/none.rs"]
mod admin;
pub mod admission;
mod app;
#[cfg(feature = "http")]
pub mod auth;
pub mod bus;
pub mod client;
mod clock;
pub mod config;
pub mod context;
mod error;
pub mod event;
pub mod group;
pub mod health;
#[cfg(feature = "http")]
pub mod http;
pub mod job;
pub mod lock;
pub mod log;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(not(feature = "otlp"))]
#[path = "otlp/none.rs"]
mod otlp;
pub mod pipeline;
pub mod policy;
pub mod pool;
pub mod queue;
pub mod rate;
#[cfg(feature = "http")]
pub mod request;
pub mod scale;
pub mod schedules;
pub mod shutdown;
#[cfg(feature = "testing")]
mod stage;
#[cfg(not(feature = "testing"))]
#[path = "stage/none.rs"]
mod stage;
pub mod store;
pub mod streams;
mod sync;
pub mod tasks;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
pub mod workers;

pub use app::{App, Boot, Component, Ended, IntoResult, Overstayer, Pool, PoolStatus, Restart};
pub use app::{OnReload, Reload, Reloaded, Starting, StartingPool};
pub use bus::Bus;
pub use client::{Client, CommitBuilder, PutSchedule, StoreError};
pub use clock::SystemClock;
pub use config::Secret;
pub use context::Context;
pub use error::{Error, ErrorKind, Result};
pub use event::{Event, EventContext};
pub use health::Weight;
pub use job::{Job, JobBuilder, JobError};
pub use lock::{Lock, LockGuard, LockLost};
pub use mainstay_core as core;
pub use policy::{Policies, Policy};
pub use pool::WorkerPool;
pub use shutdown::Shutdown;
pub use tasks::TaskSet;
pub use time::{millis, secs};
pub use workers::{JobContext, Workers};

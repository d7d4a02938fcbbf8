//! The API: everything under `/v1`.
//!
//! A request becomes a `Call` (who asks, until when, with what), its handler reads an
//! `Input` (every mistake at once), speaks to the store, and answers or fails with a problem.

mod answer;
mod audit;
mod call;
mod commit;
mod convert;
mod dead;
pub(crate) mod error;
mod events;
pub(crate) mod input;
mod jobs;
mod key;
mod locks;
mod queues;
mod routes;
mod schedules;
mod store;
mod wait;
mod workers;

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use mainstay::rate::RateLimiter;
use mainstay::{Client, Shutdown, TaskSet};
use mainstay_api::Limits;

pub(crate) use self::answer::{empty, json};
pub(crate) use self::audit::{audit, request_and_reason};
pub(crate) use self::call::{Answer, Call, with};
pub use self::events::Schemas;
pub(crate) use self::input::Input;
pub(crate) use self::jobs::read::page;
pub(crate) use self::key::Keyed;
pub use self::routes::routes;
use crate::auth::{Origins, Tokens};

/// What every handler needs. Cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Parts>);

/// What an [`Api`] is made of.
pub struct Parts {
    /// Where everything is kept.
    pub store: Client,
    /// Who may.
    pub tokens: Arc<Tokens>,
    /// Which web pages may.
    pub origins: Origins,
    /// How often one caller may; `None` for as often as they like.
    pub rate: Option<RateLimiter>,
    /// How large requests may be.
    pub limits: Limits,
    /// How many bytes of jobs one claim answers.
    pub claim_bytes: u64,
    /// Where a copy of the store may lie for a while.
    pub backup_dir: PathBuf,
    /// What events of each topic have to look like.
    pub schemas: Schemas,
    /// Whether new work is begun.
    pub shutdown: Shutdown,
    /// Owns what must happen although its request is over.
    pub tasks: TaskSet,
}

impl Api {
    /// An API of these parts.
    pub fn new(parts: Parts) -> Api {
        Api(Arc::new(parts))
    }
}

impl Deref for Api {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

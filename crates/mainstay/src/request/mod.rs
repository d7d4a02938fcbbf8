//! The pipeline every request goes through: outcome, context, limits, panic guard.
//!
//! It is a tower layer, so any axum router can have it (`router.layer(Pipeline::default())`); `b.http(…)` puts it
//! there by itself.

mod body;
mod meters;
mod outcome;
mod refusal;
mod service;

use std::time::Duration;

use axum::response::{IntoResponse, Response};

pub use outcome::Outcome;
pub use refusal::Refusal;
pub use service::Piped;

use crate::config::Settings;
use crate::millis;

/// How requests are limited and how refusals look. Plain data; see [`Piped`] for the order of the steps.
#[derive(Debug, Clone)]
pub struct Pipeline {
    body_limit: usize,
    body_timeout: Duration,
    time_limit: Option<Duration>,
    refuse: fn(Refusal) -> Response,
}

impl Default for Pipeline {
    fn default() -> Self {
        Self::from_settings(&Settings::default())
    }
}

impl Pipeline {
    /// The limits of a configuration.
    pub fn from_settings(settings: &Settings) -> Self {
        Self {
            body_limit: settings.max_body_bytes,
            body_timeout: millis(settings.body_timeout_ms),
            time_limit: None,
            refuse: |refusal| refusal.into_response(),
        }
    }

    /// The longest request body, in bytes: 413 if it is declared longer, an error while reading if it gets longer.
    /// Defaults to the setting `max_body_bytes`.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }

    /// How long a client may take over a body, counted from the head; then reading it is an error. Defaults to the
    /// setting `body_timeout_ms`.
    #[must_use]
    pub fn body_timeout(mut self, limit: Duration) -> Self {
        self.body_timeout = limit;
        self
    }

    /// How long a handler may take to answer; then it is dropped and the answer is 504. A caller's
    /// `x-request-timeout-ms` may shorten it. No limit by default.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    /// Says refusals in the API's own words. By default they are `application/problem+json`.
    #[must_use]
    pub fn refuse_with(mut self, refuse: fn(Refusal) -> Response) -> Self {
        self.refuse = refuse;
        self
    }
}

impl<S> tower::Layer<S> for Pipeline {
    type Service = Piped<S>;

    fn layer(&self, inner: S) -> Piped<S> {
        Piped::new(self.clone(), inner)
    }
}

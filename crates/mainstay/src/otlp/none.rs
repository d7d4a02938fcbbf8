//! Without the feature `otlp` no traces are exported.

use std::time::Duration;

use crate::context::FieldValue;

pub(crate) enum Kind {
    #[cfg(feature = "http")]
    Server,
    Consumer,
}

pub(crate) fn check(endpoint: &str) -> Result<(), String> {
    if endpoint.trim().is_empty() {
        return Ok(());
    }
    Err("needs a service that is built with mainstay's feature `otlp`".to_owned())
}

pub(crate) fn start(_: &str, _: &str) {}

#[cfg(feature = "http")]
pub(crate) const fn is_on() -> bool {
    false
}

pub(crate) fn ended(
    _: Kind,
    _: Duration,
    _: impl FnOnce() -> (String, bool, Vec<(&'static str, FieldValue)>),
) {
}

pub(crate) fn flush(_: Duration) {}

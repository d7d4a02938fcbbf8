//! Readers that several requests share.

use std::str::FromStr;

use crate::limits::MAX_SPAN_MS;
use crate::names::{NAME_RULE, is_name};
use crate::strict::{Cx, Path, Value, int, text};
use crate::{JobId, RawJson};

/// A string shown to nobody but its owner: a lease.
pub(super) fn lease(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<String> {
    text(1..=512)(cx, at, value)
}

/// A name of a queue, lock, group, worker, …
pub(super) fn name(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<String> {
    crate::strict::matching(is_name, NAME_RULE)(cx, at, value)
}

/// A key or kind: free text of 1 to 256 bytes.
pub(super) fn key(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<String> {
    text(1..=256)(cx, at, value)
}

/// Free text of 1 to 256 bytes that a line of a list can show.
pub(super) fn text_line(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<String> {
    let text = key(cx, at, value)?;
    if text.chars().any(char::is_control) {
        cx.error(at, "must not have control characters");
        return None;
    }
    Some(text)
}

/// The id of a job that may exist.
pub(super) fn job_id(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<JobId> {
    match JobId::from_str(&value.as_str().unwrap_or_default()) {
        Ok(id) => Some(id),
        Err(error) => {
            cx.error(at, error.to_string());
            None
        }
    }
}

/// The id of a job to be made.
pub(super) fn new_job_id(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<JobId> {
    let id = job_id(cx, at, value)?;
    if !id.is_v7() {
        cx.error(at, "must be a UUID of version 7");
        return None;
    }
    Some(id)
}

/// A time span, zero included.
pub(super) fn span(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<u64> {
    int(0..=MAX_SPAN_MS)(cx, at, value)
}

/// A time span of at least a millisecond.
pub(super) fn some_span(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<u64> {
    int(1..=MAX_SPAN_MS)(cx, at, value)
}

/// How long a lease is to live.
pub(super) fn lease_span(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<u64> {
    int(cx.limits.lease_min_ms..=cx.limits.lease_max_ms)(cx, at, value)
}

/// A free-form object of at most `max` bytes of text.
pub(super) fn raw_object(max: usize) -> impl Fn(&mut Cx<'_>, &Path<'_>, Value<'_>) -> Option<RawJson> {
    move |cx, at, value| {
        if value.members().is_none() {
            cx.error(at, "must be an object");
            return None;
        }
        crate::strict::raw(max)(cx, at, value)
    }
}

//! What is kept of the words of a nack.

use std::sync::Arc;

use crate::job::JobFailure;

/// Of an event that is delivered again: so many bytes of message and backtrace together. A group may have ten thousand
/// such events in RAM.
const KEPT: usize = 1_024;
/// Of one that dies, which is not in RAM: so many bytes of the message. It is what a server takes.
const MESSAGE: usize = 16 << 10;
/// So many of its backtrace. A server takes 16 KiB unless it is told otherwise.
const BACKTRACE: usize = 1 << 20;
/// So many of the class of errors.
const KIND: usize = 256;

/// What was said, with a bound.
pub(super) fn bounded(error: &JobFailure) -> Arc<JobFailure> {
    Arc::new(JobFailure {
        kind: error.kind.as_ref().map(|kind| start(kind, KIND)),
        message: start(&error.message, MESSAGE),
        backtrace: error.backtrace.as_ref().map(|backtrace| start(backtrace, BACKTRACE)),
    })
}

/// The beginning of it, if it is longer than what is kept while the event lives.
pub(super) fn beginning(error: Arc<JobFailure>) -> Arc<JobFailure> {
    let backtrace = error.backtrace.as_deref().map_or(0, str::len);
    if error.message.len() + backtrace <= KEPT {
        return error;
    }
    let message = start(&error.message, KEPT);
    let left = KEPT - message.len();
    let backtrace = error.backtrace.as_ref().map(|backtrace| start(backtrace, left));
    Arc::new(JobFailure {
        kind: error.kind.clone(),
        message,
        backtrace: backtrace.filter(|backtrace| !backtrace.is_empty()),
    })
}

/// At most so many bytes of a text, in whole characters.
fn start(text: &Arc<str>, bytes: usize) -> Arc<str> {
    if text.len() <= bytes {
        return text.clone();
    }
    let whole = (0..=bytes).rev().find(|at| text.is_char_boundary(*at));
    text[..whole.unwrap_or(0)].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: usize, backtrace: Option<usize>) -> (usize, Option<usize>) {
        let text = |bytes: usize| -> Arc<str> { "é".repeat(bytes / 2).into() };
        let error = JobFailure { kind: None, message: text(message), backtrace: backtrace.map(text) };
        let kept = beginning(bounded(&error));
        (kept.message.len(), kept.backtrace.as_deref().map(str::len))
    }

    #[test]
    fn the_beginning_of_an_error_is_kept_in_whole_characters() {
        assert_eq!(said(1_000, Some(24)), (1_000, Some(24)), "as it was");
        assert_eq!(said(1_000, Some(4_000)), (1_000, Some(24)));
        assert_eq!(said(1_002, Some(4_000)), (1_002, Some(22)));
        assert_eq!(said(40_000, Some(4_000)), (1_024, None));
        let error =
            JobFailure { message: format!("a{}", "é".repeat(20_000)).into(), ..JobFailure::default() };
        let bounded = bounded(&error);
        assert_eq!(bounded.message.len(), MESSAGE - 1);
        assert_eq!(beginning(bounded).message.len(), KEPT - 1);
    }
}

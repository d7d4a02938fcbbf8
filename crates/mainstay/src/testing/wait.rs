//! Waiting for a signal, with an end.

use std::{panic::Location, time::Duration};

use tokio::{sync::watch, time::timeout};

use crate::secs;

/// On real time: longer than a loaded machine needs for anything a test waits for.
const REAL: Duration = secs(30);
/// On virtual time: shorter than a runtime's own limit, so that the message says what was waited for.
pub(super) const VIRTUAL: Duration = secs(6 * 86_400);

pub(super) fn limit() -> Duration {
    if crate::clock::virtual_wall().is_some() { VIRTUAL } else { REAL }
}

/// Waits until `enough` says so; otherwise panics with what `tell` says of the last state.
pub(super) async fn until<T>(
    from: &watch::Sender<T>,
    at: &'static Location<'static>,
    enough: impl FnMut(&T) -> bool,
    tell: impl FnOnce(&T) -> String,
) {
    let limit = limit();
    let mut seen = from.subscribe();
    // The sender is borrowed: the channel is not closed while this waits.
    if timeout(limit, seen.wait_for(enough)).await.is_err() {
        let told = tell(&from.borrow());
        panic!("{told}, after {limit:?}; waited for at {at}");
    }
}

//! What a script remembers of its calls, and how it is told.

use std::{
    fmt::{Debug, Write as _},
    panic::Location,
    sync::Arc,
    time::Duration,
};

/// A message shows this many calls, the last ones.
const SHOWN: usize = 30;

pub(super) struct Record<A> {
    pub args: Arc<A>,
    pub fate: Fate,
    /// Since the first call.
    pub at: Duration,
    pub from: &'static Location<'static>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Pending,
    Awaited,
    Cancelled,
    Panicked,
    Beyond,
}

#[derive(Default)]
pub(super) struct Counts {
    pub called: usize,
    pub awaited: usize,
    pub cancelled: usize,
}

/// One line a call.
pub(super) fn told<A: Debug>(calls: &[Record<A>]) -> String {
    if calls.is_empty() {
        return "it was never called".to_owned();
    }
    let mut out = "its calls:".to_owned();
    let earlier = calls.len().saturating_sub(SHOWN);
    if earlier > 0 {
        let _ = write!(out, "\n     … {earlier} before these");
    }
    for (index, call) in calls.iter().enumerate().skip(earlier) {
        let fate = match call.fate {
            Fate::Pending => "pending",
            Fate::Awaited => "awaited",
            Fate::Cancelled => "cancelled",
            Fate::Panicked => "panicked",
            Fate::Beyond => "beyond the last step",
        };
        let (args, at, from) = (&call.args, call.at, call.from);
        let _ = write!(out, "\n{:>6}. {args:?}: {fate}, at +{at:?}, from {from}", index + 1);
    }
    out
}

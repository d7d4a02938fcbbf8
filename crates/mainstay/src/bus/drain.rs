//! Quiet, and the orderly end.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::{FutureExt, future::join_all};
use tokio::time::{Instant, timeout_at};

use super::{Inner, outlet::Outlet};

/// How a bus ended. Listeners are not part of it: they read on by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// By subscription, in the order of their subscribing.
    pub subscribers: Vec<SubscriberDrained>,
}

/// How a subscription ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriberDrained {
    /// Its name.
    pub name: Arc<str>,
    /// Events that nobody handled any more; they are gone.
    pub left: usize,
    /// Events that were still being handled at the deadline.
    pub unfinished: usize,
}

impl Drained {
    /// Whether everything was handled.
    pub fn is_complete(&self) -> bool {
        self.subscribers.iter().all(SubscriberDrained::is_complete)
    }
}

impl SubscriberDrained {
    /// Whether everything was handled.
    pub fn is_complete(&self) -> bool {
        self.left == 0 && self.unfinished == 0
    }
}

impl std::fmt::Display for SubscriberDrained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "subscriber {}: {} left, {} unfinished", self.name, self.left, self.unfinished)
    }
}

impl std::fmt::Display for Drained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_complete() {
            return f.write_str("everything was handled");
        }
        let mut incomplete = self.subscribers.iter().filter(|subscriber| !subscriber.is_complete());
        let first = incomplete.next().map(ToString::to_string).unwrap_or_default();
        f.write_str(&first)?;
        incomplete.try_for_each(|subscriber| write!(f, "; {subscriber}"))
    }
}

pub(super) async fn idle(bus: &Inner) {
    let _waiting = Waiting::begin(&bus.waiting_for_quiet);
    loop {
        let mut quiet = pin!(bus.quiet.notified());
        // Before looking: what ends from now on is heard.
        quiet.as_mut().enable();
        let begun = bus.begun.load(Ordering::SeqCst);
        let publishing = bus.ended.load(Ordering::SeqCst) != begun;
        let outlets = bus.routes.outlets();
        let busy = outlets.iter().any(|outlet| outlet.queue.idle().now_or_never().is_none());
        // A handler may have published behind our backs and be idle by now: then there was a publish.
        if !publishing && !busy && bus.begun.load(Ordering::SeqCst) == begun {
            return;
        }
        if publishing {
            quiet.await;
        } else {
            join_all(outlets.iter().map(|outlet| outlet.queue.idle())).await;
        }
    }
}

pub(super) async fn drain(bus: &Inner, deadline: Instant) -> Drained {
    // While it is open, so that what handlers publish on the way is handled as well.
    let _ = timeout_at(deadline, idle(bus)).await;
    bus.closed.store(true, Ordering::SeqCst);
    let outlets = bus.routes.outlets();
    bus.routes.close();
    let subscribers = join_all(outlets.iter().map(|outlet| finish(outlet, deadline))).await;
    Drained { subscribers }
}

/// Waits until a subscription has nothing left, until `deadline`, and takes away what it has then.
pub(super) async fn finish(outlet: &Outlet, deadline: Instant) -> SubscriberDrained {
    let drained = outlet.queue.drain_by(deadline).await;
    SubscriberDrained { name: outlet.name.clone(), left: drained.left.len(), unfinished: drained.unfinished }
}

struct Waiting<'b>(&'b AtomicUsize);

impl<'b> Waiting<'b> {
    fn begin(waiting: &'b AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

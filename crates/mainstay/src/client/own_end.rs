//! Handlers that end what they have in hand by themselves, in a commit.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// What is known of such a commit. Once it is done the lease is gone, and that is no loss: it is not renewed any more,
/// and the handler goes on to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnEnd(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Commits that have been sent and not answered.
    under_way: AtomicUsize,
    done: AtomicBool,
}

impl OwnEnd {
    pub fn is_done(&self) -> bool {
        self.0.done.load(Ordering::SeqCst)
    }

    /// Whether it is done, as far as the handler knows; it may be, while its answer is on the way.
    pub fn may_be_done(&self) -> bool {
        // In this order: what is under way is done before it is under way no more.
        self.0.under_way.load(Ordering::SeqCst) > 0 || self.is_done()
    }

    pub(super) fn begin(&self) -> UnderWay {
        self.0.under_way.fetch_add(1, Ordering::SeqCst);
        UnderWay(self.0.clone())
    }
}

/// A commit that has been sent. Dropped before it was done, it has failed, or nobody waits for its answer any more.
pub(super) struct UnderWay(Arc<State>);

impl UnderWay {
    pub fn done(self) {
        self.0.done.store(true, Ordering::SeqCst);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

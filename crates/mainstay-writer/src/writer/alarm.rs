//! Wakes the writer when the clock has reached a time.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use mainstay_core::StoreTime;

use crate::{clock::StoreClock, inbox::Inbox, message::Message};

/// A sleep on the store's clock that rings the inbox at its end.
pub(super) struct Alarm {
    clock: StoreClock,
    waker: Waker,
    set: Option<(StoreTime, Sleep)>,
    broken: bool,
}

type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How often the writer looks at the clock itself when sleeping on it does not work.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

impl Alarm {
    pub(super) fn new(clock: StoreClock, inbox: Arc<Inbox<Message>>) -> Alarm {
        Alarm { clock, waker: Waker::from(inbox), set: None, broken: false }
    }

    /// Sets the alarm (`None`: for never). Answers how long the writer may sleep even if it does not ring; `None`:
    /// for ever.
    pub(super) fn set(&mut self, at: Option<StoreTime>) -> Option<Duration> {
        let at = at?;
        if self.broken {
            return Some(LOOK_AGAIN);
        }
        if self.set.as_ref().is_none_or(|(set, _)| *set != at) {
            let clock = self.clock.clone();
            self.set = Some((at, Box::pin(async move { clock.sleep_until(at).await })));
        }
        let Some((_, sleep)) = &mut self.set else { return None };
        let mut cx = Context::from_waker(&self.waker);
        // A clock on a runtime's timers panics once that runtime is gone; the store outlives that.
        match catch_unwind(AssertUnwindSafe(|| sleep.as_mut().poll(&mut cx))) {
            Ok(Poll::Pending) => None,
            Ok(Poll::Ready(())) => {
                self.set = None;
                Some(Duration::ZERO)
            }
            Err(_) => {
                (self.broken, self.set) = (true, None);
                Some(LOOK_AGAIN)
            }
        }
    }
}

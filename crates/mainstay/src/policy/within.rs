//! A future with an end, for free while it is quick.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

pin_project_lite::pin_project! {
    /// The future's output, or `None` when its time is over. The timer is made when the future first waits: one that
    /// is ready at once pays for none.
    pub(crate) struct Within<F> {
        #[pin]
        future: F,
        at: Option<Instant>,
        #[pin]
        timer: Option<Sleep>,
    }
}

impl<F> Within<F> {
    pub fn new(future: F, at: Option<Instant>) -> Self {
        Self { future, at, timer: None }
    }
}

impl<F: Future> Future for Within<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // First the future: an outcome that is there is never thrown away for the time.
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Some(output));
        }
        let Some(at) = *this.at else { return Poll::Pending };
        if this.timer.is_none() {
            this.timer.set(Some(sleep_until(at)));
        }
        match this.timer.as_pin_mut() {
            Some(timer) => timer.poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    }
}

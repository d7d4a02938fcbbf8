//! A future with an end, for free while it is quick.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::coop::{Unconstrained, unconstrained};
use tokio::time::{Instant, Sleep, sleep_until};

pin_project_lite::pin_project! {
    /// The future's output, or `None` when its time is over. The timer is made when the future first waits: one that
    /// is ready at once pays for none.
    pub(crate) struct Within<F> {
        #[pin]
        future: F,
        at: Option<Instant>,
        // Outside of the task's budget: a future that always uses it up would never be found late.
        #[pin]
        timer: Option<Unconstrained<Sleep>>,
    }
}

impl<F> Within<F> {
    pub fn new(future: F, at: Option<Instant>) -> Self {
        Self { future, at, timer: None }
    }
}

impl<F: Future> Future for Within<F> {
    type Output = Option<F::Output>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // First the future: an outcome that is there is never thrown away for the time.
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Some(output));
        }
        let Some(at) = *this.at else { return Poll::Pending };
        if this.timer.is_none() {
            this.timer.set(Some(unconstrained(sleep_until(at))));
        }
        match this.timer.as_pin_mut() {
            Some(timer) => timer.poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join;
    use tokio::task::coop::consume_budget;
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_future_that_never_rests_is_late_all_the_same() {
        let busy = async {
            for _ in 0..100_000 {
                consume_budget().await;
            }
        };
        let at = Instant::now() + Duration::from_secs(1);
        let (ended, ()) = join(Within::new(busy, Some(at)), advance(Duration::from_secs(2))).await;
        assert_eq!(ended, None);
    }
}

//! Futures that stand beside a busier one in the same task.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

pin_project_lite::pin_project! {
    /// The same future, polled only when it has itself been woken: what waits for a drain, or for a client to be
    /// silent, stands beside each connection, which wakes for every request.
    pub(super) struct Aside<F> {
        #[pin]
        future: F,
        bell: Arc<Bell>,
        // The bell as the future sees it.
        ring: Waker,
    }
}

struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F> Aside<F> {
    pub fn new(future: F) -> Self {
        // Rung: the first poll is to begin it.
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: AtomicWaker::new() });
        Self { future, ring: bell.clone().into(), bell }
    }
}

impl<F: Future> Future for Aside<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        // Before the look: a ring in between wakes the task.
        this.bell.task.register(cx.waker());
        // Taken back before the poll: a ring meanwhile asks for another one. Only looked at in the usual case, which
        // costs a tenth of taking it back.
        if !this.bell.rung.load(Ordering::Relaxed) || !this.bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        this.future.poll(&mut Context::from_waker(this.ring))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::pin::pin;

    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_when_it_is_woken_and_not_with_its_neighbour() {
        let polls = Cell::new(0);
        let (end, mut ended) = oneshot::channel();
        let beside = poll_fn(|cx| {
            polls.set(polls.get() + 1);
            ended.poll_unpin(cx)
        });
        let mut beside = pin!(Aside::new(beside));
        for _ in 0..100 {
            assert!(poll_fn(|cx| Poll::Ready(beside.as_mut().poll(cx))).await.is_pending());
            tokio::task::yield_now().await;
        }
        assert_eq!(polls.get(), 1);
        end.send(7).unwrap();
        assert_eq!(beside.await, Ok(7));
        assert_eq!(polls.get(), 2);
    }
}

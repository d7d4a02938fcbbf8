//! Whether there is still somebody to answer, and whether an answer got out.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::extract::FromRequestParts;
use bytes::Bytes;
use http::request::Parts;
use http_body::{Body as HttpBody, Frame, SizeHint};

/// Watches answers on their way out of a connection, for those that hand over something which must be taken back if
/// nobody got it. An extractor. Cheap to clone.
#[derive(Clone, Default)]
pub struct Delivery(Arc<Outgoing>);

/// What happens if an answer is lost.
type Lost = Box<dyn FnOnce() + Send>;

/// What a connection knows about its answers.
#[derive(Default)]
pub(crate) struct Outgoing {
    /// Of those whose last byte it has taken, but not yet handed to the system.
    taken: Mutex<Vec<Lost>>,
    /// There are some: asked at every flush, and most connections never have any.
    any: AtomicBool,
    /// Somebody wants to know whether the client is still there.
    asked: AtomicBool,
}

impl Delivery {
    pub(super) fn on(outgoing: Arc<Outgoing>) -> Self {
        Self(outgoing)
    }

    /// Looks whether the client has closed its connection, which a busy server may not have got round to noticing.
    /// If it has, this does not return: the request is dropped here.
    ///
    /// On HTTP/1.1; HTTP/2 notices by itself, a little later.
    pub async fn check_client(&self) {
        self.0.asked.store(true, Ordering::Relaxed);
        // The connection is looked at before its handlers are.
        tokio::task::yield_now().await;
    }

    /// The same body; `lost` is called, once, if the connection ends before all of it was handed to the system. What
    /// the client's machine makes of it afterwards nobody here can know.
    ///
    /// On HTTP/2, a body larger than the stream's window counts as handed over a little early.
    pub fn watch(&self, body: Body, lost: impl FnOnce() + Send + 'static) -> Body {
        Body::new(Watched { body, pending: Pending { lost: Some(Box::new(lost)), to: self.0.clone() } })
    }
}

impl Outgoing {
    /// Whether somebody wants to know about the client; once.
    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) && self.asked.swap(false, Ordering::Relaxed)
    }

    /// All that was taken so far is out.
    pub fn flushed(&self) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let out = std::mem::take(&mut *self.taken.lock().unwrap_or_else(PoisonError::into_inner));
        drop(out);
    }

    fn push(&self, lost: Lost) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).push(lost);
        self.any.store(true, Ordering::Release);
    }
}

/// The connection is gone: what was not flushed never will be.
pub(crate) struct LostWithConnection(pub Arc<Outgoing>);

impl Drop for LostWithConnection {
    fn drop(&mut self) {
        let lost = std::mem::take(&mut *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner));
        lost.into_iter().for_each(|lost| lost());
    }
}

pin_project_lite::pin_project! {
    struct Watched {
        #[pin]
        body: Body,
        pending: Pending,
    }
}

/// Dropped before its body's end: lost.
struct Pending {
    lost: Option<Lost>,
    to: Arc<Outgoing>,
}

impl Pending {
    fn taken(&mut self) {
        if let Some(lost) = self.lost.take() {
            self.to.push(lost);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(lost) = self.lost.take() {
            lost();
        }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        // A body whose length is known is not asked again after its last byte.
        if frame.is_none() || this.body.is_end_stream() || this.body.size_hint().exact() == Some(0) {
            this.pending.taken();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<S: Sync> FromRequestParts<S> for Delivery {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(&parts.extensions))
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use http_body_util::BodyExt;

    use super::*;

    fn watched(delivery: &Delivery) -> (Body, Arc<AtomicU32>) {
        let lost = Arc::new(AtomicU32::new(0));
        let count = lost.clone();
        let body = delivery.watch(Body::from("grant"), move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        (body, lost)
    }

    #[test]
    fn a_body_that_is_dropped_before_its_end_is_lost() {
        let (body, lost) = watched(&Delivery::default());
        drop(body);
        assert_eq!(lost.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_body_that_was_taken_is_lost_with_the_connection_unless_it_was_flushed() {
        let outgoing = Arc::<Outgoing>::default();
        let connection = LostWithConnection(outgoing.clone());
        let delivery = Delivery::on(outgoing.clone());
        let (first, first_lost) = watched(&delivery);
        first.collect().await.unwrap();
        outgoing.flushed();
        let (second, second_lost) = watched(&delivery);
        second.collect().await.unwrap();
        drop(connection);
        assert_eq!((first_lost.load(Ordering::Relaxed), second_lost.load(Ordering::Relaxed)), (0, 1));
    }
}

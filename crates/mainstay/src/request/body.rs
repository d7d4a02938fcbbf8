//! Bodies that are watched: the request's for its limits, the response's for its end.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::outcome::Guard;

type BoxError = Box<dyn StdError + Send + Sync>;

pin_project_lite::pin_project! {
    /// A request body that may be only so long, and take only so long.
    ///
    /// Its error is [`http_body_util::LengthLimitError`] (which axum's extractors answer with 413) or an
    /// [`std::io::Error`] of kind `TimedOut`.
    pub(super) struct Limited {
        #[pin]
        body: http_body_util::Limited<Body>,
        limit: Duration,
        // Made when the body is first waited for: most have arrived with the head.
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl Limited {
    pub fn new(body: Body, bytes: usize, limit: Duration) -> Self {
        Self { body: http_body_util::Limited::new(body, bytes), limit, timer: None }
    }
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        if let Poll::Ready(frame) = this.body.poll_frame(cx) {
            return Poll::Ready(frame);
        }
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(*this.limit)));
        ready!(timer.as_mut().poll(cx));
        let late = std::io::Error::new(std::io::ErrorKind::TimedOut, "the request's body took too long");
        Poll::Ready(Some(Err(late.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How long a body that nobody wants may take.
const DISCARD_LIMIT: Duration = crate::secs(5);

/// Reads a body that is refused, within bounds (twice what is allowed, five seconds), and keeps nothing of it: most
/// clients read no answer before they have sent everything, and would see a broken connection instead.
pub(super) async fn discard(body: Body, allowed: usize) {
    let mut body = std::pin::pin!(http_body_util::Limited::new(body, allowed.saturating_mul(2)));
    let read =
        async { while let Some(Ok(_)) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {} };
    // Late or too long even so: the answer is sent all the same.
    let _ = tokio::time::timeout(DISCARD_LIMIT, read).await;
}

pin_project_lite::pin_project! {
    /// A response body that tells its guard when it has been sent.
    pub(super) struct Watched {
        #[pin]
        body: Body,
        guard: Guard,
        // What is left of a length that only the head declares.
        left: Option<u64>,
    }
}

impl Watched {
    pub fn new(body: Body, head: &HeaderMap, mut guard: Guard) -> Self {
        if body.is_end_stream() {
            guard.sent();
        }
        let left = if body.size_hint().exact().is_some() { None } else { declared(head) };
        Self { body, guard, left }
    }
}

fn declared(head: &HeaderMap) -> Option<u64> {
    head.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut this = self.project();
        // A stream's lines belong to its request.
        let frame = ready!(this.guard.within(|| this.body.as_mut().poll_frame(cx)));
        if let (Some(left), Some(Ok(frame))) = (this.left.as_mut(), &frame) {
            *left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        // A body whose length is known, by itself or by the head, is not asked again after its last byte.
        let complete = this.body.size_hint().exact() == Some(0) || *this.left == Some(0);
        if frame.is_none() || this.body.is_end_stream() || complete {
            this.guard.sent();
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

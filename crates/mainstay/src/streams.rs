//! Streams and sockets that end when the service does.
//!
//! An event stream or a WebSocket has no end of its own: without being told it would stay open until the drain's time
//! is up and be cut. [`Shutdown`] is an axum extractor, so any handler can have one:
//!
//! ```
//! use axum::response::{IntoResponse, sse::Event};
//! use futures_util::stream;
//! use mainstay::Shutdown;
//!
//! async fn ticks(shutdown: Shutdown) -> impl IntoResponse {
//!     let ticks = stream::repeat(Ok::<_, std::convert::Infallible>(Event::default().data("tick")));
//!     shutdown.sse(ticks) // its last event is `drain`
//! }
//! ```
//!
//! A WebSocket of axum, or of anything else that is a stream and a sink of messages:
//!
//! ```ignore
//! async fn chat(upgrade: WebSocketUpgrade, shutdown: Shutdown) -> Response {
//!     upgrade.on_upgrade(async move |socket| {
//!         let away = CloseFrame { code: close_code::AWAY, reason: "restarting".into() };
//!         let mut socket = shutdown.end_socket(socket, Message::Close(Some(away)));
//!         while let Some(Ok(message)) = socket.recv().await {
//!             // answer it
//!         }
//!     })
//! }
//! ```

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use tokio::time::{Instant, timeout_at};

use crate::secs;
use crate::shutdown::Shutdown;

/// How long the other side of a socket may take to part once it has been told.
const PARTING: Duration = secs(1);

impl Shutdown {
    /// The same stream, which also ends when no new work should be begun: what has not been taken by then is not
    /// given out. [`EndingStream::last`] adds a last item for that case.
    pub fn end_stream<S: Stream>(&self, stream: S) -> EndingStream<S> {
        EndingStream { stream, draining: Some(self.told()), last: None }
    }

    /// The same socket, which says `goodbye` when no new work should be begun. Messages go on being received until
    /// the other side has closed, for a second at most.
    pub fn end_socket<S, M>(&self, socket: S, goodbye: M) -> EndingSocket<S, M> {
        EndingSocket { socket, state: State::Open(self.told(), Some(goodbye)) }
    }

    fn told(&self) -> BoxFuture<'static, ()> {
        let shutdown = self.clone();
        async move { shutdown.draining().await }.boxed()
    }
}

pin_project_lite::pin_project! {
    /// A stream that ends when the service does.
    #[must_use = "a stream does nothing unless it is polled"]
    pub struct EndingStream<S: Stream> {
        #[pin]
        stream: S,
        // None once it has ended.
        draining: Option<BoxFuture<'static, ()>>,
        last: Option<S::Item>,
    }
}

impl<S: Stream> EndingStream<S> {
    /// Adds an item that is the last one if the service ends before the stream does.
    pub fn last(mut self, item: S::Item) -> Self {
        self.last = Some(item);
        self
    }
}

impl<S: Stream> Stream for EndingStream<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = self.project();
        let Some(draining) = this.draining else { return Poll::Ready(None) };
        if draining.poll_unpin(cx).is_ready() {
            *this.draining = None;
            return Poll::Ready(this.last.take());
        }
        let item = ready!(this.stream.poll_next(cx));
        if item.is_none() {
            *this.draining = None;
        }
        Poll::Ready(item)
    }
}

/// A socket that says goodbye when the service ends.
#[derive(Debug)]
pub struct EndingSocket<S, M> {
    socket: S,
    state: State<M>,
}

enum State<M> {
    Open(BoxFuture<'static, ()>, Option<M>),
    /// Goodbye has been said; the other side has until then to part.
    Parting(Instant),
}

impl<S, M, E> EndingSocket<S, M>
where
    S: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
{
    /// The next message; `None` when the socket has ended, or the other side did not part in time. Cancel safe if
    /// the socket's own stream is.
    pub async fn recv(&mut self) -> Option<Result<M, E>> {
        if let State::Open(draining, goodbye) = &mut self.state {
            tokio::select! {
                biased;
                () = draining => {}
                message = self.socket.next() => return message,
            }
            let (goodbye, until) = (goodbye.take(), Instant::now() + PARTING);
            self.state = State::Parting(until);
            if let Some(goodbye) = goodbye
                && !matches!(timeout_at(until, self.socket.send(goodbye)).await, Ok(Ok(())))
            {
                return None;
            }
        }
        let State::Parting(until) = self.state else { return None };
        timeout_at(until, self.socket.next()).await.ok().flatten()
    }

    /// Sends a message, waiting until it has been handed over.
    ///
    /// # Errors
    /// Those of the socket; most refuse what comes after a goodbye.
    pub async fn send(&mut self, message: M) -> Result<(), E> {
        self.socket.send(message).await
    }
}

impl<S, M> EndingSocket<S, M> {
    /// The socket itself.
    pub fn into_inner(self) -> S {
        self.socket
    }
}

impl<M> std::fmt::Debug for State<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, State::Open(..)) { "Open" } else { "Parting" })
    }
}

impl<S: Stream> std::fmt::Debug for EndingStream<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndingStream").field("ended", &self.draining.is_none()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn a_stream_ends_with_its_last_item_when_the_service_does() {
        let shutdown = Shutdown::new();
        let mut told = Box::pin(shutdown.end_stream(stream::repeat("tick")).last("drain"));
        assert_eq!(told.next().await, Some("tick"));
        shutdown.begin();
        assert_eq!(told.next().await, Some("drain"));
        assert_eq!((told.next().await, told.next().await), (None, None));
    }

    #[tokio::test]
    async fn a_stream_that_ends_by_itself_has_no_last_item() {
        let shutdown = Shutdown::new();
        let told: Vec<_> = shutdown.end_stream(stream::iter([1, 2])).last(9).collect().await;
        assert_eq!(told, [1, 2]);
    }
}

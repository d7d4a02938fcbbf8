//! Holding virtual time while the real world works.

use std::{
    io,
    pin::Pin,
    sync::mpsc::{SyncSender, sync_channel},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::{JoinHandle, spawn_blocking},
};

use super::{VirtualClock, keeper::Held, runtime::sockets_in_use};
use crate::secs;

/// How long the clock is held at most, in real time.
const HOLD_LIMIT: Duration = secs(30);

/// Awaits something that the network or another thread does: virtual time stands still meanwhile, so that no time
/// limit fires because the machine is busy. For 30 real seconds at most; then time goes on.
///
/// Cancel safe if `work` is.
pub async fn real<F: Future>(work: F) -> F::Output {
    let mut hold = hold_time();
    let out = work.await;
    hold.end().await;
    out
}

/// Virtual time stands still while the answer lives, for 30 real seconds at most: it moves by `tokio::time::advance`
/// alone. On real time it does nothing.
///
/// # Panics
/// Outside of a runtime.
pub fn hold_time() -> Hold {
    Hold(crate::clock::virtual_clock().map(|clock| Live::begin(&clock)))
}

/// See [`hold_time`].
#[derive(Debug)]
#[must_use = "time goes on when it is dropped"]
pub struct Hold(Option<Live>);

#[derive(Debug)]
struct Live {
    release: SyncSender<()>,
    held: JoinHandle<()>,
    _known: Held,
}

impl Live {
    fn begin(clock: &VirtualClock) -> Live {
        // tokio never advances a paused clock while a blocking task runs.
        let (release, until) = sync_channel::<()>(0);
        let held = spawn_blocking(move || _ = until.recv_timeout(HOLD_LIMIT));
        Live { release, held, _known: clock.hold() }
    }
}

impl Hold {
    /// Ends it, and waits until time can go on.
    async fn end(&mut self) {
        if let Some(Live { release, held, _known }) = self.0.take() {
            drop(release);
            let _ = held.await;
        }
    }
}

/// A stream to the real world on which requests are answered: virtual time stands still from a request's bytes to the
/// first of its answer, for 30 real seconds at most, so that no time limit fires while the answer is on its way.
///
/// ```no_run
/// # async fn example(address: std::net::SocketAddr) -> std::io::Result<()> {
/// use mainstay::testing::Patient;
///
/// let stream = Patient::new(tokio::net::TcpStream::connect(address).await?);
/// # Ok(()) }
/// ```
///
/// For clients that take any stream; for those that do not, a [`FaultProxy`](super::FaultProxy) does the same.
#[derive(Debug)]
pub struct Patient<S> {
    stream: S,
    owed: Option<Hold>,
}

impl<S> Patient<S> {
    /// The stream, with patience.
    pub fn new(stream: S) -> Patient<S> {
        sockets_in_use();
        Patient { stream, owed: None }
    }

    /// The stream without.
    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() {
            self.owed = None;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if matches!(written, Poll::Ready(Ok(n)) if n > 0) {
            self.owed.get_or_insert_with(hold_time);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

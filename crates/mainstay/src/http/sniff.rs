//! Which protocol a connection speaks, found out before hyper sees it: hyper's own detection cannot be told to shut
//! down gracefully, it cancels the connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::flight::Conn;

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Reads just enough to know. `None` when the client closed without a word.
pub(super) async fn sniff(stream: &TcpStream) -> io::Result<Option<(Protocol, Seen)>> {
    let mut seen = Seen { bytes: [0; 24], len: 0, at: 0 };
    loop {
        stream.readable().await?;
        let read = match stream.try_read(&mut seen.bytes[seen.len..]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            read => read?,
        };
        if read == 0 {
            return Ok((seen.len > 0).then_some((Protocol::Http1, seen)));
        }
        seen.len += read;
        if seen.bytes[..seen.len] != PREFACE[..seen.len] {
            return Ok(Some((Protocol::Http1, seen)));
        }
        if seen.len == PREFACE.len() {
            return Ok(Some((Protocol::Http2, seen)));
        }
    }
}

/// Whether the client has closed, and nothing it sent is left to be read.
fn is_closed(stream: &TcpStream) -> bool {
    !matches!(peek(stream), Ok(1..) | Err(rustix::io::Errno::AGAIN))
}

/// Whether something the client sent is left to be read.
pub(super) fn has_arrived(stream: &TcpStream) -> bool {
    matches!(peek(stream), Ok(1..))
}

/// Asks the system: tokio goes by what it was told at its last look, and knows nothing of a stream that is new.
fn peek(stream: &TcpStream) -> rustix::io::Result<usize> {
    use rustix::net::{RecvFlags, recv};
    recv(stream, &mut [0u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT).map(|(_, length)| length)
}

/// The bytes that were read to find out.
pub(super) struct Seen {
    bytes: [u8; 24],
    len: usize,
    at: usize,
}

/// The stream with the seen bytes put back, which also notes whether the client takes what is written.
pub(super) struct Replay {
    pub seen: Seen,
    pub stream: TcpStream,
    pub conn: Arc<Conn>,
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.conn.stream_is_gone();
    }
}

impl AsyncRead for Replay {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.conn.upgrade.may_read(cx)?;
        let left = &this.seen.bytes[this.seen.at..this.seen.len];
        if left.is_empty() {
            let read = Pin::new(&mut this.stream).poll_read(cx, buf);
            // tokio goes by what it was told at its last look; the system knows now.
            if read.is_pending() && this.conn.caller.outgoing.asked() && is_closed(&this.stream) {
                return Poll::Ready(Ok(()));
            }
            return read;
        }
        let take = left.len().min(buf.remaining());
        buf.put_slice(&left[..take]);
        this.seen.at += take;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replay {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.conn.upgrade.may_write(cx)?;
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.conn.set_write_blocked(written.is_pending());
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.conn.upgrade.may_write(cx)?;
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.conn.set_write_blocked(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.conn.upgrade.may_write(cx)?;
        // hyper flushes when it has written all it has: whatever answer it has taken is out then.
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            this.conn.flushed();
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

//! Connections that have changed their protocol: in the hands of a handler's task, but still ours to count and to cut.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

/// Shared by the connection's task and the stream that its handler has.
#[derive(Default)]
pub(crate) struct Upgrade {
    begun: AtomicBool,
    gone: AtomicBool,
    cut: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
    /// Notified when the stream is gone.
    over: Notify,
}

impl Upgrade {
    /// The answer that changes the protocol is on its way.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Release);
    }

    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// The stream has been dropped, by whoever had it.
    pub fn stream_is_gone(&self) {
        self.gone.store(true, Ordering::Release);
        self.over.notify_waiters();
    }

    /// Resolves when the stream is gone. Cuts it when dropped before.
    pub async fn over(&self) {
        let _cut = CutOnDrop(self);
        loop {
            let over = self.over.notified();
            if self.gone.load(Ordering::Acquire) {
                return;
            }
            over.await;
        }
    }

    /// Before a read: an error once the connection has been cut.
    pub fn may_read(&self, cx: &Context<'_>) -> io::Result<()> {
        self.may(&self.reader, cx)
    }

    /// Before a write or a flush: an error once the connection has been cut.
    pub fn may_write(&self, cx: &Context<'_>) -> io::Result<()> {
        self.may(&self.writer, cx)
    }

    fn may(&self, side: &AtomicWaker, cx: &Context<'_>) -> io::Result<()> {
        if !self.begun.load(Ordering::Relaxed) {
            return Ok(());
        }
        // Registered before looking: a cut in between wakes.
        side.register(cx.waker());
        if self.cut.load(Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut: the service has to end"));
        }
        Ok(())
    }
}

struct CutOnDrop<'a>(&'a Upgrade);

impl Drop for CutOnDrop<'_> {
    fn drop(&mut self) {
        self.0.cut.store(true, Ordering::Release);
        self.0.reader.wake();
        self.0.writer.wake();
    }
}

//! The thread that writes lines.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing::Level;

use super::format::{Format, Record};
use crate::time::wall;

/// Lines that may wait: bounds the queue's own memory.
const MAX_LINES: usize = 8192;
/// Bytes that may wait: bounds what the lines hold.
const MAX_BYTES: usize = 8 << 20;
/// Lines are gathered to writes of about this size.
const WRITE_BYTES: usize = 32 << 10;

/// Takes lines without waiting.
#[derive(Clone)]
pub(super) struct Writer {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    dropped: AtomicU64,
    waiting: AtomicUsize,
}

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

impl Writer {
    pub fn start(format: Format, out: impl Write + Send + 'static) -> Self {
        let (queue, lines) = sync_channel(MAX_LINES);
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let thread = std::thread::Builder::new().name("mainstay-log".to_owned());
        // Without the thread the receiver is dropped, and every line counts as dropped: the service goes on.
        let _ = thread.spawn(move || run(format, out, &lines, &theirs));
        Self { queue, shared }
    }

    /// Queues a line, or drops and counts it.
    pub fn write(&self, line: Vec<u8>) {
        let size = line.len();
        let before = self.shared.waiting.fetch_add(size, Ordering::Relaxed);
        if before + size > MAX_BYTES || self.queue.try_send(Message::Line(line)).is_err() {
            self.shared.waiting.fetch_sub(size, Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether everything queued before has been written, waiting for it `limit` at most.
    pub fn flush(&self, limit: Duration) -> bool {
        const STEP: Duration = Duration::from_millis(5);
        let (done, wait) = sync_channel(1);
        let mut message = Message::Flush(done);
        let mut left = limit;
        // A full queue means that the output is stuck, or will have room soon.
        loop {
            match self.queue.try_send(message) {
                Ok(()) => return wait.recv_timeout(left).is_ok(),
                Err(std::sync::mpsc::TrySendError::Full(back)) if left > STEP => {
                    message = back;
                    std::thread::sleep(STEP);
                    left -= STEP;
                }
                Err(_) => return false,
            }
        }
    }
}

fn run(format: Format, mut out: impl Write, lines: &Receiver<Message>, shared: &Shared) {
    let mut buffer = Vec::with_capacity(WRITE_BYTES * 2);
    while let Ok(first) = lines.recv() {
        let mut next = Some(first);
        let mut flushed = None;
        while let Some(message) = next.take() {
            match message {
                Message::Line(line) => {
                    shared.waiting.fetch_sub(line.len(), Ordering::Relaxed);
                    buffer.extend_from_slice(&line);
                }
                Message::Flush(done) => {
                    flushed = Some(done);
                    break;
                }
            }
            if buffer.len() < WRITE_BYTES {
                next = lines.try_recv().ok();
            }
        }
        let dropped = shared.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            metrics::counter!("mainstay.log.dropped").increment(dropped);
            buffer.extend(confession(format, dropped));
        }
        // A log that cannot be written has nowhere to say so.
        let _ = out.write_all(&buffer).and_then(|()| out.flush());
        buffer.clear();
        if let Some(done) = flushed {
            let _ = done.try_send(());
        }
    }
}

fn confession(format: Format, dropped: u64) -> Vec<u8> {
    let fields = vec![("dropped".into(), dropped.into())];
    let message = "log lines were dropped because the output was too slow";
    format.line(
        &Record { at: wall(), level: Level::WARN, target: "mainstay::log", message, fields: &fields },
        false,
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::secs;

    /// An output that blocks until its gate is opened.
    struct Gated(Arc<Mutex<()>>, Arc<Mutex<Vec<u8>>>);

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _gate = self.0.lock();
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_output_never_blocks_and_the_loss_is_confessed() {
        let (gate, written) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(Vec::new())));
        let closed = gate.lock().unwrap();
        let writer = Writer::start(Format::Plain, Gated(gate.clone(), written.clone()));
        for _ in 0..MAX_LINES * 2 {
            writer.write(b"line\n".to_vec());
        }
        assert!(!writer.flush(Duration::from_millis(20)), "a flush must not wait for a stuck output");
        drop(closed);
        assert!(writer.flush(secs(10)));
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let lines = text.matches("line\n").count();
        let confessed: usize = text
            .lines()
            .filter_map(|line| line.split_once("dropped="))
            .map(|(_, count)| count.parse::<usize>().unwrap())
            .sum();
        assert_eq!(lines + confessed, MAX_LINES * 2);
        assert!(confessed > 0);
    }
}

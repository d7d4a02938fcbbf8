//! The limit of the disk: a log that overwrites preallocated segments, with group commit, and does nothing else.
//!
//! It stores the same payload as a job with a header of 64 bytes, for each of the three steps of a cycle, and answers
//! when `fdatasync` has returned. Whatever keeps a durable queue has to do at least this.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use tokio::sync::oneshot;

use super::{
    Error, Result,
    drive::{Lap, Subject},
    payload::{Random, write_json},
};

const SEGMENT_BYTES: u64 = 64 << 20;
const SEGMENTS: usize = 4;
const HEADER_BYTES: usize = 64;
/// A group takes in no more than this.
const GROUP_BYTES: usize = 16 << 20;

pub(super) struct RawLog {
    shared: Arc<Shared>,
    payload_bytes: usize,
}

struct Shared {
    state: Mutex<State>,
    ready: Condvar,
    groups: AtomicU64,
    ops: AtomicU64,
}

#[derive(Default)]
struct State {
    waiting: Vec<Request>,
    asleep: bool,
    closed: bool,
}

struct Request {
    payload: Arc<str>,
    answer: oneshot::Sender<std::result::Result<(), String>>,
}

/// The writing thread; ends with the log.
pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl RawLog {
    /// Makes the segments in `dir`, or takes those that are there.
    pub(super) fn open(dir: &Path, payload_bytes: usize) -> Result<(Arc<RawLog>, Writer)> {
        let segments = (0..SEGMENTS)
            .map(|i| segment(&dir.join(format!("raw-{i}.log"))))
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(Error::doing("cannot make the segments of the raw log"))?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            ready: Condvar::new(),
            groups: AtomicU64::new(0),
            ops: AtomicU64::new(0),
        });
        let writing = shared.clone();
        let thread =
            std::thread::Builder::new().name("raw-log".into()).spawn(move || write(&writing, &segments));
        let thread = thread.map_err(Error::doing("cannot start the raw log"))?;
        let log = RawLog { shared: shared.clone(), payload_bytes };
        Ok((Arc::new(log), Writer { shared, thread: Some(thread) }))
    }

    /// Groups and ops so far.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.shared.groups.load(Ordering::Relaxed), self.shared.ops.load(Ordering::Relaxed))
    }

    pub(super) async fn append(&self, payload: Arc<str>) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        let wake = {
            let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.waiting.push(Request { payload, answer });
            std::mem::take(&mut state.asleep)
        };
        if wake {
            self.shared.ready.notify_one();
        }
        match answered.await {
            Ok(done) => done.map_err(Error::new),
            Err(_) => Err(Error::new("the raw log has ended")),
        }
    }
}

impl Subject for RawLog {
    type Caller = (Random, String);

    fn steps(&self) -> &'static [&'static str] {
        &["enqueue", "claim", "complete"]
    }

    async fn caller(&self, number: usize) -> Result<Self::Caller> {
        Ok((Random::new(number as u64), String::new()))
    }

    async fn cycle(&self, (random, text): &mut Self::Caller, lap: &Lap) -> Result<u64> {
        text.clear();
        write_json(random, self.payload_bytes, text);
        let payload: Arc<str> = text.as_str().into();
        for step in 0..3 {
            lap.step(step, self.append(payload.clone())).await?;
        }
        Ok(1)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.shared.ready.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic has been shown, and its callers have failed.
            let _ = thread.join();
        }
    }
}

/// A file full of zeros that are on the disk.
fn segment(path: &Path) -> std::io::Result<File> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    if file.metadata()?.len() != SEGMENT_BYTES {
        let zeros = vec![0; 1 << 20];
        file.set_len(0)?;
        for _ in 0..SEGMENT_BYTES / zeros.len() as u64 {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
    }
    Ok(file)
}

fn write(shared: &Shared, segments: &[File]) {
    let (mut taken, mut buffer) = (Vec::new(), Vec::new());
    let (mut segment, mut at, mut number) = (0, 0_u64, 0_u64);
    loop {
        {
            let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            while state.waiting.is_empty() && !state.closed {
                state.asleep = true;
                state = shared.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.waiting.is_empty() {
                return;
            }
            std::mem::swap(&mut state.waiting, &mut taken);
        }
        buffer.clear();
        let mut fits = 0;
        for request in &taken {
            if buffer.len() > GROUP_BYTES {
                break;
            }
            number += 1;
            append(&mut buffer, number, &request.payload);
            fits += 1;
        }
        if at + buffer.len() as u64 > SEGMENT_BYTES {
            (segment, at) = ((segment + 1) % segments.len(), 0);
        }
        let file = &segments[segment];
        let written = file.write_all_at(&buffer, at).and_then(|()| file.sync_data());
        at += buffer.len() as u64;
        shared.groups.fetch_add(1, Ordering::Relaxed);
        shared.ops.fetch_add(fits as u64, Ordering::Relaxed);
        let written = written.map_err(|error| format!("the raw log cannot be written: {error}"));
        for request in taken.drain(..fits) {
            // A caller that is gone needs no answer.
            let _ = request.answer.send(written.clone());
        }
        if !taken.is_empty() {
            let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            taken.append(&mut state.waiting);
            std::mem::swap(&mut state.waiting, &mut taken);
        }
    }
}

fn append(buffer: &mut Vec<u8>, number: u64, payload: &str) {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&number.to_le_bytes());
    header[8..16].copy_from_slice(&(payload.len() as u64).to_le_bytes());
    buffer.extend_from_slice(&header);
    buffer.extend_from_slice(payload.as_bytes());
}

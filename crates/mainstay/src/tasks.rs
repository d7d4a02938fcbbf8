//! The owner of every spawned task.

use std::any::Any;
use std::borrow::Cow;
use std::collections::HashMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{self, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinHandle};
use tracing::{Instrument, Span};

use crate::context::Context;
use crate::time::{human, monotonic_ms};

#[cfg(feature = "testing")]
mod weak;

/// Spawns tasks and owns them: each has a name, is isolated when it panics, is waited for in the drain and
/// aborted when it overstays. Cheap to clone; all clones are one set.
#[derive(Clone)]
pub struct TaskSet(Arc<Inner>);

#[cfg(feature = "testing")]
pub(crate) use weak::WeakTaskSet;

struct Inner {
    runtime: Handle,
    entries: Mutex<Entries>,
    /// Notified whenever the set becomes empty.
    empty: Notify,
}

#[derive(Default)]
struct Entries {
    next: u64,
    aborted: bool,
    live: HashMap<u64, Entry>,
}

struct Entry {
    name: Cow<'static, str>,
    location: &'static Location<'static>,
    context: Context,
    span: Span,
    started_ms: u64,
    abort: Option<AbortHandle>,
}

/// A task that is running: its line in a drain report.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskInfo {
    /// The name it was spawned with.
    pub name: String,
    /// The source line that spawned it.
    pub location: String,
    /// The context and the `tracing` spans it runs in, with their fields; `None` if it runs in none.
    pub span: Option<String>,
    /// How long it has been running.
    pub age: Duration,
}

/// A spawned task. Dropping it does not stop the task: its set owns it.
pub struct Task<T>(JoinHandle<Result<T, TaskError>>);

/// Why a task gave no value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskError {
    /// It panicked with this message; the panic has been logged.
    Panicked(String),
    /// It was aborted.
    Aborted,
}

impl TaskSet {
    /// A set whose tasks run on the runtime it is called from. `None` outside of one.
    pub fn current() -> Option<Self> {
        Handle::try_current().ok().map(Self::on)
    }

    /// A set whose tasks run on `runtime`.
    pub fn on(runtime: Handle) -> Self {
        let set = Self(Arc::new(Inner { runtime, entries: Mutex::default(), empty: Notify::new() }));
        crate::clock::watch(&set);
        set
    }

    /// Spawns a task. The name, the caller's source line, the [`Context`] and the current `tracing` span, in both of
    /// which it runs, are what a drain report says of it. Work that may outlive whoever asked for it takes a deadline
    /// of its own with [`Context::detach`].
    ///
    /// A set that has been aborted takes no more: the task ends as aborted at once.
    #[track_caller]
    pub fn spawn<F>(&self, name: impl Into<Cow<'static, str>>, future: F) -> Task<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let (name, location, span) = (name.into(), Location::caller(), Span::current());
        let leave = self.enter(name.clone(), location, span.clone());
        let id = leave.id;
        // The lock must be free here: a runtime on its way out drops the future, and `leave`, inside this call.
        let future = crate::clock::counted(future);
        let work = async move {
            let _leave = leave;
            let ended = AssertUnwindSafe(future).catch_unwind().await;
            ended.map_err(|panic| panicked(&name, location, &*panic))
        };
        let handle = self.0.runtime.spawn(Context::current().scope(work.instrument(span)));
        self.own(id, handle)
    }

    /// Runs work that blocks its thread on one that is meant for that, in the current [`Context`] and `tracing` span.
    ///
    /// It cannot be stopped from outside once it has begun: it is waited for in the drain and named if it overstays,
    /// and the process ends without it.
    #[track_caller]
    pub fn spawn_blocking<T: Send + 'static>(
        &self,
        name: impl Into<Cow<'static, str>>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Task<T> {
        let (name, location, span) = (name.into(), Location::caller(), Span::current());
        let leave = self.enter(name.clone(), location, span.clone());
        let id = leave.id;
        let context = Context::current();
        let handle = self.0.runtime.spawn_blocking(move || {
            let _in = context.enter();
            let _leave = leave;
            let ended = std::panic::catch_unwind(AssertUnwindSafe(|| span.in_scope(work)));
            ended.map_err(|panic| panicked(&name, location, &*panic))
        });
        self.own(id, handle)
    }

    /// Entered before the task exists: it leaves the set however it ends, also if it is never polled.
    fn enter(&self, name: Cow<'static, str>, location: &'static Location<'static>, span: Span) -> Leave {
        let mut entries = self.lock();
        let id = entries.next;
        entries.next += 1;
        let context = Context::current();
        let entry = Entry { name, location, context, span, started_ms: monotonic_ms(), abort: None };
        entries.live.insert(id, entry);
        Leave { set: self.clone(), id }
    }

    fn own<T>(&self, id: u64, handle: JoinHandle<Result<T, TaskError>>) -> Task<T> {
        let mut entries = self.lock();
        if entries.aborted {
            handle.abort();
        } else if let Some(entry) = entries.live.get_mut(&id) {
            entry.abort = Some(handle.abort_handle());
        }
        drop(entries);
        Task(handle)
    }

    /// The runtime its tasks run on.
    #[cfg(feature = "http")]
    pub(crate) fn runtime(&self) -> Handle {
        self.0.runtime.clone()
    }

    /// How many tasks are running.
    pub fn len(&self) -> usize {
        self.lock().live.len()
    }

    /// Whether no task is running.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The running tasks, the oldest first.
    pub fn list(&self) -> Vec<TaskInfo> {
        let now = monotonic_ms();
        let entries = self.lock();
        let info = |entry: &Entry| TaskInfo {
            name: entry.name.to_string(),
            location: entry.location.to_string(),
            span: None,
            age: Duration::from_millis(now.saturating_sub(entry.started_ms)),
        };
        let live = entries
            .live
            .iter()
            .map(|(id, entry)| (*id, info(entry), (entry.context.clone(), entry.span.clone())));
        let mut live: Vec<_> = live.collect();
        // Spans are looked up with the lock free: the log's own locks are behind them.
        drop(entries);
        live.sort_by_key(|(id, ..)| *id);
        live.into_iter()
            .map(|(_, info, (context, span))| TaskInfo {
                span: crate::log::describe(&context, &span),
                ..info
            })
            .collect()
    }

    /// Resolves when no task is running. Cancel safe. New tasks may be spawned meanwhile.
    pub async fn idle(&self) {
        loop {
            let notified = self.0.empty.notified();
            if self.is_empty() {
                return;
            }
            notified.await;
        }
    }

    /// Waits until no task is running, `limit` at most; answers those that overstayed. They go on running.
    pub async fn drain(&self, limit: Duration) -> Vec<TaskInfo> {
        match tokio::time::timeout(limit, self.idle()).await {
            Ok(()) => Vec::new(),
            Err(_) => self.list(),
        }
    }

    /// Aborts every task at its next await point, now and in the future.
    pub fn abort(&self) {
        let mut entries = self.lock();
        entries.aborted = true;
        let handles: Vec<_> = entries.live.values_mut().filter_map(|entry| entry.abort.take()).collect();
        drop(entries);
        handles.iter().for_each(AbortHandle::abort);
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Leave {
    set: TaskSet,
    id: u64,
}

impl Drop for Leave {
    fn drop(&mut self) {
        let mut entries = self.set.lock();
        let entry = entries.live.remove(&self.id);
        let empty = entries.live.is_empty();
        drop(entries);
        drop(entry);
        if empty {
            self.set.0.empty.notify_waiters();
        }
    }
}

fn panicked(name: &str, location: &Location<'_>, panic: &(dyn Any + Send)) -> TaskError {
    let message = panic_message(panic);
    metrics::counter!("mainstay.task.panics").increment(1);
    crate::log::panics::caught(&format_args!("task {name} ({location})"), panic);
    TaskError::Panicked(message)
}

impl<T> Task<T> {
    /// Aborts the task at its next await point.
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Aborts the task from elsewhere, without keeping its value.
    pub fn abort_handle(&self) -> AbortHandle {
        self.0.abort_handle()
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|joined| match joined {
            Ok(outcome) => outcome,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => Err(TaskError::Panicked(panic_message(&*panic))),
                Err(_) => Err(TaskError::Aborted),
            },
        })
    }
}

impl<T> std::fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("finished", &self.is_finished()).finish()
    }
}

impl std::fmt::Debug for TaskSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}

impl std::fmt::Display for TaskInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "task {} ({}, spawned at {}", self.name, human(self.age), self.location)?;
        match &self.span {
            Some(span) => write!(f, ", in {span})"),
            None => f.write_str(")"),
        }
    }
}

impl std::fmt::Display for TaskError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TaskError::Panicked(message) => write!(f, "task panicked: {message}"),
            TaskError::Aborted => f.write_str("task was aborted"),
        }
    }
}

impl std::error::Error for TaskError {}

/// What a panic said, if it said it in words.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "no message".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secs;

    fn set() -> TaskSet {
        TaskSet::on(Handle::current())
    }

    #[tokio::test(start_paused = true)]
    async fn overstayers_are_named_with_their_source_line() {
        let tasks = set();
        let _stuck = tasks.spawn("stuck", std::future::pending::<()>());
        tasks.spawn("quick", async {}).await.unwrap();
        let over = tasks.drain(secs(1)).await;
        assert_eq!(over.len(), 1);
        assert_eq!(over[0].name, "stuck");
        assert!(over[0].location.contains("tasks.rs"), "{}", over[0].location);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_stays_inside_its_task() {
        let tasks = set();
        let panicking = tasks.spawn("bad", async { panic!("oh no") });
        let fine = tasks.spawn("good", async { 7 });
        assert_eq!(panicking.await, Err::<(), _>(TaskError::Panicked("oh no".into())));
        assert_eq!(fine.await, Ok(7));
        assert!(tasks.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_aborted_set_empties_and_takes_no_more() {
        let tasks = set();
        let stuck = tasks.spawn("stuck", std::future::pending::<()>());
        tasks.abort();
        assert_eq!(stuck.await, Err(TaskError::Aborted));
        assert_eq!(tasks.spawn("late", std::future::pending::<()>()).await, Err(TaskError::Aborted));
        assert!(tasks.drain(secs(1)).await.is_empty());
    }

    #[tokio::test]
    async fn blocking_work_is_in_the_set_until_it_ends_and_its_panic_stays_inside() {
        let tasks = set();
        let (open, gate) = std::sync::mpsc::sync_channel::<()>(1);
        let (begin, begun) = tokio::sync::oneshot::channel();
        let blocking = tasks.spawn_blocking("hash", move || {
            let _ = begin.send(());
            gate.recv().is_ok()
        });
        assert_eq!(tasks.list()[0].name, "hash");
        begun.await.unwrap();
        tasks.abort();
        assert_eq!(tasks.len(), 1, "what has begun cannot be aborted");
        open.send(()).unwrap();
        assert_eq!(blocking.await, Ok(true));
        let panicking = set().spawn_blocking("bad", || panic!("oh no"));
        assert_eq!(panicking.await, Err::<(), _>(TaskError::Panicked("oh no".into())));
    }

    #[test]
    fn spawning_on_a_runtime_that_is_gone_does_not_deadlock() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let tasks = TaskSet::on(runtime.handle().clone());
        drop(runtime);
        let _task = tasks.spawn("late", std::future::pending::<()>());
        assert!(tasks.is_empty());
    }
}

//! The store as its callers see it.

use std::{
    future::{Future, poll_fn},
    path::Path,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    thread::JoinHandle,
    time::Duration,
};

use async_trait::async_trait;
use mainstay_core::{
    Error, ErrorKind, Now, Store, TopicFilter,
    event::{LogBudget, LogSlice, Position},
    op::{Committed, Failure},
    store::{
        Batch, Budget, Capabilities, ClaimOrder, CommitScope, Interest, Key, Maintained, Page, Query, Record,
        Slice, TokenOrder, Wake,
    },
};
use mainstay_writer::desk::{Desk, millis};
use rusqlite::InterruptHandle;
use tokio::sync::oneshot;

use crate::{
    backup,
    behind::{Reached, Stuck},
    connection,
    inbox::Refused,
    message::Ask,
    open::{check_path, open, resolve},
    options::{Durability, Options},
    read::{LogQuery, Read, too_many_reads},
    shared::Shared,
    tail::Reading,
};

/// The embedded store: one SQLite file with a journal beside it, one process.
///
/// Close it with [`Store::close`]. Dropped without, it finishes the group in hand, refuses the rest, and blocks until
/// its threads have ended; nothing acknowledged is lost either way.
pub struct SqliteStore {
    shared: Arc<Shared>,
    options: Options,
    capabilities: Capabilities,
    writer: Mutex<Option<JoinHandle<()>>>,
    backup: Mutex<Option<Backup>>,
    backing_up: Arc<AtomicBool>,
}

/// A backup under way, or the last one.
struct Backup {
    thread: JoinHandle<()>,
    interrupt: InterruptHandle,
}

impl SqliteStore {
    /// Opens the store, creating its file if need be, and rebuilds what it keeps in RAM: about a second for a million
    /// unfinished jobs. Blocks; from async code, call it where blocking is allowed.
    ///
    /// If called inside a tokio runtime, the clock is polled inside that runtime too.
    ///
    /// # Errors
    /// `Invalid`: the path, the file of another program, or a newer format. `Unavailable`: the file cannot be opened
    /// or written, or another process has it. `Untrusted`: it is damaged; the message says where.
    pub fn open(mut options: Options) -> Result<SqliteStore, Error> {
        check_path(&options.path)?;
        options.path = resolve(&options.path)?;
        let (shared, writer) = open(&options)?;
        let capabilities = Capabilities {
            store: "sqlite",
            durable: options.durability == Durability::Strict,
            commit_scope: CommitScope::Store,
            token_order: TokenOrder::Store,
            seq_at_commit: true,
            exact_depth: true,
            claim_order: ClaimOrder::Strict,
            max_commit_ops: mainstay_core::engine::MAX_COMMIT_OPS,
        };
        Ok(SqliteStore {
            shared,
            options,
            capabilities,
            writer: Mutex::new(Some(writer)),
            backup: Mutex::new(None),
            backing_up: Arc::default(),
        })
    }

    /// Writes a consistent, compact copy of the store to `to`, which must not exist; it opens as a store of its own.
    /// Reads and writes go on meanwhile, but the journal grows until it is done. One at a time. Dropping the future
    /// does not stop it; closing the store does.
    ///
    /// # Errors
    /// `Invalid` if `to` exists, `Unavailable` if it cannot be written or a backup is under way.
    pub async fn backup(&self, to: impl AsRef<Path>) -> Result<(), Error> {
        self.shared.is_open()?;
        if let Some(stuck) = self.tables_follow().await? {
            return Err(lags(&stuck));
        }
        if self.backing_up.swap(true, Ordering::AcqRel) {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "a backup is under way; try again when it is done",
            ));
        }
        let done = self
            .start_backup(to.as_ref())
            .inspect_err(|_| self.backing_up.store(false, Ordering::Release))?;
        done.await
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Unavailable, "the backup ended without a word")))
    }

    fn start_backup(&self, to: &Path) -> Result<oneshot::Receiver<Result<(), Error>>, Error> {
        let conn = connection::open_checkpointer(&self.options)?;
        let interrupt = conn.get_interrupt_handle();
        let (answer, done) = oneshot::channel();
        let (from, to, busy) = (self.options.path.clone(), to.to_owned(), self.backing_up.clone());
        let thread = std::thread::Builder::new().name("mainstay-backup".into()).spawn(move || {
            let copied = backup::copy(&conn, &from, &to);
            drop(conn);
            busy.store(false, Ordering::Release);
            let _ = answer.send(copied);
        });
        let thread = thread.map_err(|e| {
            Error::new(ErrorKind::Unavailable, format!("cannot start the backup: {e}")).because(e)
        })?;
        let mut slot = self.backup.lock().unwrap_or_else(PoisonError::into_inner);
        // The one before has ended: `backing_up` said so.
        if let Some(last) = slot.replace(Backup { thread, interrupt }) {
            let _ = last.thread.join();
        }
        Ok(done)
    }

    /// Reads what is true when it is called. If the tables cannot be written, `make` is told what they lack.
    async fn read<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, Error>>, Option<Stuck>) -> Result<Read, Error>,
    ) -> Result<T, Error> {
        if self.shared.failed.get().is_some() {
            return Err(self.shared.gone());
        }
        self.shared.tidied().await?;
        let lacking = self.tables_follow().await?;
        let (answer, receiver) = oneshot::channel();
        self.shared.reads.push(make(answer, lacking)?, 1).map_err(|(refused, _)| match refused {
            Refused::Full => too_many_reads(),
            Refused::Closed => self.shared.gone(),
        })?;
        receiver.await.unwrap_or_else(|_| Err(self.shared.gone()))
    }

    /// Waits until the tables have everything that was answered before. If they cannot be written, answers what they
    /// lack.
    async fn tables_follow(&self) -> Result<Option<Stuck>, Error> {
        let behind = &self.shared.behind;
        let target = behind.handed();
        if behind.lsn() >= target {
            return Ok(None);
        }
        behind.want(target);
        let mut reached = behind.watch();
        let deadline = self.shared.clock.now().store.plus_ms(millis(self.options.within));
        let knows = |reached: &Reached| {
            reached.lsn >= target
                || reached.over
                || reached.stuck.as_ref().is_some_and(|stuck| stuck.lsn >= target)
        };
        let mut follow = pin!(reached.wait_for(knows));
        let mut asleep = pin!(self.shared.clock.sleep_until(deadline));
        poll_fn(|cx| {
            if let Poll::Ready(reached) = follow.as_mut().poll(cx) {
                // The sender lives in `shared`.
                let Ok(reached) = reached else { return Poll::Ready(Err(self.shared.gone())) };
                return Poll::Ready(match &*reached {
                    Reached { over: true, .. } => Err(self.shared.gone()),
                    Reached { lsn, .. } if *lsn >= target => Ok(None),
                    Reached { stuck, .. } => Ok(stuck.clone()),
                });
            }
            asleep.as_mut().poll(cx).map(|()| {
                let message =
                    "the tables of the store have not followed its journal in time; try again later";
                Err(Error::new(ErrorKind::DeadlineExceeded, message))
            })
        })
        .await
    }

    /// Ends the threads; the backup first, which would keep the file open.
    fn join(&self) {
        let backup = self.backup.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Backup { thread, interrupt }) = backup {
            interrupt.interrupt();
            let _ = thread.join();
        }
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn submit(&self, batch: Batch) -> Result<Vec<Result<Committed, Failure>>, Error> {
        self.shared.submit(batch, self.options.within).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>, Error> {
        match key {
            Key::Job(_) | Key::AccessToken(_) => {
                self.read(|answer, lacking| Ok(Read::Get { key: key.clone(), lacking, answer })).await
            }
            Key::Queue(_) | Key::Lock(_) | Key::Event(_) | Key::Schedule(_) => self.shared.record(key).await,
        }
    }

    async fn list(&self, query: &Query, page: &Page) -> Result<Slice, Error> {
        if Desk::has_list(query) {
            return self.shared.list(query, page).await;
        }
        let (query, page) = (query.clone(), page.clone());
        self.read(|answer, lacking| match lacking {
            None => Ok(Read::List { query, page, answer }),
            Some(stuck) => Err(lags(&stuck)),
        })
        .await
    }

    async fn read_log(
        &self,
        filters: &[TopicFilter],
        from: Position,
        budget: LogBudget,
    ) -> Result<LogSlice, Error> {
        self.shared.is_open()?;
        let from = self.shared.log_position(from).await?;
        match self.shared.tail.read(filters, from, budget) {
            Reading::Here(slice) => Ok(slice),
            Reading::Older { until, head } => {
                let query = LogQuery { filters: filters.into(), from, budget, until, head };
                let (answer, receiver) = oneshot::channel();
                self.shared.reads.push(Read::Log { query, answer }, 1).map_err(
                    |(refused, _)| match refused {
                        Refused::Full => too_many_reads(),
                        Refused::Closed => self.shared.gone(),
                    },
                )?;
                receiver.await.unwrap_or_else(|_| Err(self.shared.gone()))
            }
        }
    }

    async fn wait(&self, on: &[Interest], at_most: Duration) -> Result<Wake, Error> {
        self.shared.wait(on, at_most).await
    }

    async fn maintain(&self, budget: Budget) -> Result<Maintained, Error> {
        self.shared.maintain(budget).await
    }

    async fn now(&self) -> Result<Now, Error> {
        self.shared.is_open()?;
        Ok(self.shared.clock.now())
    }

    async fn ping(&self) -> Result<(), Error> {
        self.shared.ask(Ask::Ping).await
    }

    async fn close(&self, at_most: Duration) -> Result<(), Error> {
        self.shared.inbox.close();
        if let Some(backup) = self.backup.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            backup.interrupt.interrupt();
        }
        match self.shared.desk.close(at_most).await {
            Some(ending) => {
                self.join();
                ending
            }
            None => Err(self.shared.desk.abandon()),
        }
    }

    async fn backup(&self, into: &Path) -> Result<(), Error> {
        SqliteStore::backup(self, into).await
    }

    fn stats(&self) -> Vec<(&'static str, f64)> {
        self.shared.stats()
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.shared.abandon.store(true, Ordering::Relaxed);
        self.shared.inbox.close();
        self.join();
    }
}

/// A list, or a copy, of tables that cannot be written would lack what was answered.
fn lags(stuck: &Stuck) -> Error {
    let cause = &stuck.error;
    let message = format!("the tables cannot follow the journal at the moment: {cause}");
    Error::new(ErrorKind::Unavailable, message).because(cause.clone())
}

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
    Error, ErrorKind, Now, Store, StoreTime, TopicFilter,
    event::{EventItem, EventQuery, LogBudget, LogSlice, Position},
    op::{Committed, Failure},
    schedule::ScheduleOrder,
    store::{
        Batch, Budget, Capabilities, ClaimOrder, CommitScope, Interest, Key, Maintained, Page, Query, Record,
        Slice, TokenOrder, Wake, open_cursor, seal_cursor,
    },
};
use rusqlite::InterruptHandle;
use tokio::sync::oneshot;

use crate::{
    backup,
    behind::{Reached, Stuck},
    connection,
    inbox::Refused,
    open::{check_path, open, resolve},
    options::{Durability, Options},
    read::{LogQuery, Read, too_many_reads},
    shared::Shared,
    tail::Reading,
    writer::{Ask, Message, SMALL, Submission, weight},
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
        self.is_open()?;
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

    fn is_open(&self) -> Result<(), Error> {
        let open = self.shared.failed.get().is_none() && self.shared.ended.borrow().is_none();
        if open { Ok(()) } else { Err(self.shared.gone()) }
    }

    /// Reads what is true when it is called. If the tables cannot be written, `make` is told what they lack.
    async fn read<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, Error>>, Option<Stuck>) -> Result<Read, Error>,
    ) -> Result<T, Error> {
        if self.shared.failed.get().is_some() {
            return Err(self.shared.gone());
        }
        if self.shared.due.has_come(self.shared.clock.now()) {
            // Whatever the writer does, it tidies up first. If it cannot write, the read shows what there is.
            match self.ask(Ask::Ping).await {
                Err(e) if e.kind() != ErrorKind::Overloaded => return Err(e),
                _ => {}
            }
        }
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

    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Error> {
        let (answer, receiver) = oneshot::channel();
        self.shared.tell(Message::Ask(make(answer)), SMALL)?;
        receiver.await.map_err(|_| self.shared.gone())
    }

    async fn queues(&self, query: &Query, page: &Page) -> Result<Slice, Error> {
        let after = page.cursor.as_deref().map(|cursor| open_cursor(query, cursor)).transpose()?;
        let (after, limit) = (after.map(str::to_owned), page.limit as usize);
        let mut queues = self.ask(|answer| Ask::Queues(after, limit + 1, answer)).await?;
        let more = queues.len() > limit;
        queues.truncate(limit);
        let next = queues.last().filter(|_| more).map(|last| seal_cursor(query, last.name.as_str()));
        Ok(Slice { items: queues.into_iter().map(Record::Queue).collect(), next })
    }

    async fn locks(&self, query: &Query, prefix: String, page: &Page) -> Result<Slice, Error> {
        let after = page.cursor.as_deref().map(|cursor| open_cursor(query, cursor)).transpose()?;
        let (after, limit) = (after.map(str::to_owned), page.limit as usize);
        let mut locks = self.ask(|answer| Ask::Locks(prefix, after, limit + 1, answer)).await?;
        let more = locks.len() > limit;
        locks.truncate(limit);
        let next = locks.last().filter(|_| more).map(|last| seal_cursor(query, last.name.as_str()));
        Ok(Slice { items: locks.into_iter().map(|lock| Record::Lock(Box::new(lock))).collect(), next })
    }

    /// A page of topics or groups, as the writer knows them.
    async fn event_items(&self, query: &Query, page: &Page, topics: bool) -> Result<Slice, Error> {
        let after = page.cursor.as_deref().map(|cursor| open_cursor(query, cursor)).transpose()?;
        let (after, limit) = (after.map(str::to_owned), page.limit as usize);
        let mut items = if topics {
            self.ask(|answer| Ask::Topics(after, limit + 1, answer)).await?
        } else {
            self.ask(|answer| Ask::Groups(after, limit + 1, answer)).await??
        };
        let more = items.len() > limit;
        items.truncate(limit);
        let name = |item: &EventItem| match item {
            EventItem::Topic(topic) => topic.name.to_string(),
            EventItem::Group(group) => group.name.to_string(),
            EventItem::Dead(dead) => dead.number.to_string(),
        };
        let next = items.last().filter(|_| more).map(|last| seal_cursor(query, &name(last)));
        Ok(Slice { items: items.into_iter().map(Record::Event).collect(), next })
    }

    /// The number that a position in the log stands for.
    async fn log_position(&self, position: Position) -> Result<u64, Error> {
        match position {
            Position::Latest => Ok(self.shared.tail.head() + 1),
            Position::Earliest => Ok(1),
            Position::Seq(seq) => Ok(seq.max(1)),
            Position::Time(time) => self.ask(|answer| Ask::SeqAt(time, answer)).await?,
        }
    }

    async fn workers(&self, query: &Query, page: &Page) -> Result<Slice, Error> {
        let after = page.cursor.as_deref().map(|cursor| open_cursor(query, cursor)).transpose()?;
        let (after, limit) = (after.map(str::to_owned), page.limit as usize);
        let mut found = self.ask(|answer| Ask::Workers(after, limit + 1, answer)).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|last| seal_cursor(query, last.name.as_str()));
        Ok(Slice { items: found.into_iter().map(Record::Worker).collect(), next })
    }

    async fn schedules(&self, order: ScheduleOrder, query: &Query, page: &Page) -> Result<Slice, Error> {
        let after = page.cursor.as_deref().map(|cursor| open_cursor(query, cursor)).transpose()?;
        let (after, limit) = (after.map(str::to_owned), page.limit as usize);
        let mut found = self.ask(|answer| Ask::Schedules(order, after, limit + 1, answer)).await??;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|last| seal_cursor(query, &order.position(last)));
        Ok(Slice { items: found.into_iter().map(Record::Schedule).collect(), next })
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
        let weight = weight(&batch);
        let within = batch.within.unwrap_or(self.options.within);
        let deadline = self.shared.clock.now().store.plus_ms(millis(within));
        let (sender, receiver) = oneshot::channel();
        let submission = Submission { commits: batch.commits, deadline, sender, alone: false };
        self.shared.tell(Message::Submit(submission), weight)?;
        match receiver.await {
            Ok(answer) => answer.map(|answer| answer.accept()),
            Err(_) => {
                let gone = self.shared.gone();
                Err(Error::unknown(gone.kind(), gone.to_string()).because(gone))
            }
        }
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>, Error> {
        match key {
            Key::Queue(name) => {
                let name = name.clone();
                Ok(self.ask(|answer| Ask::Queue(name, answer)).await?.map(Record::Queue))
            }
            Key::Lock(name) => {
                let name = name.clone();
                let lock = self.ask(|answer| Ask::Lock(name, answer)).await?;
                Ok(lock.map(|lock| Record::Lock(Box::new(lock))))
            }
            Key::Event(key) => {
                let key = key.clone();
                Ok(self.ask(|answer| Ask::Event(key, answer)).await??.map(Record::Event))
            }
            Key::Schedule(name) => {
                let name = name.clone();
                Ok(self.ask(|answer| Ask::Schedule(name, answer)).await?.map(Record::Schedule))
            }
            Key::Job(_) | Key::AccessToken(_) => {
                self.read(|answer, lacking| Ok(Read::Get { key: key.clone(), lacking, answer })).await
            }
        }
    }

    async fn list(&self, query: &Query, page: &Page) -> Result<Slice, Error> {
        match query {
            Query::Queues => self.queues(query, page).await,
            Query::Locks { prefix } => self.locks(query, prefix.clone().unwrap_or_default(), page).await,
            Query::Event(EventQuery::Topics) => self.event_items(query, page, true).await,
            Query::Event(EventQuery::Groups) => self.event_items(query, page, false).await,
            Query::Schedules(order) => self.schedules(*order, query, page).await,
            Query::Workers => self.workers(query, page).await,
            _ => {
                let (query, page) = (query.clone(), page.clone());
                self.read(|answer, lacking| match lacking {
                    None => Ok(Read::List { query, page, answer }),
                    Some(stuck) => Err(lags(&stuck)),
                })
                .await
            }
        }
    }

    async fn read_log(
        &self,
        filters: &[TopicFilter],
        from: Position,
        budget: LogBudget,
    ) -> Result<LogSlice, Error> {
        self.is_open()?;
        let from = self.log_position(from).await?;
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
        self.is_open()?;
        let deadline = self.shared.clock.now().store.plus_ms(millis(at_most));
        let mut ended = self.shared.ended.subscribe();
        let waiting = self.shared.hub.register(on);
        // Queues, groups and the log have been counted by the registration, and schedules are looked at after it; of
        // jobs, the writer knows what has happened before.
        let is_known =
            |on: &Interest| matches!(on, Interest::Queue(_) | Interest::Event(_) | Interest::Schedules);
        if !on.iter().all(is_known) {
            let interests = on.to_vec();
            if self.ask(|answer| Ask::HasHappened(interests, answer)).await? {
                return Ok(Wake::woken(None));
            }
        }
        let (mut waiting, mut ended) = (pin!(waiting), pin!(ended.wait_for(Option::is_some)));
        let mut asleep = pin!(self.shared.clock.sleep_until(deadline));
        poll_fn(|cx| {
            if let Poll::Ready(wake) = waiting.as_mut().poll(cx) {
                return Poll::Ready(Ok(wake));
            }
            if asleep.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(Wake::timed_out()));
            }
            match ended.as_mut().poll(cx) {
                Poll::Ready(_) => Poll::Ready(Err(self.shared.gone())),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    async fn maintain(&self, budget: Budget) -> Result<Maintained, Error> {
        let (answer, receiver) = oneshot::channel();
        self.shared.tell(Message::Maintain(budget, answer), SMALL)?;
        receiver.await.unwrap_or_else(|_| Err(self.shared.gone()))
    }

    async fn now(&self) -> Result<Now, Error> {
        self.is_open()?;
        Ok(self.shared.clock.now())
    }

    async fn ping(&self) -> Result<(), Error> {
        self.ask(Ask::Ping).await
    }

    async fn close(&self, at_most: Duration) -> Result<(), Error> {
        self.shared.inbox.close();
        if let Some(backup) = self.backup.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            backup.interrupt.interrupt();
        }
        let deadline: StoreTime = self.shared.clock.now().store.plus_ms(millis(at_most));
        let mut over = self.shared.ended.subscribe();
        let ending = {
            let mut over = pin!(over.wait_for(Option::is_some));
            let mut asleep = pin!(self.shared.clock.sleep_until(deadline));
            poll_fn(|cx| match over.as_mut().poll(cx) {
                // The sender lives in `shared`.
                Poll::Ready(ending) => Poll::Ready(ending.ok().and_then(|ending| ending.clone())),
                Poll::Pending => asleep.as_mut().poll(cx).map(|()| None),
            })
            .await
        };
        match ending {
            Some(ending) => {
                self.join();
                ending
            }
            None => {
                self.shared.abandon.store(true, Ordering::Relaxed);
                let message =
                    "the store had more to write than the time to close allowed; the rest was refused";
                Err(Error::new(ErrorKind::DeadlineExceeded, message))
            }
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

//! The store as its callers see it.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
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
use mainstay_writer::{desk::Desk, message::Ask};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    time::timeout,
};

use crate::{
    calls::{Call, Told, received},
    clock::DatabaseClock,
    fault::Trouble,
    home::{Home, Pool, Role},
    link::{Link, Target},
    local,
    options::Options,
    post::{Post, may_look, other},
    schema,
    term::Leading,
};

/// PostgreSQL as the store. Of all processes that have it open, one leads; the others carry their calls to it.
///
/// Close it with [`Store::close`]. Dropped without, it finishes the group in hand, refuses the rest, and blocks until its
/// thread has ended; nothing acknowledged is lost either way.
pub struct PostgresStore {
    home: Arc<Home>,
    post: Arc<Post>,
    capabilities: Capabilities,
    /// Its life is over.
    over: Mutex<Receiver<()>>,
    runtimes: Mutex<Option<Runtimes>>,
}

/// Where the store's tasks live.
struct Runtimes {
    work: Runtime,
    /// Whatever the others have to do, the lease is renewed.
    lease: Runtime,
}

impl Runtimes {
    fn start() -> Result<Runtimes, Error> {
        let start = |name: &str| {
            Builder::new_multi_thread().worker_threads(1).thread_name(name).enable_all().build().map_err(
                |e| {
                    Error::new(ErrorKind::Unavailable, format!("cannot start the store's threads: {e}"))
                        .because(e)
                },
            )
        };
        Ok(Runtimes { work: start("mainstay-postgres")?, lease: start("mainstay-lease")? })
    }

    fn end(self) {
        self.work.shutdown_background();
        self.lease.shutdown_background();
    }
}

/// Whom to ask.
enum Whom {
    Own(Arc<Leading>),
    Other,
}

/// How long to wait at the end for a database that does not answer.
const LAST_WORD: Duration = Duration::from_secs(5);

impl PostgresStore {
    /// Opens the store, makes or migrates its tables if it may, and begins to lead if nobody does. Blocks until it leads
    /// or knows who does; from async code, call it where blocking is allowed.
    ///
    /// # Errors
    /// `Invalid`: the tables are of another format. `Unavailable`: the database cannot be reached, or has refused; the
    /// message says why. `Untrusted`: the tables contradict themselves.
    pub fn open(options: Options) -> Result<PostgresStore, Error> {
        let runtimes = Runtimes::start()?;
        let opened = PostgresStore::open_on(&runtimes, options);
        match opened {
            Ok(Opened { home, post, durable, over }) => Ok(PostgresStore {
                post,
                home,
                capabilities: Capabilities {
                    store: "postgres",
                    durable,
                    commit_scope: CommitScope::Store,
                    token_order: TokenOrder::Store,
                    seq_at_commit: true,
                    exact_depth: true,
                    claim_order: ClaimOrder::Strict,
                    max_commit_ops: mainstay_core::engine::MAX_COMMIT_OPS,
                },
                over: Mutex::new(over),
                runtimes: Mutex::new(Some(runtimes)),
            }),
            Err(error) => {
                runtimes.end();
                Err(error)
            }
        }
    }

    fn open_on(runtimes: &Runtimes, options: Options) -> Result<Opened, Error> {
        let runtime = &runtimes.work;
        let clock = Arc::new(DatabaseClock::new(options.clock.clone()));
        let target = Arc::new(Target::new(options, runtime.handle().clone())?);
        let first = target.clone();
        let durable = block(runtime, async move { prepare(&first).await })??;
        let (tell, over) = sync_channel(1);
        let pool = Arc::new(Pool::new(target.clone()));
        let home = Arc::new(Home {
            target,
            clock,
            role: tokio::sync::watch::Sender::new(Role::Looking),
            closing: tokio::sync::watch::Sender::new(false),
            users: Handle::try_current().ok(),
            pool,
            opened: AtomicBool::new(false),
        });
        let (post, sending) = Post::new(&home.target, home.clock.own_entropy());
        let (sender, clock, role) = (post.clone(), home.clock.clone(), home.role.subscribe());
        let to = home.target.clone();
        runtime.spawn(async move { sender.live(to, sending, role, move || clock.own_entropy()).await });
        let life = home.clone();
        runtimes.lease.spawn(async move {
            life.live().await;
            let _ = tell.try_send(());
        });
        let mut role = home.role.subscribe();
        let known = block(runtime, async move {
            role.wait_for(|role| !matches!(role, Role::Looking)).await.map(|role| role.clone())
        })?;
        match known {
            Ok(Role::Away(error)) => {
                home.closing.send_replace(true);
                Err(error)
            }
            _ => {
                home.opened.store(true, Ordering::Release);
                Ok(Opened { home, post, durable, over })
            }
        }
    }

    /// Whom to ask: this process's own writer, or the post.
    async fn whom(&self) -> Result<Whom, Error> {
        let mut role = self.home.role.subscribe();
        let now = role.borrow_and_update().clone();
        if !matches!(now, Role::Looking) {
            return self.of_role(now);
        }
        let within = self.home.target.options.within;
        let known = self.home.run(async move {
            let known = timeout(within, role.wait_for(|role| !matches!(role, Role::Looking)));
            match known.await {
                Ok(Ok(role)) => Ok(role.clone()),
                Ok(Err(_)) => Ok(Role::Closed),
                Err(_) => {
                    let message = "nobody leads the store, and this process cannot; try again later";
                    Err(Error::new(ErrorKind::Unavailable, message))
                }
            }
        });
        self.of_role(known.await?)
    }

    fn of_role(&self, role: Role) -> Result<Whom, Error> {
        match role {
            Role::Leads(desk) => Ok(Whom::Own(desk)),
            Role::Follows(..) => Ok(Whom::Other),
            Role::Closed => Err(Error::new(ErrorKind::Closed, "the store is closed")),
            Role::Away(error) => Err(Error::new(error.kind(), error.to_string()).because(error)),
            Role::Looking => {
                Err(Error::new(ErrorKind::Unavailable, "the store has just changed hands; try again"))
            }
        }
    }

    fn leading(&self) -> Option<Arc<Leading>> {
        match &*self.home.role.borrow() {
            Role::Leads(desk) => Some(desk.clone()),
            _ => None,
        }
    }
}

/// What opening makes.
struct Opened {
    home: Arc<Home>,
    post: Arc<Post>,
    durable: bool,
    over: Receiver<()>,
}

/// Waits for a future of the store's own runtime on this thread, which may be one of another runtime.
pub(crate) fn block<T: Send + 'static>(
    runtime: &Runtime,
    call: impl Future<Output = T> + Send + 'static,
) -> Result<T, Error> {
    let (tell, told) = sync_channel(1);
    runtime.spawn(async move {
        let _ = tell.try_send(call.await);
    });
    told.recv().map_err(|_| Error::new(ErrorKind::Unavailable, "the store's threads ended without a word"))
}

/// Sees that the tables are there and fit. Answers whether what is committed is on the disk.
async fn prepare(target: &Target) -> Result<bool, Error> {
    let link = Link::open(target, None).await.map_err(Trouble::error)?;
    let schema = target.schema();
    if target.options.migrate {
        schema::migrate(&link, schema).await?;
    } else {
        schema::check(&link, schema).await?;
    }
    let sql = "select current_setting('synchronous_commit'), current_setting('server_encoding')";
    let rows = link.query(sql, vec![]).await.map_err(Trouble::error)?;
    let [commit, encoding] = rows.first().map_or(["", ""], |row| [row.get(0), row.get(1)]);
    // A text that a group has and the tables cannot keep would be in the way of all behind it.
    if !["UTF8", "SQL_ASCII"].contains(&encoding) {
        let message = format!(
            "the database keeps its texts as {encoding}: make one with `create database … encoding 'UTF8' template template0`"
        );
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    Ok(commit != "off")
}

/// Brings the tables of a schema up to date, as opening does. Answers how many steps that took.
///
/// # Errors
/// Those of [`PostgresStore::open`].
pub fn migrate(options: Options) -> Result<usize, Error> {
    let runtime =
        Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(|e| {
            Error::new(ErrorKind::Unavailable, format!("cannot start a thread: {e}")).because(e)
        })?;
    let target = Target::new(options, runtime.handle().clone())?;
    let taken = block(&runtime, async move {
        let link = Link::open(&target, None).await.map_err(Trouble::error)?;
        schema::migrate(&link, target.schema()).await
    });
    runtime.shutdown_background();
    taken?
}

#[async_trait]
impl Store for PostgresStore {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn submit(&self, batch: Batch) -> Result<Vec<Result<Committed, Failure>>, Error> {
        let within = self.home.target.options.within;
        match self.whom().await? {
            Whom::Own(desk) => desk.submit(batch, within).await,
            Whom::Other => match self.post.call(Call::submit(batch, within)).await? {
                Told::Submitted { answers, bodies, events } => Ok(received(answers, bodies, events)),
                told => Err(other(&told)),
            },
        }
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>, Error> {
        match self.whom().await? {
            Whom::Own(desk) if matches!(key, Key::Job(_) | Key::AccessToken(_)) => {
                let (key, pool) = (key.clone(), self.home.pool.clone());
                self.home.run(async move { local::get(&desk, &pool, &key).await }).await
            }
            Whom::Own(desk) => desk.record(key).await,
            Whom::Other => match self.post.call(Call::Get(key.clone())).await? {
                Told::Got(record) => Ok(record),
                told => Err(other(&told)),
            },
        }
    }

    async fn list(&self, query: &Query, page: &Page) -> Result<Slice, Error> {
        match self.whom().await? {
            Whom::Own(desk) if Desk::has_list(query) => desk.list(query, page).await,
            Whom::Own(desk) => {
                let (query, page, pool) = (query.clone(), page.clone(), self.home.pool.clone());
                self.home.run(async move { local::list(&desk, &pool, &query, &page).await }).await
            }
            Whom::Other => {
                let call = Call::List(query.clone(), page.clone());
                match self.post.call(call).await? {
                    Told::Listed(slice) => Ok(slice),
                    told => Err(other(&told)),
                }
            }
        }
    }

    async fn read_log(
        &self,
        filters: &[TopicFilter],
        from: Position,
        budget: LogBudget,
    ) -> Result<LogSlice, Error> {
        match self.whom().await? {
            Whom::Own(desk) => {
                let (filters, pool) = (filters.to_vec(), self.home.pool.clone());
                let read = async move { local::read_log(&desk, &pool, &filters, from, budget).await };
                self.home.run(read).await
            }
            Whom::Other => {
                let call = Call::ReadLog(filters.to_vec(), from, budget);
                match self.post.call(call).await? {
                    Told::Log(slice) => Ok(slice),
                    told => Err(other(&told)),
                }
            }
        }
    }

    async fn wait(&self, on: &[Interest], at_most: Duration) -> Result<Wake, Error> {
        match self.whom().await? {
            Whom::Own(desk) => match desk.wait(on, at_most).await {
                // Another leads: who waits looks again, there.
                Err(_) if desk.moved.get().is_some() && may_look(on) => Ok(Wake::woken(None)),
                ended => ended,
            },
            Whom::Other => self.post.wait(on, at_most).await,
        }
    }

    async fn maintain(&self, budget: Budget) -> Result<Maintained, Error> {
        match self.whom().await? {
            Whom::Own(desk) => desk.maintain(budget).await,
            Whom::Other => match self.post.call(Call::Maintain(budget)).await? {
                Told::Maintained(done) => Ok(done),
                told => Err(other(&told)),
            },
        }
    }

    async fn now(&self) -> Result<Now, Error> {
        match self.whom().await? {
            Whom::Own(desk) => local::now(&desk),
            Whom::Other => match self.post.call(Call::Now).await? {
                Told::Now(now) => Ok(now),
                told => Err(other(&told)),
            },
        }
    }

    async fn ping(&self) -> Result<(), Error> {
        match self.whom().await? {
            Whom::Own(desk) => desk.ask(Ask::Ping).await,
            Whom::Other => self.post.call(Call::Ping).await.map(drop),
        }
    }

    async fn close(&self, at_most: Duration) -> Result<(), Error> {
        self.home.closing.send_replace(true);
        let ending = match self.leading() {
            None => Ok(()),
            Some(desk) => match desk.close(at_most).await {
                Some(ending) => ending,
                None => return Err(desk.abandon()),
            },
        };
        let mut role = self.home.role.subscribe();
        let over = self.home.run(async move {
            let _ = tokio::time::timeout(LAST_WORD, role.wait_for(|role| matches!(role, Role::Closed))).await;
            Ok(())
        });
        let _ = over.await;
        ending
    }

    async fn backup(&self, _into: &Path) -> Result<(), Error> {
        let message =
            "a postgres store has no file to copy: pg_dump and the server's own backups have all of it";
        Err(Error::new(ErrorKind::NotSupported, message))
    }

    fn stats(&self) -> Vec<(&'static str, f64)> {
        match self.leading() {
            Some(leading) => [leading.stats(), self.home.target.outbox.stats()].concat(),
            None => vec![("leads", 0.0)],
        }
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.home.closing.send_replace(true);
        if let Some(desk) = self.leading() {
            desk.abandon();
            desk.inbox.close();
        }
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(RecvTimeoutError::Timeout) = over.recv_timeout(LAST_WORD) {
            tracing::warn!("a store that was dropped could not say so to its database; its lease runs out");
        }
        if let Some(runtimes) = self.runtimes.lock().unwrap_or_else(PoisonError::into_inner).take() {
            runtimes.end();
        }
    }
}

//! Opening a store by its URL.

use std::sync::{Arc, PoisonError};

use mainstay_core::{ErrorKind, MemoryStore, clock::Clock, store::Store};

use crate::{
    Boot, Error, Result, Secret, Shutdown, Weight, Workers,
    client::Client,
    clock,
    health::Heartbeat,
    schedules::Scheduler,
    shutdown::Phase,
    telemetry::{Kind, Registry},
};

/// What a store URL may look like, for error messages.
const FORMS: &str = "memory:, sqlite:PATH, postgres://… and http://HOST:PORT (a mainstay server)";

mod opening;
use opening::Steps;

/// What is called when a store can no longer be trusted: after a failed sync, or with a damaged file.
type OnFatal = Arc<dyn Fn(&mainstay_core::Error) + Send + Sync>;

/// Opens the store that `url` names. Blocks: a file for as long as its recovery takes, a server until it has answered.
///
/// A store that loses its trustworthiness later answers `Untrusted` to everything; [`Boot::store`] also ends the
/// service.
///
/// # Errors
/// A URL of no known form; a form this build or this version cannot open, named; the store's own trouble.
pub fn open(url: &str) -> Result<Client> {
    open_with(url, None, clock::current(), Arc::new(|_| ()), Steps::default())
}

/// Opens the store of a mainstay server at `http://HOST:PORT` with an access token.
///
/// # Errors
/// Those of [`open`].
pub fn open_with_token(url: &str, token: impl Into<Secret<String>>) -> Result<Client> {
    open_with(url, Some(token.into()), clock::current(), Arc::new(|_| ()), Steps::default())
}

/// Brings the tables of a `postgres:` store up to date, as opening it does. Answers how many steps that took. Blocks.
///
/// # Errors
/// A URL of another form; the store's own trouble.
pub fn migrate(url: &str) -> Result<usize> {
    match url.split_once(':') {
        Some(("postgres" | "postgresql", _)) => database::migrate(url),
        _ => Err(Error::config("only the tables of a postgres: store are migrated apart from opening it")),
    }
}

fn open_with(
    url: &str,
    token: Option<Secret<String>>,
    clock: Arc<dyn Clock>,
    on_fatal: OnFatal,
    steps: Steps,
) -> Result<Client> {
    check_url(url).map_err(Error::config)?;
    let store: Arc<dyn Store> = match url.split_once(':') {
        Some(("sqlite", path)) => sqlite(path, &clock, on_fatal, steps)?,
        Some(("http", _)) => remote(url, token.as_ref(), &clock)?,
        Some(("postgres" | "postgresql", _)) => postgres(url, &clock, on_fatal)?,
        _ => Arc::new(MemoryStore::new(clock.clone())),
    };
    Ok(Client::on(store, clock))
}

/// Whether a URL has a form that this version opens, without opening anything.
///
/// # Errors
/// What is wrong with it, and which forms there are, in words for whoever wrote it.
pub fn check_url(url: &str) -> Result<(), String> {
    match url.split_once(':') {
        Some(("memory", "")) => Ok(()),
        Some(("sqlite", path)) if !path.is_empty() => Ok(()),
        Some(("http", rest)) if rest.starts_with("//") && rest.len() > 2 => match rest.contains('@') {
            true => {
                Err("a store's URL has no name or password in it: give the token apart from it".to_owned())
            }
            false => Ok(()),
        },
        Some(("https", _)) => {
            Err("a server is reached by http:// alone; put a TLS proxy beside this program".to_owned())
        }
        Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => Ok(()),
        Some((scheme @ ("redis" | "rediss" | "nats"), _)) => Err(format!(
            "store `{scheme}:` cannot be opened by this version yet; use memory:, sqlite:PATH or postgres://…"
        )),
        _ => Err(format!("`{url}` is not a store URL; the forms are {FORMS}")),
    }
}

#[cfg(feature = "sqlite")]
#[path = "store/embedded.rs"]
mod file;
#[cfg(not(feature = "sqlite"))]
#[path = "store/missing.rs"]
mod file;
use file::open as sqlite;

#[cfg(feature = "postgres")]
#[path = "store/database.rs"]
mod database;
#[cfg(not(feature = "postgres"))]
#[path = "store/no_database.rs"]
mod database;
use database::open as postgres;

#[cfg(feature = "client")]
#[path = "store/remote/mod.rs"]
mod elsewhere;
#[cfg(not(feature = "client"))]
#[path = "store/nowhere.rs"]
mod elsewhere;
use elsewhere::open as remote;

/// What the store says of itself. Figures that only grow end in `_total`; counters say that by themselves.
fn observe(registry: &Registry, client: &Client) {
    for (name, value) in client.store().stats() {
        let (kind, name) = match name.strip_suffix("_total") {
            Some(name) => (Kind::Counter, name),
            None => (Kind::Gauge, name),
        };
        registry.observe(kind, &format!("mainstay.store.{name}"), &[], value);
    }
}

/// How long the writer of a store in this process may take to answer. A disk that hangs for longer does not come back.
const WRITER_LIMIT: std::time::Duration = crate::secs(60);

/// How long the scheduler may be busy with one look at what is due.
const SCHEDULER_LIMIT: std::time::Duration = crate::secs(120);

/// Beats while the store's writer goes on. Not for a store elsewhere: its silence is not cured by our restart.
async fn progress(client: Client, heartbeat: Heartbeat) {
    let groups =
        || client.store().stats().into_iter().find(|(name, _)| *name == "groups_total").map(|(_, n)| n);
    let mut written = groups();
    loop {
        let answer = client.store().ping().await;
        match answer.as_ref().map_err(mainstay_core::Error::kind) {
            Err(ErrorKind::Closed) => return,
            // The question did not get through to it; that it goes on can be seen all the same.
            Err(ErrorKind::Overloaded) if groups() == written => {}
            _ => heartbeat.beat(),
        }
        written = groups();
        tokio::time::sleep(crate::secs(5)).await;
    }
}

/// Beats while the thread that brings the journal into the tables goes on: whoever lists or reads a job waits for it.
async fn tables_progress(client: Client, heartbeat: Heartbeat, shutdown: Shutdown) {
    let mut tables = Tables::default();
    loop {
        if tables.go_on(&client.store().stats()) {
            heartbeat.beat();
        }
        if shutdown.unless_cancelled(tokio::time::sleep(crate::secs(5))).await.is_none() {
            return;
        }
    }
}

/// What was seen of the tables.
#[derive(Default)]
struct Tables {
    batches: f64,
}

impl Tables {
    /// Whether they have nothing to do, or have tried a batch since the last look. One that failed is progress, too: it
    /// is tried again and logged, and a restart does not mend a full disk.
    fn go_on(&mut self, stats: &[(&'static str, f64)]) -> bool {
        let of =
            |wanted: &str| stats.iter().find(|(name, _)| *name == wanted).map_or(0.0, |(_, value)| *value);
        let batches = of("table_batches_total") + of("failed_table_batches_total");
        let before = std::mem::replace(&mut self.batches, batches);
        batches > before || of("behind_bytes") == 0.0
    }
}

/// When the time for work is up, whoever holds a lock is told, and gives it back by itself if it listens. What is left
/// then may still be at work: it is taken back once everything has been cut, before the store closes.
async fn give_locks_back(client: Client, shutdown: Shutdown) {
    shutdown.cancelled().await;
    client.keeper().stop();
    shutdown.reached(Phase::Stopping).await;
    if tokio::time::timeout(GIVE_BACK_LIMIT, client.keeper().give_all_back()).await.is_err() {
        tracing::warn!("the store did not take all locks back; they end with their TTL");
    }
}

/// How long giving locks back may take.
const GIVE_BACK_LIMIT: std::time::Duration = crate::secs(2);
/// How long a store may take to close.
const CLOSE_LIMIT: std::time::Duration = crate::secs(5);

impl<C> Boot<C> {
    /// Opens a store as a component: it is closed after everything that is registered later, and its health is
    /// watched. Workers registered later take their jobs from it, and the schedules it has are fired, from the end of
    /// the start to the beginning of the drain. A server's gets the setting `store_token`, and fires its schedules itself.
    ///
    /// # Errors
    /// Those of [`open`]; `TimedOut` after two minutes in which nothing went on: a file may take longer to be checked after
    /// a fatal error, or to be brought to the format of this build, says so every ten seconds, and is waited for.
    pub async fn store(&self, url: &str) -> Result<Client> {
        let steps = Steps::default();
        let opened = {
            // A test has time of its own, which no other process and no thread of a file's store would follow.
            let url = if self.core.stage.is_a_test() { "memory:" } else { url };
            let (url, shutdown) = (url.to_owned(), self.shutdown());
            let token = self.settings().store_token.clone().filter(|token| !token.reveal().is_empty());
            let on_fatal: OnFatal = Arc::new(move |error| shutdown.fail(Error::untrusted(error.to_string())));
            let clock = clock::current(); // of this thread: the one that opens has none
            let steps = steps.clone();
            tokio::task::spawn_blocking(move || open_with(&url, token, clock, on_fatal, steps))
        };
        let stage = self.core.stage.clone();
        let opened = async move {
            let opened = async { opened.await.map_err(Error::from_any)? };
            let client = clock::real(steps.made_by(opened)).await?;
            Ok::<_, Error>(stage.around(client))
        };
        let close = |client: Client| async move { client.store().close(CLOSE_LIMIT).await };
        // It has a limit of its own.
        let opening = self.component("store", opened).within(std::time::Duration::MAX);
        let client = opening.stop(close).stop_within(CLOSE_LIMIT).await?;
        let read = client.clone();
        self.core.collector.add(Box::new(move |registry| observe(registry, &read)));
        if matches!(client.capabilities().store, "sqlite" | "memory") {
            let heartbeat = self.heartbeat("store writer", WRITER_LIMIT);
            self.core.loops.spawn("store progress", progress(client.clone(), heartbeat));
        }
        if client.capabilities().store == "sqlite" {
            let (client, heartbeat) = (client.clone(), self.heartbeat("store tables", WRITER_LIMIT));
            self.background("tables progress", |shutdown| tables_progress(client, heartbeat, shutdown));
        }
        let pinged = client.clone();
        self.check("store", Weight::Critical, move || {
            let store = pinged.store().clone();
            async move { store.ping().await }
        });
        let locks = client.clone();
        self.background("locks", |shutdown| give_locks_back(locks, shutdown));
        // A server fires its own.
        if client.capabilities().store != "remote" {
            self.scheduler(client.clone());
        }
        self.core.stage.offer(client.clone());
        *self.core.store.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        Ok(client)
    }

    /// Fires the schedules of a store, from the end of the start to the beginning of the drain. [`Boot::store`] does it
    /// for the stores that it opens; this is for one that was opened elsewhere.
    pub fn scheduler(&self, store: Client) {
        let (scheduler, heartbeat) = (Scheduler::new(store), self.heartbeat("scheduler", SCHEDULER_LIMIT));
        self.background("scheduler", |shutdown| async move { scheduler.run(heartbeat, shutdown).await });
    }

    /// Registers workers: they fetch once the service has started, finish what they have in the drain, and give
    /// back what they could not finish. A mistake in them ends the start.
    pub fn workers<S: Clone + Send + Sync + 'static>(&self, workers: Workers<S>) {
        match workers.build(self) {
            Ok(part) => self.register(Arc::new(part)),
            // Told where it can be: at the start, with everything before it undone.
            Err(error) => self.on_ready(std::future::ready(Err(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tables;

    #[test]
    fn tables_that_have_something_to_do_and_try_nothing_do_not_go_on() {
        let mut tables = Tables::default();
        for (behind, batches, failed, goes_on) in [
            (0.0, 0.0, 0.0, true),
            (9.0, 0.0, 0.0, false),
            (9.0, 1.0, 0.0, true),
            (9.0, 1.0, 0.0, false),
            (9.0, 1.0, 1.0, true),
            (0.0, 1.0, 1.0, true),
        ] {
            let stats = [
                ("behind_bytes", behind),
                ("table_batches_total", batches),
                ("failed_table_batches_total", failed),
            ];
            assert_eq!(tables.go_on(&stats), goes_on, "{stats:?}");
        }
    }
}

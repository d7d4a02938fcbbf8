//! Opening a store by its URL.

use std::sync::{Arc, PoisonError};

use mainstay_core::{MemoryStore, clock::Clock, store::Store};

use crate::{Boot, Error, Result, Weight, Workers, client::Client, clock::SystemClock};

/// What a store URL may look like, for error messages.
const FORMS: &str = "memory:, sqlite:PATH, postgres://…, redis://…, nats://…, http://… (a mainstay server)";

/// Opens the store that `url` names. Opening a file blocks, for as long as its recovery takes.
///
/// # Errors
/// A URL of no known form; a form this build or this version cannot open, named; the store's own trouble.
pub fn open(url: &str) -> Result<Client> {
    check_url(url).map_err(Error::config)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store: Arc<dyn Store> = match url.split_once(':') {
        Some(("sqlite", path)) => sqlite(path, &clock)?,
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
        Some((scheme @ ("postgres" | "postgresql" | "redis" | "rediss" | "nats" | "http" | "https"), _)) => {
            Err(format!("store `{scheme}:` cannot be opened by this version yet; use memory: or sqlite:PATH"))
        }
        _ => Err(format!("`{url}` is not a store URL; the forms are {FORMS}")),
    }
}

#[cfg(feature = "sqlite")]
use self::embedded::open as sqlite;
#[cfg(not(feature = "sqlite"))]
use self::missing::open as sqlite;

#[cfg(not(feature = "sqlite"))]
mod missing {
    use super::*;

    pub(super) fn open(_path: &str, _clock: &Arc<dyn Clock>) -> Result<Arc<dyn Store>> {
        Err(Error::config("this build has no `sqlite:` store: enable the crate's feature `sqlite`"))
    }
}

/// How long a store may take to open: recovery of a large file is not an error.
const OPEN_LIMIT: std::time::Duration = crate::secs(120);
/// How long a store may take to close.
const CLOSE_LIMIT: std::time::Duration = crate::secs(5);

impl<C> Boot<C> {
    /// Opens a store as a component: it is closed after everything that is registered later, and its health is
    /// watched. Workers registered later take their jobs from it.
    ///
    /// # Errors
    /// Those of [`open`]; `TimedOut` after two minutes.
    pub async fn store(&self, url: &str) -> Result<Client> {
        let opened = {
            let url = url.to_owned();
            tokio::task::spawn_blocking(move || open(&url))
        };
        let opened = async { opened.await.map_err(Error::from_any)? };
        let client = self.component("store", opened).within(OPEN_LIMIT).await?;
        let closing = client.clone();
        self.on_stop("store", CLOSE_LIMIT, move || async move { closing.store().close(CLOSE_LIMIT).await });
        let pinged = client.clone();
        self.check("store", Weight::Critical, move || {
            let store = pinged.store().clone();
            async move { store.ping().await }
        });
        *self.core.store.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        Ok(client)
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

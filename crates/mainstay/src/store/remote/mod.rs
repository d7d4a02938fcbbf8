//! `http://HOST:PORT`: the store of a mainstay server, behind the same seam.
//!
//! Every call becomes one of the server's (`mainstay-api` speaks with it): what it cannot say is refused by name. Calls
//! are tried again only where that is safe, which is the HTTP client's business: what is not idempotent by itself
//! carries an `Idempotency-Key`.

mod convert;
mod envelope;
mod events;
mod fault;
mod locks;
mod read;
mod schedules;
mod submit;
mod tickets;
mod waits;
mod write;

use std::{
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use mainstay_api::{
    client::{HttpClient, Options},
    types::StoreInfo,
};
use mainstay_core::{
    Error as StoreError, ErrorKind,
    clock::Clock,
    event::{LogBudget, LogSlice, Position},
    op::{Committed, Failure},
    store::{
        Batch, Budget, Capabilities, ClaimOrder, CommitScope, Interest, Key, Maintained, Page, Query, Record,
        Slice, Store, TokenOrder, Wake,
    },
    time::Now,
    topic::TopicFilter,
};
use tokio::sync::Notify;

use crate::{Error, Result, Secret, millis, secs};
use tickets::Tickets;

/// How long a call may take, tries included, unless whoever calls has less time.
const CALL_LIMIT: Duration = secs(30);
/// How long the first look at the server may take.
const OPEN_LIMIT: Duration = secs(10);
/// What a server waits at most in one call.
const LONGEST_WAIT: Duration = secs(60);
/// What `/v1/commit` takes.
const MAX_COMMIT_OPS: u32 = 1_000;
/// Before another try when a server cannot tell when looking again is worth it.
const BLIND_WAIT: Duration = millis(500);

/// Opens the store of the server at `url`. Blocks until it has answered once.
pub(super) fn open(
    url: &str,
    token: Option<&Secret<String>>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Store>> {
    let options = || Options {
        token: token.map(|token| token.reveal().clone()),
        timeout: CALL_LIMIT,
        ..Options::default()
    };
    let client =
        HttpClient::new(url, options()).map_err(|error| Error::config(format!("store `{url}`: {error}")))?;
    let info = look(url, Options { timeout: OPEN_LIMIT, ..options() })?;
    Ok(Arc::new(RemoteStore {
        client,
        capabilities: capabilities(&info),
        clock: clock.clone(),
        tickets: Tickets::default(),
        closed: AtomicBool::new(false),
        closing: Notify::new(),
    }))
}

/// What the server says of its store. On a thread with a runtime of its own: whoever opens may be on one, and the
/// connection of a runtime that is gone is of no use to another.
fn look(url: &str, options: Options) -> Result<StoreInfo> {
    let answer = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let client = HttpClient::new(url, options).map_err(|error| error.to_string())?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            match runtime.block_on(client.store()) {
                // A worker's token need not be allowed to look around.
                Err(error) if error.code() == Some(mainstay_api::Code::Forbidden) => Ok(modest()),
                answer => answer.map_err(|error| error.to_string()),
            }
        });
        asking.join().unwrap_or_else(|_| Err("the thread that asked panicked".to_owned()))
    });
    answer.map_err(|error| Error::unavailable(format!("store `{url}`: {error}")))
}

/// What every server's store can at least.
fn modest() -> StoreInfo {
    StoreInfo {
        store: String::new(),
        durable: false,
        commit_scope: mainstay_api::types::CommitScope::Single,
        token_order: mainstay_api::types::TokenOrder::Name,
        seq_at_commit: false,
        exact_depth: false,
        features: Vec::new(),
        version: String::new(),
    }
}

fn capabilities(info: &StoreInfo) -> Capabilities {
    use mainstay_api::types as wire;
    Capabilities {
        store: "remote",
        durable: info.durable,
        commit_scope: match info.commit_scope {
            wire::CommitScope::Store => CommitScope::Store,
            wire::CommitScope::Partition => CommitScope::Partition,
            wire::CommitScope::Single => CommitScope::Single,
        },
        token_order: match info.token_order {
            wire::TokenOrder::Store => TokenOrder::Store,
            wire::TokenOrder::Name => TokenOrder::Name,
        },
        seq_at_commit: info.seq_at_commit,
        exact_depth: info.exact_depth,
        claim_order: match info.store.as_str() {
            "memory" | "sqlite" => ClaimOrder::Strict,
            _ => ClaimOrder::BestEffort,
        },
        max_commit_ops: MAX_COMMIT_OPS,
    }
}

struct RemoteStore {
    client: HttpClient,
    capabilities: Capabilities,
    /// Time and ids for whoever calls; leases and due times are the server's business.
    clock: Arc<dyn Clock>,
    /// Of locks that were asked for.
    tickets: Tickets,
    closed: AtomicBool,
    closing: Notify,
}

impl RemoteStore {
    fn open(&self) -> std::result::Result<(), StoreError> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(StoreError::new(ErrorKind::Closed, "the store is closed")),
            false => Ok(()),
        }
    }

    /// The client, for a call that has no more than this time.
    fn within(&self, limit: Option<Duration>) -> HttpClient {
        self.client.with_timeout(limit.map_or(CALL_LIMIT, |limit| limit.min(CALL_LIMIT)))
    }

    /// Until it is closed.
    async fn unless_closed<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        let closing = self.closing.notified();
        if self.open().is_err() {
            return None;
        }
        tokio::select! { biased; () = closing => None, out = call => Some(out) }
    }
}

#[async_trait]
impl Store for RemoteStore {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn submit(
        &self,
        batch: Batch,
    ) -> std::result::Result<Vec<std::result::Result<Committed, Failure>>, StoreError> {
        self.open()?;
        let server =
            write::Server { client: &self.within(batch.within), tickets: &self.tickets, clock: &*self.clock };
        Ok(submit::all(&server, batch.commits).await)
    }

    async fn get(&self, key: &Key) -> std::result::Result<Option<Record>, StoreError> {
        self.open()?;
        read::get(&self.client, key).await
    }

    async fn list(&self, query: &Query, page: &Page) -> std::result::Result<Slice, StoreError> {
        self.open()?;
        read::list(&self.client, query, page).await
    }

    async fn read_log(
        &self,
        filters: &[TopicFilter],
        from: Position,
        budget: LogBudget,
    ) -> std::result::Result<LogSlice, StoreError> {
        self.open()?;
        events::log(&self.client, filters, from, budget).await
    }

    /// A wake-up from elsewhere has been passed on by the time it arrives: the server keeps its own for a moment, so
    /// that whoever it woke can come back and look.
    async fn wait(&self, on: &[Interest], at_most: Duration) -> std::result::Result<Wake, StoreError> {
        match self.unless_closed(waits::wait(&self.client, &self.tickets, on, at_most)).await {
            None => Err(StoreError::new(ErrorKind::Closed, "the store is closed")),
            Some(Ok(true)) => Ok(Wake::woken(None)),
            Some(Ok(false)) => Ok(Wake::timed_out()),
            Some(Err(error)) => Err(error),
        }
    }

    /// The server does that.
    async fn maintain(&self, _budget: Budget) -> std::result::Result<Maintained, StoreError> {
        self.open()?;
        Ok(Maintained::default())
    }

    async fn now(&self) -> std::result::Result<Now, StoreError> {
        self.open()?;
        Ok(self.clock.now())
    }

    /// One that is not ready, or wants to see another token, has answered too; its calls will say so.
    async fn ping(&self) -> std::result::Result<(), StoreError> {
        self.open()?;
        let answer = self.client.with_retry(false).with_timeout(secs(5)).livez().await;
        answer.map(drop).map_err(|error| fault::trouble(&error))
    }

    /// Lets go of the connections; the server and what it holds stay.
    async fn close(&self, _at_most: Duration) -> std::result::Result<(), StoreError> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return self.open();
        }
        self.closing.notify_waiters();
        Ok(())
    }
}

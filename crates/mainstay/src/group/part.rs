//! A durable subscription in the life cycle of a service.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;

use super::run::Pool;
use crate::{
    Error, Result,
    app::{Overstayer, Part},
    secs,
    tasks::{Task, TaskSet},
};

/// How long giving unfinished deliveries back may take.
const GIVE_BACK_LIMIT: Duration = secs(2);

/// Fetches from the start, finishes what it has in the drain, gives back what it could not finish.
pub(super) struct GroupPart {
    pool: Arc<Pool>,
    loops: Mutex<Option<Loops>>,
}

struct Loops {
    /// Attempts, owned here: the drain report names their events, not their tasks.
    attempts: TaskSet,
    fetch: Option<Task<()>>,
    /// Renews, cuts what is late, settles, tells handlers to stop.
    helpers: [Task<()>; 4],
}

impl GroupPart {
    pub fn new(pool: Pool) -> Self {
        Self { pool: Arc::new(pool), loops: Mutex::new(None) }
    }

    fn begin(&self) -> Result<()> {
        let outside = || Error::from("a subscription starts inside of a runtime");
        let tasks = TaskSet::current().ok_or_else(outside)?;
        let attempts = TaskSet::current().ok_or_else(outside)?;
        let pool = &self.pool;
        let told = pool.clone();
        let helpers = [
            tasks.spawn("renew deliveries", pool.clone().renew()),
            tasks.spawn("cut late deliveries", pool.clone().cut_late()),
            tasks.spawn("settle deliveries", pool.settler.clone().run()),
            tasks.spawn("cancel event handlers", async move {
                told.shutdown.cancelled().await;
                told.stop.send_replace(true);
            }),
        ];
        let fetch = tasks.spawn("fetch events", pool.clone().fetch(attempts.clone()));
        *self.lock() = Some(Loops { attempts, fetch: Some(fetch), helpers });
        Ok(())
    }

    async fn give_back(&self) -> Result<()> {
        let leases = self.pool.hands.unfinished();
        if leases.is_empty() {
            return Ok(());
        }
        let given_back = self.pool.give_back(leases, GIVE_BACK_LIMIT);
        match tokio::time::timeout(GIVE_BACK_LIMIT, given_back).await {
            Ok(answer) => answer.map_err(Into::into),
            Err(_) => {
                Err(Error::from("the store did not take unfinished events back; their leases will end"))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Loops>> {
        self.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part for GroupPart {
    fn name(&self) -> String {
        format!("group {}", self.pool.group)
    }

    fn start(self: Arc<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            self.pool.put_group().await?;
            self.begin()
        })
    }

    fn drained(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let in_hand = self.lock().as_mut().map(|loops| (loops.fetch.take(), loops.attempts.clone()));
            let Some((fetch, attempts)) = in_hand else { return };
            // First the fetcher: it may hold a fetch under way whose events still have to be handled.
            if let Some(fetch) = fetch {
                let _ = fetch.await;
            }
            attempts.idle().await;
        })
    }

    fn in_flight(&self) -> Vec<Overstayer> {
        self.pool.hands.overstayers(self.pool.group.as_str())
    }

    fn abort(&self) {
        self.pool.hands.cut_all();
    }

    fn stop(self: Arc<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let Some(loops) = self.lock().take() else { return Ok(()) };
            self.pool.hands.cut_all();
            loops.helpers.iter().for_each(Task::abort);
            let given_back = self.give_back().await;
            loops.attempts.abort();
            given_back
        })
    }
}

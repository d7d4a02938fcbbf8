//! The jobs a pool has in hand.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mainstay_core::{id::JobId, job::Grant, lease::LeaseId};
use tokio::{sync::watch, task::AbortHandle};
use tracing::Span;

use crate::{app::Overstayer, context::Context, time::monotonic_ms};

/// Shared by the fetcher, the attempts and the renewal.
#[derive(Clone, Default)]
pub(super) struct RunningJobs(Arc<Mutex<Entries>>);

#[derive(Default)]
struct Entries {
    live: HashMap<(JobId, LeaseId), Entry>,
    /// Attempts that were cut: their jobs are to be given back.
    cut: Vec<(JobId, LeaseId)>,
}

struct Entry {
    kind: Arc<str>,
    queue: String,
    since_ms: u64,
    context: Context,
    stop: watch::Sender<bool>,
    abort: Option<AbortHandle>,
    /// Its lease is gone: there is nothing to give back.
    lost: bool,
}

impl RunningJobs {
    /// Enters a job in the context of its attempt; the slip leaves when it is dropped.
    pub(super) fn enter(&self, grant: &Grant, kind: Arc<str>) -> (Slip, watch::Receiver<bool>) {
        let (stop, stopped) = watch::channel(false);
        let entry = Entry {
            kind,
            queue: grant.queue.to_string(),
            since_ms: monotonic_ms(),
            context: Context::current(),
            stop,
            abort: None,
            lost: false,
        };
        let key = (grant.id, grant.lease);
        self.lock().live.insert(key, entry);
        (Slip { jobs: self.clone(), key, settled: false }, stopped)
    }

    /// Remembers how to cut an attempt.
    pub(super) fn can_be_cut(&self, key: (JobId, LeaseId), abort: AbortHandle) {
        if let Some(entry) = self.lock().live.get_mut(&key) {
            entry.abort = Some(abort);
        }
    }

    pub(super) fn leases(&self) -> Vec<(JobId, LeaseId)> {
        self.lock().live.keys().copied().collect()
    }

    /// Tells a handler to stop.
    pub(super) fn stop(&self, key: (JobId, LeaseId)) {
        if let Some(entry) = self.lock().live.get(&key) {
            entry.stop.send_replace(true);
        }
    }

    /// Tells every handler to stop.
    pub(super) fn stop_all(&self) {
        self.lock().live.values().for_each(|entry| _ = entry.stop.send_replace(true));
    }

    /// Cuts one attempt whose lease is lost: what it does now is worthless.
    pub(super) fn cut_lost(&self, key: (JobId, LeaseId)) {
        let abort = self.lock().live.get_mut(&key).and_then(|entry| {
            entry.lost = true;
            entry.abort.take()
        });
        if let Some(abort) = abort {
            abort.abort();
        }
    }

    /// Cuts every attempt.
    pub(super) fn cut_all(&self) {
        let aborts: Vec<_> = self.lock().live.values_mut().filter_map(|entry| entry.abort.take()).collect();
        aborts.iter().for_each(AbortHandle::abort);
    }

    /// The jobs that are to be given back: cut, or still in hand.
    pub(super) fn unfinished(&self) -> Vec<(JobId, LeaseId)> {
        let mut entries = self.lock();
        let mut all = std::mem::take(&mut entries.cut);
        all.extend(entries.live.keys());
        all
    }

    pub(super) fn overstayers(&self) -> Vec<Overstayer> {
        let now = monotonic_ms();
        let entries = self.lock();
        let each = entries.live.iter().map(|((id, _), entry)| {
            let age = Duration::from_millis(now.saturating_sub(entry.since_ms));
            Overstayer::new(format!("job {id} {}", entry.kind), format!("queue {}", entry.queue), age)
                .in_span(crate::log::describe(&entry.context, &Span::none()))
        });
        each.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job in hand. Dropped before it was settled, its job is noted to be given back.
pub(super) struct Slip {
    jobs: RunningJobs,
    pub(super) key: (JobId, LeaseId),
    settled: bool,
}

impl Slip {
    /// The claim has ended, or is lost: there is nothing to give back.
    pub(super) fn settled(mut self) {
        self.settled = true;
    }
}

impl Drop for Slip {
    fn drop(&mut self) {
        let mut entries = self.jobs.lock();
        let entry = entries.live.remove(&self.key);
        if !self.settled && entry.as_ref().is_some_and(|entry| !entry.lost) {
            entries.cut.push(self.key);
        }
        drop(entries);
        drop(entry);
    }
}

//! The deliveries that a subscription has in hand.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mainstay_core::LeaseId;
use tokio::{task::AbortHandle, time::Instant};

use crate::{app::Overstayer, client::OwnEnd, event::Envelope};

/// Shared by the fetcher, the attempts and the renewal.
#[derive(Clone, Default)]
pub(super) struct Hands(Arc<Mutex<Entries>>);

#[derive(Default)]
struct Entries {
    live: HashMap<LeaseId, Entry>,
    /// Attempts that were cut: their events are to be given back.
    cut: Vec<LeaseId>,
}

struct Entry {
    envelope: Envelope,
    since: Instant,
    abort: Option<AbortHandle>,
    own_end: OwnEnd,
    /// Its lease is gone: there is nothing to give back.
    lost: bool,
}

impl Hands {
    /// Enters a delivery; the slip leaves when it is dropped.
    pub fn enter(&self, lease: LeaseId, envelope: &Envelope) -> Slip {
        let (own_end, since) = (OwnEnd::default(), Instant::now());
        let slip = Slip { hands: self.clone(), lease, own_end: own_end.clone(), settled: false };
        let entry = Entry { envelope: envelope.clone(), since, abort: None, own_end, lost: false };
        self.lock().live.insert(lease, entry);
        slip
    }

    /// Remembers how to cut an attempt.
    pub fn can_be_cut(&self, lease: LeaseId, abort: AbortHandle) {
        if let Some(entry) = self.lock().live.get_mut(&lease) {
            entry.abort = Some(abort);
        }
    }

    /// Those that are to be renewed.
    pub fn leases(&self) -> Vec<LeaseId> {
        let live = |(lease, entry): (&LeaseId, &Entry)| (!entry.own_end.is_done()).then_some(*lease);
        self.lock().live.iter().filter_map(live).collect()
    }

    /// Cuts one attempt whose lease is lost: what it does now is worthless. One that has ended its delivery itself goes
    /// on; one whose commit is on the way is looked at again at the next renewal.
    pub fn cut_lost(&self, lease: LeaseId) {
        let mut entries = self.lock();
        let lost = entries.live.get_mut(&lease).filter(|entry| !entry.own_end.may_be_done());
        let abort = lost.and_then(|entry| {
            entry.lost = true;
            entry.abort.take()
        });
        drop(entries);
        if let Some(abort) = abort {
            abort.abort();
        }
    }

    /// Cuts every attempt.
    pub fn cut_all(&self) {
        let aborts: Vec<_> = self.lock().live.values_mut().filter_map(|entry| entry.abort.take()).collect();
        aborts.iter().for_each(AbortHandle::abort);
    }

    /// What is to be given back: cut, or still in hand.
    pub fn unfinished(&self) -> Vec<LeaseId> {
        let mut entries = self.lock();
        let mut all = std::mem::take(&mut entries.cut);
        all.extend(entries.live.keys());
        all
    }

    pub fn overstayers(&self, group: &str) -> Vec<Overstayer> {
        let now = Instant::now();
        let all: Vec<_> =
            self.lock().live.values().map(|entry| (entry.envelope.clone(), entry.since)).collect();
        let each = all.into_iter().map(|(event, since)| {
            let what = format!("event {} {}", event.topic(), event.id());
            let span = crate::log::describe(event.context(), &tracing::Span::none());
            Overstayer::new(what, format!("group {group}"), now - since).in_span(span)
        });
        each.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A delivery in hand. Dropped before it was settled, it is noted to be given back.
pub(super) struct Slip {
    hands: Hands,
    lease: LeaseId,
    pub own_end: OwnEnd,
    settled: bool,
}

impl Slip {
    /// The delivery has ended, or is lost: there is nothing to give back.
    pub fn settled(mut self) {
        self.settled = true;
    }
}

impl Drop for Slip {
    fn drop(&mut self) {
        let mut entries = self.hands.lock();
        let entry = entries.live.remove(&self.lease);
        if !self.settled && entry.as_ref().is_some_and(|entry| !entry.lost) {
            entries.cut.push(self.lease);
        }
        drop(entries);
        drop(entry);
    }
}

//! The deliveries that a subscription has in hand.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mainstay_core::LeaseId;
use tokio::{sync::Notify, task::AbortHandle, time::Instant};

use crate::{app::Overstayer, client::OwnEnd, event::Envelope, secs};

/// When to look again at one whose lease is over while a commit that ends it is on the way.
const LOOK_AGAIN: Duration = secs(1);

/// Shared by the fetcher, the attempts and the renewal.
#[derive(Clone, Default)]
pub(super) struct Hands(Arc<Shared>);

#[derive(Default)]
struct Shared {
    entries: Mutex<Entries>,
    /// Told when late ones are to be looked for sooner.
    sooner: Notify,
}

#[derive(Default)]
struct Entries {
    live: HashMap<LeaseId, Entry>,
    /// Attempts that were cut: their events are to be given back.
    cut: Vec<LeaseId>,
    /// When late ones are looked for next.
    look_at: Option<Instant>,
}

struct Entry {
    envelope: Envelope,
    since: Instant,
    abort: Option<AbortHandle>,
    own_end: OwnEnd,
    /// Its lease lives until then at least, as far as this process can know.
    until: Instant,
    /// The handler is done; its end is on the way.
    ended: bool,
    /// The store says that its lease is gone: there is nothing to give back.
    lost: bool,
    /// Its lease is gone by the clock of this process; no store has said so.
    overdue: bool,
}

impl Entry {
    fn is_cut(&self) -> bool {
        self.lost || self.overdue
    }
}

impl Hands {
    /// Enters a delivery whose lease lives `until` then; the slip leaves when it is dropped.
    pub fn enter(&self, lease: LeaseId, envelope: &Envelope, until: Instant) -> Slip {
        let (own_end, since) = (OwnEnd::default(), Instant::now());
        let slip = Slip { hands: self.clone(), lease, own_end: own_end.clone(), settled: false };
        let (envelope, abort, ended, lost, overdue) = (envelope.clone(), None, false, false, false);
        let entry = Entry { envelope, since, abort, own_end, until, ended, lost, overdue };
        let mut entries = self.lock();
        entries.live.insert(lease, entry);
        if entries.look_at.is_none_or(|at| until < at) {
            self.0.sooner.notify_one();
        }
        drop(entries);
        slip
    }

    /// The lease was extended.
    pub fn extended(&self, lease: LeaseId, until: Instant) {
        if let Some(entry) = self.lock().live.get_mut(&lease) {
            entry.until = until;
        }
    }

    /// The handler is done: whether its end comes in time is for the store to say.
    pub fn ended(&self, lease: LeaseId) {
        if let Some(entry) = self.lock().live.get_mut(&lease) {
            entry.ended = true;
        }
    }

    /// Remembers how to cut an attempt.
    pub fn can_be_cut(&self, lease: LeaseId, abort: AbortHandle) {
        let mut entries = self.lock();
        let Some(entry) = entries.live.get_mut(&lease) else { return };
        entry.abort = Some(abort.clone());
        // Late before it has begun.
        let late = entry.is_cut();
        drop(entries);
        if late {
            abort.abort();
        }
    }

    /// Those that are to be renewed.
    pub fn leases(&self) -> Vec<LeaseId> {
        let live = |(lease, entry): (&LeaseId, &Entry)| {
            (!entry.is_cut() && !entry.own_end.is_done()).then_some(*lease)
        };
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

    /// Cuts the attempts whose lease must have ended by the clock of this process, whatever the store would say if it
    /// could be asked: their events may be with others. Answers when to look again.
    pub fn cut_late(&self, now: Instant) -> Option<Instant> {
        let mut entries = self.lock();
        let (mut late, mut next) = (Vec::new(), None::<Instant>);
        for (lease, entry) in &mut entries.live {
            if entry.ended || entry.is_cut() || entry.own_end.is_done() {
                continue;
            }
            let due = match entry.until <= now {
                true if !entry.own_end.may_be_done() => {
                    entry.overdue = true;
                    late.extend(entry.abort.take().map(|abort| (*lease, abort)));
                    continue;
                }
                // A commit that ends it is on the way.
                true => now + LOOK_AGAIN,
                false => entry.until,
            };
            next = next.into_iter().chain([due]).min();
        }
        entries.look_at = next;
        drop(entries);
        for (lease, abort) in late {
            metrics::counter!("mainstay.group.leases_lost").increment(1);
            tracing::warn!(
                token = lease.token.0,
                "the store has not renewed a lease in time; its handler is cut"
            );
            abort.abort();
        }
        next
    }

    /// Resolves when late ones are to be looked for sooner than was said. Cancel safe.
    pub async fn sooner(&self) {
        self.0.sooner.notified().await;
    }

    /// Cuts every attempt.
    pub fn cut_all(&self) {
        let aborts: Vec<_> = self.lock().live.values_mut().filter_map(|entry| entry.abort.take()).collect();
        aborts.iter().for_each(AbortHandle::abort);
    }

    /// What was cut and is to be given back: if its lease lives on all the same, as those of a server do that was down,
    /// others can have the event at once.
    pub fn cut(&self) -> Vec<LeaseId> {
        self.lock().cut.clone()
    }

    /// They are not to be given back any more.
    pub fn given_back(&self, leases: &[LeaseId]) {
        self.lock().cut.retain(|lease| !leases.contains(lease));
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
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
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

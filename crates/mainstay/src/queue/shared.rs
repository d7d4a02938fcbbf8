//! What both ends of a queue share: its state, its rules, its metrics.

use std::sync::Arc;

use tokio::time::Instant;

use super::core::{Core, Missed, Nothing};
use super::lanes;
use super::meter::Meter;
use super::room::Put;
use super::state::{Denied, Load};
use super::{Overflow, Plan, Refused, SendError, Sent};

pub(super) struct Shared<T> {
    pub(super) name: String,
    pub(super) core: Core<T, Instant>,
    pub(super) plan: Plan<T>,
    /// All that is asked of an item is its priority, if that.
    pub(super) plain: bool,
    pub(super) meter: Arc<Meter>,
}

/// An item with what the queue knows of it.
pub(super) type Entry<T> = lanes::Entry<T, Instant>;

/// An item on its way in.
pub(super) struct Incoming<T> {
    entry: Entry<T>,
    lane: u8,
}

impl<T> Shared<T> {
    pub fn new(name: String, plan: Plan<T>) -> Self {
        let meter = Meter::of(&name);
        let detailed = plan.weigh.is_some() || plan.expires.is_some() || plan.time_to_live.is_some();
        let core = Core::new(Load { items: plan.capacity, weight: plan.max_bytes }, detailed);
        Self { name, core, plan, plain: !detailed, meter }
    }

    #[inline]
    pub fn incoming(&self, item: T) -> Incoming<T> {
        let plan = &self.plan;
        let lane = plan.priority.as_ref().map_or(0, |priority| priority(&item));
        if self.plain {
            return Incoming { entry: Entry::plain(item), lane };
        }
        let weight = plan.weigh.as_ref().map_or(0, |weigh| weigh(&item));
        // A time that the clock does not reach is none.
        let lives_until = plan.time_to_live.and_then(|limit| Instant::now().checked_add(limit));
        let expires = plan.expires.as_ref().and_then(|at| at(&item)).into_iter().chain(lives_until).min();
        Incoming { entry: Entry { item, weight, expires, since: None }, lane }
    }

    /// Takes an item now or, in a queue that waits, says that there is no room.
    pub fn admit(&self, incoming: Incoming<T>) -> Result<Sent<T>, NotTaken<T>> {
        let Incoming { entry, lane } = incoming;
        let back = |(denied, entry)| (denied, Incoming { entry, lane });
        if self.plan.overflow == Overflow::DropOldest {
            let evicted = self.core.force(lane, entry, Instant::now).map_err(back)?;
            self.meter.dropped_oldest(evicted.len());
            return Ok(Sent::evicting(evicted.into_iter().map(|entry| entry.item).collect()));
        }
        match self.core.offer(lane, entry, Instant::now) {
            Ok(()) => Ok(Sent::at_once()),
            Err((Denied::Full, entry)) if self.plan.overflow == Overflow::DropNewest => {
                self.meter.dropped_newest();
                Ok(Sent::evicting(vec![entry.item]))
            }
            Err(refused) => Err(back(refused)),
        }
    }

    /// Puts an item in, whatever the rule for when there is no room, or stands in line with it.
    #[inline]
    pub fn put(&self, incoming: Incoming<T>) -> Result<(), Result<Put<'_, T, Instant>, SendError<T>>> {
        let Incoming { entry, lane } = incoming;
        match self.core.enter(lane, entry, Instant::now) {
            Ok(()) => Ok(()),
            Err(missed) => self.put_again(missed, lane),
        }
    }

    #[inline(never)]
    fn put_again<'a>(
        &'a self,
        missed: Missed<'a, T, Instant>,
        lane: u8,
    ) -> Result<(), Result<Put<'a, T, Instant>, SendError<T>>> {
        match self.core.put(missed, lane, Instant::now) {
            Ok(None) => Ok(()),
            Ok(Some(put)) => Err(Ok(put)),
            Err((denied, entry)) => Err(Err(self.refuse(entry.item, denied.into()))),
        }
    }

    /// The next item of a plain queue; `Ok(None)` when there will be none any more, an error when there is none now.
    #[inline]
    pub fn pop(&self, held: &mut usize) -> Result<Option<T>, Nothing> {
        if !self.plain {
            return Err(Nothing);
        }
        Ok(self.core.pop(held)?.map(|entry| self.delivered(entry)))
    }

    /// Puts an item into reserved room.
    pub fn fill(&self, reserved: u64, incoming: Incoming<T>) -> Result<(), SendError<T>> {
        let Incoming { entry, lane } = incoming;
        let filled = self.core.fill(reserved, lane, entry, Instant::now);
        filled.map_err(|(denied, entry)| self.refuse(entry.item, denied.into()))
    }

    pub fn refuse(&self, item: T, refused: Refused) -> SendError<T> {
        self.meter.refused(refused);
        SendError::new(item, refused)
    }

    /// Says of an entry whether it is still of use. Reads the clock only where entries can expire.
    pub fn live(&self) -> impl Fn(&Entry<T>) -> bool + use<T> {
        let plan = &self.plan;
        let expire = plan.expires.is_some() || plan.time_to_live.is_some();
        let now = expire.then(Instant::now);
        let service_time = plan.service_time;
        move |entry| match (now, entry.expires) {
            (Some(now), Some(expires)) => expires.saturating_duration_since(now) > service_time,
            _ => true,
        }
    }

    /// What to do with entries that nobody needs any more.
    pub fn expired(&self, entries: &mut Vec<Entry<T>>) {
        if entries.is_empty() {
            return;
        }
        self.meter.expired(entries.len());
        for entry in entries.drain(..) {
            if let Some(hook) = &self.plan.on_expired {
                hook(entry.item);
            }
        }
    }

    /// An entry that a receiver got.
    #[inline]
    pub fn delivered(&self, entry: Entry<T>) -> T {
        if let Some(since) = entry.since {
            self.meter.waited(since.elapsed());
        }
        entry.item
    }
}

/// An item that was not taken, and why.
pub(super) type NotTaken<T> = (Denied, Incoming<T>);

impl<T> Incoming<T> {
    pub fn into_item(self) -> T {
        self.entry.item
    }
}

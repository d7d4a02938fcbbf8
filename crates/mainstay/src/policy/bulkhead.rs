//! How many attempts may run at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::BulkheadRules;
use crate::millis;

/// Places for attempts; the rules may change while some are taken.
#[derive(Debug)]
pub(super) struct Bulkhead {
    places: Semaphore,
    /// Places that are taken but should not exist any more: they go when they come back.
    excess: AtomicUsize,
    size: AtomicUsize,
}

impl Bulkhead {
    pub fn new(rules: Option<BulkheadRules>) -> Self {
        let size = size(rules);
        Self { places: Semaphore::new(size), excess: AtomicUsize::new(0), size: AtomicUsize::new(size) }
    }

    /// New rules. Only called under the lock of the target's state, so there is one caller at a time.
    pub fn reload(&self, rules: Option<BulkheadRules>) {
        let new = size(rules);
        let old = self.size.swap(new, Ordering::Relaxed);
        if new >= old {
            let mut more = new - old;
            while more > 0 && self.pay_off() {
                more -= 1;
            }
            self.places.add_permits(more);
        } else {
            let less = old - new;
            let gone = self.places.forget_permits(less);
            self.excess.fetch_add(less - gone, Ordering::Relaxed);
        }
    }

    /// Takes a place, waiting for it as long as the rules and the call's end allow. Cancel safe.
    pub async fn enter(
        &self,
        rules: &BulkheadRules,
        now: Instant,
        until: Option<Instant>,
    ) -> Option<Place<'_>> {
        let waiting_ends = now + millis(rules.wait_ms);
        let waiting_ends = until.map_or(waiting_ends, |until| until.min(waiting_ends));
        let permit = timeout_at(waiting_ends, self.places.acquire()).await.ok()?.ok()?;
        Some(Place { bulkhead: self, permit: Some(permit) })
    }

    /// Takes a place if there is one: the usual case, without a future.
    pub fn try_enter(&self) -> Option<Place<'_>> {
        let permit = self.places.try_acquire().ok()?;
        Some(Place { bulkhead: self, permit: Some(permit) })
    }

    fn pay_off(&self) -> bool {
        let less = |excess: usize| excess.checked_sub(1);
        self.excess.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

/// Without rules as many as could ever be asked for: who waits when they are taken away, or has read them before,
/// is let through.
fn size(rules: Option<BulkheadRules>) -> usize {
    let most = rules.map_or(u32::MAX, |rules| rules.max_concurrent);
    (most as usize).min(Semaphore::MAX_PERMITS)
}

/// A place of a bulkhead; free again when dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    bulkhead: &'a Bulkhead,
    permit: Option<SemaphorePermit<'a>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.bulkhead.excess.load(Ordering::Relaxed) > 0
            && self.bulkhead.pay_off()
            && let Some(permit) = self.permit.take()
        {
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_smaller_bulkhead_waits_for_places_to_come_back() {
        let rules = |max_concurrent| Some(BulkheadRules { max_concurrent, wait_ms: 0 });
        let bulkhead = Bulkhead::new(rules(3));
        let taken: Vec<_> = (0..3).map(|_| bulkhead.try_enter().unwrap()).collect();
        bulkhead.reload(rules(1));
        drop(taken);
        let _one = bulkhead.try_enter().unwrap();
        assert!(bulkhead.try_enter().is_none());
        bulkhead.reload(rules(2));
        assert!(bulkhead.try_enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn rules_that_come_back_count_the_places_taken_before() {
        let rules = |max_concurrent| Some(BulkheadRules { max_concurrent, wait_ms: 0 });
        let bulkhead = Bulkhead::new(rules(2));
        let taken: Vec<_> = (0..2).map(|_| bulkhead.try_enter().unwrap()).collect();
        bulkhead.reload(None);
        let late = bulkhead.try_enter();
        assert!(late.is_some(), "who has read the old rules is not refused");
        bulkhead.reload(rules(1));
        assert!(bulkhead.try_enter().is_none());
        drop((taken, late));
        let _one = bulkhead.try_enter().unwrap();
        assert!(bulkhead.try_enter().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn growing_again_forgives_what_was_owed() {
        let rules = |max_concurrent| Some(BulkheadRules { max_concurrent, wait_ms: 0 });
        let bulkhead = Bulkhead::new(rules(2));
        let taken: Vec<_> = (0..2).map(|_| bulkhead.try_enter().unwrap()).collect();
        bulkhead.reload(rules(1));
        bulkhead.reload(rules(2));
        drop(taken);
        let again: Vec<_> = (0..2).map(|_| bulkhead.try_enter().unwrap()).collect();
        assert!(bulkhead.try_enter().is_none());
        drop(again);
    }
}

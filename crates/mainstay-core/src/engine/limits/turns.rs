//! Whose turn it is: start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) over fairness keys, with one hand-out
//! as the unit of service.
//!
//! The queue has a virtual time, `now`: when the turn began that was given last. Each key has a `pass`: when its next
//! turn begins. The key with the earliest turn is served, and its pass moves on by one unit divided by its weight. A key
//! that comes back after a pause begins at `now`: it does not catch up on turns it did not need, and a key that always
//! has one job more does not come back before its pass.
//!
//! Only `now` and the passes are state; who is where follows from them: the turn of a key with something to hand out
//! begins at `max(pass, now)`. (`now` is the start of the earliest turn that was given, so it never passes a turn that
//! waits, and the maximum does not change while one does.) So an undo that puts back these numbers has put back all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hashbrown::HashMap;

use super::lines::Rank;
use crate::{
    job::JobKeys,
    queue::{Fairness, USUAL_WEIGHT},
};

/// A fairness key; `None` is that of all jobs without one, and of all jobs where there is no fairness.
pub(super) type Share = Option<Arc<str>>;

/// One hand-out of a key of the usual weight, in virtual time.
const UNIT: u64 = 1 << 20;

/// The keys that have something to hand out, and when their turns begin.
#[derive(Default)]
pub(super) struct Turns {
    fair: Option<Fairness>,
    now: u64,
    passes: HashMap<Share, u64>,
    shares: HashMap<Share, Ready>,
    /// Turns of `shares`, by their beginning.
    order: BTreeSet<(u64, Share)>,
    /// Passes of keys that have nothing to hand out.
    idle: BTreeSet<(u64, Share)>,
    /// There is something to hand out that stands in no line. Only kept with fairness.
    plain: bool,
}

/// What a key has to hand out.
struct Ready {
    lines: BTreeSet<(Rank, u32)>,
    turn: u64,
}

impl Turns {
    pub(super) fn is_fair(&self) -> bool {
        self.fair.is_some()
    }

    /// Whose turn jobs of these keys count for.
    pub(super) fn share(&self, keys: &JobKeys) -> Share {
        if self.is_fair() { keys.fairness.clone() } else { None }
    }

    /// The first job, by its place in the order of its key, and its line. `plain` is the first of those that stand in
    /// no line.
    pub(super) fn first(&self, plain: Option<Rank>) -> Option<(Rank, Option<u32>)> {
        let head = |share: &Share| self.shares.get(share)?.lines.first().map(|(rank, at)| (*rank, Some(*at)));
        let share = if self.is_fair() { &self.order.first()?.1 } else { &None };
        match share {
            None => [head(&None), plain.map(|rank| (rank, None))].into_iter().flatten().min(),
            key => head(key),
        }
    }

    pub(super) fn insert(&mut self, share: Share, rank: Rank, line: u32) {
        self.enter(&share);
        if let Some(ready) = self.shares.get_mut(&share) {
            ready.lines.insert((rank, line));
        }
    }

    pub(super) fn remove(&mut self, share: &Share, rank: Rank, line: u32) {
        if let Some(ready) = self.shares.get_mut(share) {
            ready.lines.remove(&(rank, line));
            self.leave(share);
        }
    }

    /// Whether there is something to hand out that stands in no line.
    pub(super) fn set_plain(&mut self, plain: bool) {
        if self.is_fair() && self.plain != plain {
            self.plain = plain;
            if plain { self.enter(&None) } else { self.leave(&None) }
        }
    }

    fn enter(&mut self, share: &Share) {
        if self.shares.contains_key(share) {
            return;
        }
        let pass = self.passes.get(share).copied();
        if let Some(pass) = pass {
            self.idle.remove(&(pass, share.clone()));
        }
        let turn = pass.unwrap_or(0).max(self.now);
        self.order.insert((turn, share.clone()));
        self.shares.insert(share.clone(), Ready { lines: BTreeSet::new(), turn });
    }

    fn leave(&mut self, share: &Share) {
        let empty = |ready: &Ready| ready.lines.is_empty();
        if share.is_none() && self.plain || !self.shares.get(share).is_some_and(empty) {
            return;
        }
        if let Some(Ready { turn, .. }) = self.shares.remove(share) {
            self.order.remove(&(turn, share.clone()));
        }
        if let Some(pass) = self.passes.get(share) {
            self.idle.insert((*pass, share.clone()));
        }
    }

    /// When the turn of a key begins that has something to hand out, and its next one after it.
    pub(super) fn turn(&self, share: &Share) -> Option<(u64, u64)> {
        let fair = self.fair.as_ref()?;
        let turn = self.shares.get(share)?.turn;
        let named = share.as_ref().and_then(|key| fair.weights.get(key)).copied();
        let weight = u64::from(named.unwrap_or(USUAL_WEIGHT).max(1));
        let stride = (UNIT * u64::from(USUAL_WEIGHT) / weight).max(1);
        Some((turn, turn.saturating_add(stride)))
    }

    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// When the virtual time is to go on to because nobody has anything to hand out: past all passes, so that they can
    /// be forgotten.
    pub(super) fn end_of_all(&self) -> Option<u64> {
        if !self.order.is_empty() {
            return None;
        }
        self.idle.last().map(|(pass, _)| *pass).filter(|pass| *pass > self.now)
    }

    /// A key whose pass says nothing any more.
    pub(super) fn forgettable(&self) -> Option<Share> {
        self.idle.first().filter(|(pass, _)| *pass <= self.now).map(|(_, share)| share.clone())
    }

    /// All keys that have a pass.
    pub(super) fn keys(&self) -> Vec<Share> {
        let ordered: BTreeMap<_, _> = self.passes.iter().collect();
        ordered.into_keys().cloned().collect()
    }

    pub(super) fn swap_now(&mut self, now: u64) -> u64 {
        std::mem::replace(&mut self.now, now)
    }

    pub(super) fn swap_pass(&mut self, share: &Share, new: Option<u64>) -> Option<u64> {
        let old = match new {
            Some(pass) => self.passes.insert(share.clone(), pass),
            None => self.passes.remove(share),
        };
        if let Some(ready) = self.shares.get_mut(share) {
            self.order.remove(&(ready.turn, share.clone()));
            ready.turn = new.unwrap_or(0).max(self.now);
            self.order.insert((ready.turn, share.clone()));
        } else {
            if let Some(pass) = old {
                self.idle.remove(&(pass, share.clone()));
            }
            if let Some(pass) = new {
                self.idle.insert((pass, share.clone()));
            }
        }
        old
    }

    /// Begins anew with these rules: nobody has anything to hand out until it is said again.
    pub(super) fn reset(&mut self, fair: Option<Fairness>) {
        self.fair = fair;
        self.plain = false;
        self.shares.clear();
        self.order.clear();
        self.idle = self.passes.iter().map(|(share, pass)| (*pass, share.clone())).collect();
    }
}

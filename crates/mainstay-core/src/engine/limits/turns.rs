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
//! waits for nothing but its time, and the maximum does not change while one does. Turns that wait for a place it may
//! pass: see [`Crowd`].) So an undo that puts back these numbers, and has all turns looked at again when it has come to
//! its end, has put back all.
//!
//! What a fairness key has to hand out stands in one of two ways, so that neither a place that comes and goes nor a turn
//! that is given costs a step for each key:
//!
//! - of a key with jobs of a few concurrency keys, in the crowds of those. A place that comes or goes shows or hides the
//!   first of a crowd, however many stand in it; a turn moves its key in these few;
//! - of a key with jobs of many concurrency keys, in an order of its own. A turn moves nothing there; a place moves one
//!   entry in each key of this kind. (Where there is no fairness, all jobs are of one such key.)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::{HashMap, hash_map::Entry};

use super::{crowd::Crowd, lines::Rank};
use crate::{
    job::JobKeys,
    queue::{Fairness, USUAL_WEIGHT},
};

/// A fairness key; `None` is that of all jobs without one, and of all jobs where there is no fairness.
pub(super) type Share = Option<Arc<str>>;

/// One hand-out of a key of the usual weight, in virtual time.
const UNIT: u64 = 1 << 20;

/// Jobs of more concurrency keys than this are many; of less than half of it, few again.
const MANY: usize = 16;

/// The keys that have something to hand out, and when their turns begin.
#[derive(Default)]
pub(super) struct Turns {
    fair: Option<Fairness>,
    now: u64,
    passes: HashMap<Share, u64>,
    shares: HashMap<Share, Ready>,
    /// Turns of `shares` that have something of their own order to hand out, by their beginning.
    order: BTreeSet<(u64, Share)>,
    /// Passes of keys that have nothing to hand out, with or without a place.
    idle: BTreeSet<(u64, Share)>,
    /// What a fairness key has of a concurrency key.
    bundles: HashMap<(Share, Arc<str>), Bundle>,
    places: HashMap<Arc<str>, Place>,
    /// The first of each crowd whose key has a place free: its turn, who, what.
    fronts: BTreeSet<(u64, Share, Rank, Arc<str>)>,
    /// There is something to hand out that stands in no line. Only kept with fairness.
    plain: bool,
    /// The virtual time was put back: turns that begin later than they should may be among them.
    put_back: bool,
    /// How many entries were moved because a place came or went.
    #[cfg(test)]
    pub(super) moved: usize,
}

/// What a fairness key has to hand out.
#[derive(Default)]
struct Ready {
    /// Without a concurrency key.
    free: BTreeSet<Rank>,
    /// Of these concurrency keys there is something in `bundles`.
    keys: BTreeSet<Arc<str>>,
    /// They are many.
    many: bool,
    /// Then: the first of each that has a place free.
    heads: BTreeSet<(Rank, Arc<str>)>,
    /// As it stands in `order`.
    turn: Option<u64>,
}

/// What a fairness key has of a concurrency key: mostly one line.
struct Bundle {
    first: Rank,
    rest: BTreeSet<Rank>,
}

/// A concurrency key.
struct Place {
    /// There is none free.
    full: bool,
    /// Of those with few keys, and what of it is in `fronts`.
    crowd: Option<Box<(Crowd, Front)>>,
    /// Those with many keys, in order.
    many: Vec<Share>,
}

type Front = Option<(u64, Share, Rank)>;

impl Turns {
    pub(super) fn is_fair(&self) -> bool {
        self.fair.is_some()
    }

    /// Whose turn jobs of these keys count for.
    pub(super) fn share(&self, keys: &JobKeys) -> Share {
        if self.is_fair() { keys.fairness.clone() } else { None }
    }

    /// The first job, by its place in the order of its key. `plain` is the first of those that stand in no line.
    pub(super) fn first(&self, plain: Option<Rank>) -> Option<Rank> {
        let own = |share: &Share| {
            let ready = self.shares.get(share);
            let free = ready.and_then(|ready| ready.free.first().copied());
            let head = ready.and_then(|ready| ready.heads.first().map(|(rank, _)| *rank));
            let plain = plain.filter(|_| share.is_none());
            [free, head, plain].into_iter().flatten().min()
        };
        if !self.is_fair() {
            return own(&None);
        }
        let of_order = self.order.first().and_then(|(turn, share)| Some(((*turn, share), own(share)?)));
        let of_crowds = self.fronts.first().map(|(turn, share, rank, _)| ((*turn, share), *rank));
        [of_order, of_crowds].into_iter().flatten().min().map(|(_, rank)| rank)
    }

    /// A line has something to hand out. With its concurrency key: whether that has no place free.
    pub(super) fn insert(&mut self, share: &Share, key: Option<(&Arc<str>, bool)>, rank: Rank) {
        if let Some((key, _)) = key
            && let Some(bundle) = self.bundles.get_mut(&(share.clone(), key.clone()))
            && bundle.first < rank
        {
            // Behind what is known of it.
            bundle.rest.insert(rank);
            return;
        }
        self.enter(share);
        match key {
            None => {
                if let Some(ready) = self.shares.get_mut(share) {
                    ready.free.insert(rank);
                }
            }
            Some((key, full)) => {
                let new = || Place { full, crowd: None, many: Vec::new() };
                let place = self.places.entry(key.clone()).or_insert_with(new);
                debug_assert_eq!(place.full, full, "who has a place is told at once");
                self.lift(share, key);
                match self.bundles.entry((share.clone(), key.clone())) {
                    Entry::Occupied(mut bundle) => {
                        let bundle = bundle.get_mut();
                        bundle.rest.insert(bundle.first);
                        bundle.first = rank;
                    }
                    Entry::Vacant(bundle) => {
                        bundle.insert(Bundle { first: rank, rest: BTreeSet::new() });
                        if let Some(ready) = self.shares.get_mut(share) {
                            ready.keys.insert(key.clone());
                        }
                    }
                }
                self.stand(share, key);
                self.count_keys(share);
            }
        }
        self.seat(share);
    }

    /// It has it no more.
    pub(super) fn remove(&mut self, share: &Share, key: Option<&Arc<str>>, rank: Rank) {
        let Some(key) = key else {
            if let Some(ready) = self.shares.get_mut(share) {
                ready.free.remove(&rank);
            }
            return self.seat(share);
        };
        let name = (share.clone(), key.clone());
        if let Some(bundle) = self.bundles.get_mut(&name)
            && bundle.first != rank
        {
            bundle.rest.remove(&rank);
            return;
        }
        self.lift(share, key);
        let next = self.bundles.get_mut(&name).and_then(|bundle| {
            let next = bundle.rest.pop_first()?;
            bundle.first = next;
            Some(next)
        });
        if next.is_some() {
            self.stand(share, key);
        } else {
            self.bundles.remove(&name);
            if let Some(ready) = self.shares.get_mut(share) {
                ready.keys.remove(key);
            }
            let is_empty = |place: &Place| place.crowd.is_none() && place.many.is_empty();
            if self.places.get(key).is_some_and(is_empty) {
                self.places.remove(key);
            }
            self.count_keys(share);
        }
        self.seat(share);
    }

    /// Whether a concurrency key has no place free.
    pub(super) fn set_full(&mut self, key: &Arc<str>, full: bool) {
        let Some(place) = self.places.get_mut(key).filter(|place| place.full != full) else { return };
        place.full = full;
        if let Some(crowd) = place.crowd.as_mut().filter(|_| !full) {
            crowd.0.come_to(self.now);
        }
        let many = std::mem::take(&mut place.many);
        for share in &many {
            let head = first_of(&self.bundles, share, key);
            if let (Some(ready), Some(head)) = (self.shares.get_mut(share), head) {
                let entry = (head, key.clone());
                if full {
                    ready.heads.remove(&entry)
                } else {
                    ready.heads.insert(entry)
                };
            }
            self.seat(share);
        }
        #[cfg(test)]
        {
            self.moved += many.len() + 1;
        }
        if let Some(place) = self.places.get_mut(key) {
            place.many = many;
        }
        self.show(key);
    }

    /// Whether there is something to hand out that stands in no line.
    pub(super) fn set_plain(&mut self, plain: bool) {
        if self.is_fair() && self.plain != plain {
            self.plain = plain;
            if plain {
                self.enter(&None);
            }
            self.seat(&None);
        }
    }

    fn enter(&mut self, share: &Share) {
        if self.shares.contains_key(share) {
            return;
        }
        if let Some(pass) = self.passes.get(share) {
            self.idle.remove(&(*pass, share.clone()));
        }
        let ready = Ready { many: !self.is_fair(), ..Ready::default() };
        self.shares.insert(share.clone(), ready);
    }

    /// Gives a key its place in the order if it has something of its own to hand out, or takes it; forgets one that has
    /// nothing at all.
    fn seat(&mut self, share: &Share) {
        let begins = self.begins(share);
        let plain = share.is_none() && self.plain;
        let Some(ready) = self.shares.get_mut(share) else { return };
        let stands = plain || !ready.free.is_empty() || !ready.heads.is_empty();
        match (ready.turn, stands) {
            (None, true) => {
                ready.turn = Some(begins);
                self.order.insert((begins, share.clone()));
            }
            (Some(turn), false) => {
                ready.turn = None;
                self.order.remove(&(turn, share.clone()));
            }
            _ => {}
        }
        if !stands && ready.keys.is_empty() {
            self.shares.remove(share);
            if let Some(pass) = self.passes.get(share) {
                self.idle.insert((*pass, share.clone()));
            }
        }
    }

    /// Takes out the first of what a key has of a concurrency key, wherever it stands.
    fn lift(&mut self, share: &Share, key: &Arc<str>) {
        let Some(head) = first_of(&self.bundles, share, key) else { return };
        let (Some(ready), Some(place)) = (self.shares.get_mut(share), self.places.get_mut(key)) else {
            return;
        };
        if ready.many {
            ready.heads.remove(&(head, key.clone()));
            if let Ok(at) = place.many.binary_search(share) {
                place.many.remove(at);
            }
        } else if let Some(crowd) = &mut place.crowd {
            crowd.0.remove(share);
            self.show(key);
        }
    }

    /// Puts it where it belongs.
    fn stand(&mut self, share: &Share, key: &Arc<str>) {
        let begins = self.begins(share);
        let Some(head) = first_of(&self.bundles, share, key) else { return };
        let (Some(ready), Some(place)) = (self.shares.get_mut(share), self.places.get_mut(key)) else {
            return;
        };
        if ready.many {
            if !place.full {
                ready.heads.insert((head, key.clone()));
            }
            if let Err(at) = place.many.binary_search(share) {
                place.many.insert(at, share.clone());
            }
        } else {
            place.crowd.get_or_insert_default().0.put(share, begins, head);
            self.show(key);
        }
    }

    /// Moves what a key has if it has become many, or few.
    fn count_keys(&mut self, share: &Share) {
        let fair = self.is_fair();
        let Some(ready) = self.shares.get(share) else { return };
        let many = match ready.many {
            true => !fair || ready.keys.len() >= MANY / 2,
            false => ready.keys.len() > MANY,
        };
        if many == ready.many {
            return;
        }
        let keys: Vec<_> = ready.keys.iter().cloned().collect();
        keys.iter().for_each(|key| self.lift(share, key));
        if let Some(ready) = self.shares.get_mut(share) {
            ready.many = many;
        }
        keys.iter().for_each(|key| self.stand(share, key));
    }

    /// Shows the first of a crowd, if there is a place for it. A crowd that nobody stands in any more goes.
    fn show(&mut self, key: &Arc<str>) {
        let Some(place) = self.places.get_mut(key) else { return };
        let Some((crowd, shown)) = place.crowd.as_deref_mut() else { return };
        let front = if place.full { None } else { crowd.first(self.now) };
        if *shown != front {
            if let Some((turn, share, rank)) = std::mem::replace(shown, front.clone()) {
                self.fronts.remove(&(turn, share, rank, key.clone()));
            }
            if let Some((turn, share, rank)) = front {
                self.fronts.insert((turn, share, rank, key.clone()));
            }
        }
        if crowd.is_empty() {
            place.crowd = None;
        }
    }

    /// When the turn of a key begins, if it has something to hand out.
    fn begins(&self, share: &Share) -> u64 {
        self.passes.get(share).copied().unwrap_or(0).max(self.now)
    }

    /// When the turn of a key begins that has something to hand out, and its next one after it.
    pub(super) fn turn(&self, share: &Share) -> Option<(u64, u64)> {
        let fair = self.fair.as_ref()?;
        let turn = self.shares.contains_key(share).then(|| self.begins(share))?;
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
        if !self.shares.is_empty() {
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

    /// When it is put back, [`Turns::look_again`] is to follow before the next one is asked for.
    pub(super) fn swap_now(&mut self, now: u64) -> u64 {
        let old = std::mem::replace(&mut self.now, now);
        self.put_back |= now < old;
        old
    }

    /// After an undo: what came to stand, or was passed, while the virtual time was ahead, stands as if it had never been.
    /// Costs a step for each that has something to hand out.
    pub(super) fn look_again(&mut self) {
        if !std::mem::take(&mut self.put_back) {
            return;
        }
        let (passes, now) = (&self.passes, self.now);
        let begins = |share: &Share| passes.get(share).copied().unwrap_or(0).max(now);
        self.order.clear();
        for (share, ready) in &mut self.shares {
            if let Some(turn) = &mut ready.turn {
                *turn = begins(share);
                self.order.insert((*turn, share.clone()));
            }
        }
        for place in self.places.values_mut() {
            if let Some(crowd) = place.crowd.as_mut() {
                crowd.0.stand_anew(begins);
            }
        }
        let keys: Vec<_> = self.places.keys().cloned().collect();
        keys.iter().for_each(|key| self.show(key));
    }

    pub(super) fn swap_pass(&mut self, share: &Share, new: Option<u64>) -> Option<u64> {
        let old = match new {
            Some(pass) => self.passes.insert(share.clone(), pass),
            None => self.passes.remove(share),
        };
        let begins = self.begins(share);
        match self.shares.get_mut(share) {
            Some(ready) => {
                if let Some(turn) = &mut ready.turn {
                    self.order.remove(&(*turn, share.clone()));
                    *turn = begins;
                    self.order.insert((begins, share.clone()));
                }
                if !ready.many {
                    let keys: Vec<_> = ready.keys.iter().cloned().collect();
                    keys.iter().for_each(|key| self.stand(share, key));
                }
            }
            None => {
                if let Some(pass) = old {
                    self.idle.remove(&(pass, share.clone()));
                }
                if let Some(pass) = new {
                    self.idle.insert((pass, share.clone()));
                }
            }
        }
        old
    }

    /// Begins anew with these rules: nobody has anything to hand out until it is said again.
    pub(super) fn reset(&mut self, fair: Option<Fairness>) {
        self.fair = fair;
        (self.plain, self.put_back) = (false, false);
        self.shares.clear();
        self.order.clear();
        self.bundles.clear();
        self.places.clear();
        self.fronts.clear();
        self.idle = self.passes.iter().map(|(share, pass)| (*pass, share.clone())).collect();
    }
}

fn first_of(bundles: &HashMap<(Share, Arc<str>), Bundle>, share: &Share, key: &Arc<str>) -> Option<Rank> {
    // The map wants a key of its own; two counters go up for it.
    bundles.get(&(share.clone(), key.clone())).map(|bundle| bundle.first)
}

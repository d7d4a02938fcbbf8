//! Those who wait for a place of one concurrency key, by their turns: while the key has no place free, none of them is in
//! anybody's way, and when it has, only the first of them matters.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use super::{lines::Rank, turns::Share};

/// The shares that have something for one key.
#[derive(Default)]
pub(super) struct Crowd {
    members: HashMap<Share, Member>,
    order: BTreeSet<(u64, Share)>,
    /// Those whose turn the virtual time has passed, because the key had no place: they begin now, all of them, and so in
    /// the order of their names. Each comes here once for a turn.
    overdue: BTreeSet<Share>,
}

struct Member {
    turn: u64,
    /// Its first job.
    head: Rank,
}

impl Crowd {
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// One has this to hand out, from this turn on, whatever it had before.
    pub(super) fn put(&mut self, share: &Share, turn: u64, head: Rank) {
        self.remove(share);
        self.order.insert((turn, share.clone()));
        self.members.insert(share.clone(), Member { turn, head });
    }

    pub(super) fn remove(&mut self, share: &Share) {
        if let Some(Member { turn, .. }) = self.members.remove(share)
            && !self.order.remove(&(turn, share.clone()))
        {
            self.overdue.remove(share);
        }
    }

    /// The first, with its turn and its job.
    pub(super) fn first(&self, now: u64) -> Option<(u64, Share, Rank)> {
        let next = self.order.first().map(|(turn, share)| (*turn, share));
        let overdue = self.overdue.first().map(|share| (now, share));
        let (turn, share) = [overdue, next].into_iter().flatten().min()?;
        Some((turn, share.clone(), self.members.get(share)?.head))
    }

    /// A place is free again, and the virtual time has come to `now`.
    pub(super) fn come_to(&mut self, now: u64) {
        while let Some((turn, share)) = self.order.pop_first() {
            if turn >= now {
                self.order.insert((turn, share));
                return;
            }
            self.overdue.insert(share);
        }
    }

    /// All stand as if they came now, with these turns. Costs a step for each.
    pub(super) fn stand_anew(&mut self, turn: impl Fn(&Share) -> u64) {
        self.overdue.clear();
        self.order.clear();
        for (share, member) in &mut self.members {
            member.turn = turn(share);
            self.order.insert((member.turn, share.clone()));
        }
    }
}

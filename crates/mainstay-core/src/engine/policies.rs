//! Policies, each kept once, for as long as there is a job that has it: unfinished or finished, in RAM or not.

use std::{collections::BTreeMap, hash::BuildHasher};

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use super::{
    Engine,
    change::{Change, PolicyId},
    undo::Undo,
};
use crate::job::JobPolicy;

/// So many that no job has are kept, so that jobs which come one by one do not make their policy anew each time.
const IDLE_KEPT: usize = 16;

/// A store that opens with more than these counts whose they are; fewer stay, without a look at all that has finished.
const UNCOUNTED: usize = 1_024;

#[derive(Default)]
pub(super) struct Policies {
    kept: HashMap<PolicyId, Kept>,
    /// By content.
    ids: HashTable<PolicyId>,
    hasher: DefaultHashBuilder,
    /// What no job has, those that have had none for longest first.
    idle: BTreeMap<u64, PolicyId>,
    last_idle: u64,
    /// Numbers that came free. There are only so many: whoever has a policy for each job would come to their end.
    free: Vec<PolicyId>,
    last: u32,
}

#[derive(Clone, Copy)]
pub(super) struct Kept {
    policy: JobPolicy,
    users: Users,
}

/// Who has a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Users {
    /// So many jobs. None: it has just been made, or the store is being loaded.
    Jobs(u64),
    /// Nobody, with its place among those.
    Nobody(u64),
    /// It was there when the store opened, and was not counted: it stays.
    Uncounted,
}

impl Policies {
    /// The id of an equal policy, if there is one.
    fn find(&self, policy: &JobPolicy) -> Option<PolicyId> {
        let is_it = |id: &PolicyId| self.kept.get(id).is_some_and(|kept| kept.policy == *policy);
        self.ids.find(self.hasher.hash_one(policy), is_it).copied()
    }

    fn add(&mut self, policy: JobPolicy) -> PolicyId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.last += 1;
            PolicyId(self.last)
        });
        self.put(id, Kept { policy, users: Users::Jobs(0) });
        id
    }

    pub(super) fn load(&mut self, id: PolicyId, policy: JobPolicy) {
        self.last = self.last.max(id.0);
        self.put(id, Kept { policy, users: Users::Uncounted });
    }

    fn put(&mut self, id: PolicyId, new: Kept) {
        self.kept.insert(id, new);
        let (kept, hasher) = (&self.kept, &self.hasher);
        let hash = |id: &PolicyId| kept.get(id).map_or(0, |kept| hasher.hash_one(kept.policy));
        self.ids.insert_unique(hash(&id), id, hash);
        if let Users::Nobody(place) = new.users {
            self.idle.insert(place, id);
        }
    }

    fn remove(&mut self, id: PolicyId) -> Option<Kept> {
        let kept = *self.kept.get(&id)?;
        if let Ok(entry) = self.ids.find_entry(self.hasher.hash_one(kept.policy), |other| *other == id) {
            entry.remove();
        }
        if let Users::Nobody(place) = kept.users {
            self.idle.remove(&place);
        }
        self.free.push(id);
        self.kept.remove(&id)
    }

    fn swap_users(&mut self, id: PolicyId, new: Users) {
        let Some(kept) = self.kept.get_mut(&id) else { return };
        if let Users::Nobody(place) = std::mem::replace(&mut kept.users, new) {
            self.idle.remove(&place);
        }
        if let Users::Nobody(place) = new {
            self.idle.insert(place, id);
        }
    }

    /// One job more or less has it; answers who had it before, if that has changed.
    fn count(&mut self, id: PolicyId, more: bool) -> Option<Users> {
        let kept = self.kept.get_mut(&id)?;
        let before = kept.users;
        kept.users = match (before, more) {
            (Users::Jobs(jobs), true) => Users::Jobs(jobs + 1),
            (Users::Jobs(jobs), false) if jobs > 1 => Users::Jobs(jobs - 1),
            (Users::Jobs(_), false) => {
                self.last_idle += 1;
                self.idle.insert(self.last_idle, id);
                Users::Nobody(self.last_idle)
            }
            (Users::Nobody(place), true) => {
                self.idle.remove(&place);
                Users::Jobs(1)
            }
            (Users::Nobody(_), false) | (Users::Uncounted, _) => return None,
        };
        Some(before)
    }

    pub(super) fn take_back(&mut self, id: PolicyId) {
        self.remove(id);
    }

    pub(super) fn put_back(&mut self, id: PolicyId, kept: Kept) {
        // Undone in reverse, so it is the last that came free.
        let freed = self.free.pop();
        debug_assert_eq!(freed, Some(id));
        self.put(id, kept);
    }

    pub(super) fn put_users_back(&mut self, id: PolicyId, users: Users) {
        self.swap_users(id, users);
    }

    pub(super) fn has_many(&self) -> bool {
        self.kept.len() > UNCOUNTED
    }

    /// From now on they are counted.
    pub(super) fn load_users(&mut self, users: impl IntoIterator<Item = (PolicyId, u64)>) {
        self.kept.values_mut().for_each(|kept| kept.users = Users::Jobs(0));
        for (id, jobs) in users {
            self.swap_users(id, Users::Jobs(jobs));
        }
    }

    /// One more job has it.
    pub(super) fn load_user(&mut self, id: PolicyId) {
        self.count(id, true);
    }

    pub(super) fn finish_load(&mut self) {
        let unused = self.kept.iter().filter(|(_, kept)| kept.users == Users::Jobs(0));
        let mut unused: Vec<_> = unused.map(|(id, _)| *id).collect();
        unused.sort_unstable();
        for id in unused {
            self.count(id, false);
        }
    }

    /// The policy of a job; a job never has an unknown one.
    pub(super) fn get(&self, id: PolicyId) -> JobPolicy {
        self.kept.get(&id).map_or_else(JobPolicy::default, |kept| kept.policy)
    }
}

impl Engine {
    /// The id of a policy that one more job has.
    pub(super) fn use_policy(&mut self, policy: &JobPolicy) -> PolicyId {
        let id = self.policies.find(policy).unwrap_or_else(|| {
            let id = self.policies.add(*policy);
            self.undo.push(Undo::PolicyAdded(id));
            self.changes.push(Change::Policy { id, policy: *policy });
            id
        });
        self.count_policy(id, true);
        id
    }

    /// A job that has it is forgotten.
    pub(super) fn leave_policy(&mut self, id: PolicyId) {
        self.count_policy(id, false);
    }

    fn count_policy(&mut self, id: PolicyId, more: bool) {
        if let Some(before) = self.policies.count(id, more) {
            self.undo.push(Undo::PolicyUsers(id, before));
        }
    }

    /// Whether more of those that no job has are kept than should be.
    pub(super) fn policies_are_due(&self) -> bool {
        self.policies.idle.len() > IDLE_KEPT
    }

    /// Forgets what is above that, at most `limit`; answers how many.
    pub(super) fn forget_policies(&mut self, limit: u32) -> u32 {
        let mut forgotten = 0;
        while forgotten < limit && self.policies_are_due() {
            let Some((_, &id)) = self.policies.idle.first_key_value() else { break };
            let Some(kept) = self.policies.remove(id) else { break };
            self.undo.push(Undo::PolicyRemoved(id, Box::new(kept)));
            self.changes.push(Change::PolicyRemoved(id));
            forgotten += 1;
        }
        forgotten
    }
}

#[cfg(test)]
#[path = "policies_tests.rs"]
mod tests;

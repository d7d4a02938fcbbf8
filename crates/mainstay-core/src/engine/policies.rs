//! Policies, each kept once.

use hashbrown::HashMap;

use super::change::PolicyId;
use crate::job::JobPolicy;

#[derive(Default)]
pub(super) struct Policies {
    values: HashMap<PolicyId, JobPolicy>,
    ids: HashMap<JobPolicy, PolicyId>,
    last: u32,
}

impl Policies {
    /// The id of an equal policy, if there is one.
    pub(super) fn find(&self, policy: &JobPolicy) -> Option<PolicyId> {
        self.ids.get(policy).copied()
    }

    pub(super) fn add(&mut self, policy: JobPolicy) -> PolicyId {
        let id = PolicyId(self.last + 1);
        self.load(id, policy);
        id
    }

    pub(super) fn load(&mut self, id: PolicyId, policy: JobPolicy) {
        self.last = self.last.max(id.0);
        self.values.insert(id, policy);
        self.ids.insert(policy, id);
    }

    pub(super) fn take_back(&mut self, policy: &JobPolicy) {
        if let Some(id) = self.ids.remove(policy) {
            self.values.remove(&id);
        }
    }

    /// The policy of a job; a job never has an unknown one.
    pub(super) fn get(&self, id: PolicyId) -> JobPolicy {
        self.values.get(&id).copied().unwrap_or_default()
    }
}

//! A set as who only looks at it holds it.

use std::sync::{Arc, Weak};

use super::{Inner, TaskSet};

#[derive(Clone)]
pub(crate) struct WeakTaskSet(Weak<Inner>);

impl TaskSet {
    pub(crate) fn downgrade(&self) -> WeakTaskSet {
        WeakTaskSet(Arc::downgrade(&self.0))
    }
}

impl WeakTaskSet {
    pub fn upgrade(&self) -> Option<TaskSet> {
        self.0.upgrade().map(TaskSet)
    }

    pub fn is_used(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl std::fmt::Debug for WeakTaskSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.upgrade().fmt(f)
    }
}

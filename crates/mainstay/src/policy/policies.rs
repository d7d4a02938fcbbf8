//! All targets of a service.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use super::chance::Chance;
use super::target::{Changed, Target, Watcher};
use super::{Event, Policy};
use crate::config::Problems;

/// More targets than this share one: a name made from what callers send must not fill the memory.
const MOST_TARGETS: usize = 1_000;
const SHARED: &str = "(others)";
const FALLBACK: &str = "default";

/// The targets of a service by name. Cheap to clone; all clones are one registry.
///
/// The policy of a name is the one given under it, else the one given under `default`, else [`Policy::default`].
#[derive(Clone, Default)]
pub struct Policies(Arc<Inner>);

#[derive(Default)]
struct Inner {
    rules: RwLock<BTreeMap<String, Policy>>,
    targets: RwLock<HashMap<Arc<str>, Target>>,
    watcher: Arc<OnceLock<Watcher>>,
}

impl Policies {
    /// A registry with these policies by target.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`], with everything that is wrong.
    pub fn new(rules: BTreeMap<String, Policy>) -> crate::Result<Policies> {
        let policies = Policies::default();
        policies.reload(rules)?;
        Ok(policies)
    }

    /// The target of this name. The same name is always the same target.
    pub fn target(&self, name: &str) -> Target {
        if let Some(target) = read(&self.0.targets).get(name) {
            return target.clone();
        }
        let mut targets = self.0.targets.write().unwrap_or_else(PoisonError::into_inner);
        let name = if targets.len() < MOST_TARGETS || targets.contains_key(name) { name } else { SHARED };
        if let Some(target) = targets.get(name) {
            return target.clone();
        }
        if name == SHARED {
            tracing::warn!(
                most = MOST_TARGETS,
                "too many policy targets: the rest share one; names must not come from data"
            );
        }
        let policy = rules_of(&read(&self.0.rules), name);
        let target = Target::build(name.into(), policy, Chance::from_system(), self.0.watcher.clone());
        targets.insert(name.into(), target.clone());
        target
    }

    /// Changes all policies, at run time: all of them, or none if any is wrong. The state of every target stays.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`], with everything that is wrong.
    pub fn reload(&self, rules: BTreeMap<String, Policy>) -> crate::Result<()> {
        let mut problems = Problems::default();
        rules.iter().for_each(|(name, policy)| policy.validate(&format!("{name}."), &mut problems));
        if !problems.is_empty() {
            return Err(problems.into());
        }
        // Targets first, then rules, as in `target`: no target is made from the old rules after this.
        let targets = self.0.targets.write().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<Target> = targets.values().cloned().collect();
        let changes: Vec<_> =
            all.iter().map(|target| target.shared.change(rules_of(&rules, target.name()))).collect();
        *self.0.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        drop(targets);
        // Without a lock: a watcher may ask for a target.
        changes.into_iter().for_each(Changed::tell);
        Ok(())
    }

    /// Shows every decision, with its target's name, to `watcher`, on the task that makes it: it must be quick. Only
    /// the first watcher counts; answers whether it was.
    pub fn watch(&self, watcher: impl Fn(&str, Event) + Send + Sync + 'static) -> bool {
        self.0.watcher.set(Box::new(watcher)).is_ok()
    }

    /// The targets there are.
    pub fn targets(&self) -> Vec<Target> {
        read(&self.0.targets).values().cloned().collect()
    }
}

fn rules_of(rules: &BTreeMap<String, Policy>, name: &str) -> Policy {
    rules.get(name).or_else(|| rules.get(FALLBACK)).cloned().unwrap_or_default()
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.targets()).finish()
    }
}

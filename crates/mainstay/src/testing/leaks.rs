//! Tasks that outlive the test that started them.

use std::{
    panic::Location,
    sync::{Mutex, PoisonError},
};

use tokio::task::yield_now;

use crate::tasks::{TaskSet, WeakTaskSet};

/// How often the others get their turn: what has been aborted, or has nothing left to wait for, ends meanwhile.
const TURNS: usize = 1000;

/// Fails if a task of this set is still running after all that can run has run. No virtual time passes meanwhile; a
/// test that expects tasks to take time waits for them first, with [`TaskSet::drain`].
///
/// A [`Runtime`](super::Runtime) looks by itself, at its end, at every set that was made in it.
///
/// # Panics
/// If one is left: with its name, age, and the line that spawned it.
#[track_caller]
pub fn assert_no_leaks(tasks: &TaskSet) -> impl Future<Output = ()> + Send + use<> {
    let (tasks, at) = (tasks.clone(), Location::caller());
    async move {
        settle(|| tasks.is_empty()).await;
        if let Some(told) = told(&tasks, 0) {
            panic!("{told}\nlooked for at {at}");
        }
    }
}

/// Lets everything run that can, until it is `done`.
pub(super) async fn settle(done: impl Fn() -> bool) {
    for _ in 0..TURNS {
        if done() {
            return;
        }
        yield_now().await;
    }
}

/// The sets that were made while a runtime was running.
#[derive(Debug, Default)]
pub(crate) struct Sets(Mutex<Vec<WeakTaskSet>>);

impl Sets {
    pub fn add(&self, set: &TaskSet) {
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sets.retain(WeakTaskSet::is_used);
        sets.push(set.downgrade());
    }

    /// What is left of `alive` tasks, the named ones with their names.
    pub(super) fn told(&self, alive: usize) -> Option<String> {
        let sets = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sets: Vec<TaskSet> = sets.iter().filter_map(WeakTaskSet::upgrade).collect();
        told_all(&sets, alive)
    }
}

fn told(tasks: &TaskSet, alive: usize) -> Option<String> {
    told_all(std::slice::from_ref(tasks), alive)
}

fn told_all(sets: &[TaskSet], alive: usize) -> Option<String> {
    let tasks: Vec<String> = sets.iter().flat_map(TaskSet::list).map(|task| format!("\n  {task}")).collect();
    let nameless = alive.saturating_sub(tasks.len());
    if tasks.is_empty() && nameless == 0 {
        return None;
    }
    let mut out = "the test leaves tasks behind; stop them, or wait for them, before it ends:".to_owned();
    out.extend(tasks);
    if nameless > 0 {
        out += &format!("\n  {nameless} of no TaskSet, so where they were spawned is not known");
    }
    Some(out)
}

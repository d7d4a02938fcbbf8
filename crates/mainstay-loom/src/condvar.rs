//! `std::sync::Condvar`.

use std::sync::LockResult;
use std::time::Duration;

use crate::{MutexGuard, SHORT};

#[derive(Debug)]
pub struct Condvar(loom::sync::Condvar);

/// Whether a wait ended because its time was up.
#[derive(Clone, Copy, Debug)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub fn timed_out(self) -> bool {
        self.0
    }
}

type Waited<'a, T> = LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)>;

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

impl Condvar {
    pub fn new() -> Self {
        Self(loom::sync::Condvar::new())
    }

    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }

    /// # Errors
    /// Never, as all of these.
    pub fn wait<'a, T>(&self, mut guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        guard.held = guard.held.take().and_then(|held| self.0.wait(held).ok());
        Ok(guard)
    }

    /// # Errors
    /// Never.
    pub fn wait_while<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        match self.wait_timeout_while(guard, Duration::MAX, condition) {
            Ok((guard, _)) => Ok(guard),
            Err(never) => Ok(never.into_inner().0),
        }
    }

    /// # Errors
    /// Never.
    pub fn wait_timeout<'a, T>(&self, mut guard: MutexGuard<'a, T>, time: Duration) -> Waited<'a, T> {
        let is_short = time <= SHORT;
        if is_short {
            guard = others_first(guard);
        } else {
            guard.held = guard.held.take().and_then(|held| self.0.wait(held).ok());
        }
        Ok((guard, WaitTimeoutResult(is_short)))
    }

    /// # Errors
    /// Never.
    pub fn wait_timeout_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        time: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Waited<'a, T> {
        while condition(&mut guard) {
            if time <= SHORT {
                guard = others_first(guard);
                let is_late = condition(&mut guard);
                return Ok((guard, WaitTimeoutResult(is_late)));
            }
            guard.held = guard.held.take().and_then(|held| self.0.wait(held).ok());
        }
        Ok((guard, WaitTimeoutResult(false)))
    }
}

/// Whoever wants the lock may have had it meanwhile.
fn others_first<T>(guard: MutexGuard<'_, T>) -> MutexGuard<'_, T> {
    let mutex = guard.mutex;
    drop(guard);
    mutex.held()
}

//! The runtime whose time is virtual.

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Builder, time::timeout};

use super::{
    VirtualClock,
    keeper::Keeper,
    leaks::{Sets, settle},
};
use crate::{millis, secs};

/// A test that has not ended after this much virtual time waits for something that never comes.
const LIMIT: Duration = secs(7 * 86_400);
/// How long nothing has to come over a socket until time may move on.
const QUIET: Duration = millis(20);

/// Runs `work` on a thread of its own kind: this one, with virtual time. See [`Runtime`].
///
/// # Panics
/// After a week of virtual time, which a test that waits for something that never comes reaches at once; and if `work`
/// leaves tasks behind: with their names and the lines that spawned them.
#[track_caller]
pub fn block_on_virtual<F: Future>(work: F) -> F::Output {
    let runtime = Runtime::paused();
    let out = runtime.block_on(work);
    runtime.end();
    out
}

/// A runtime of one thread whose time stands still while anything can run, and jumps to the next timer when nothing
/// can. The same program does the same in every run.
///
/// Time also stands still while a blocking task runs, within [`real`](super::real), and while
/// [`hold_time`](super::hold_time) says so. Other threads are not waited for by themselves: time limits fire while they
/// work. Sockets are, if the runtime is told [`with_sockets`](Self::with_sockets), or one of the kit's is in use.
///
/// A test that leaves tasks behind fails when the runtime ends, or is dropped, unless it
/// [may](Self::allow_leaks): it has forgotten to stop or to await something.
#[derive(Debug)]
pub struct Runtime {
    tokio: tokio::runtime::Runtime,
    clock: Arc<VirtualClock>,
    limit: Duration,
    sets: Arc<Sets>,
    leaks_allowed: bool,
}

impl Runtime {
    /// A runtime at [`START`](super::START), with seed 0 for chance.
    pub fn paused() -> Runtime {
        Runtime::seeded(0)
    }

    /// The same with another seed.
    ///
    /// # Panics
    /// If the system gives no resources for a runtime.
    pub fn seeded(seed: u64) -> Runtime {
        let keeper = Keeper::default();
        let (asleep, awake) = (keeper.clone(), keeper.clone());
        let tokio = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .on_thread_park(move || asleep.falls_asleep())
            .on_thread_unpark(move || awake.wakes())
            .build();
        let tokio = tokio.expect("a runtime for a test");
        let clock = Arc::new(VirtualClock::of(tokio.handle().clone(), seed, keeper));
        Runtime { tokio, clock, limit: LIMIT, sets: Arc::default(), leaks_allowed: false }
    }

    /// Changes how much virtual time a test may take. Defaults to a week.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Runtime {
        self.limit = limit;
        self
    }

    /// Lets tasks be left behind: those of a library that has no end of its own. They are aborted.
    #[must_use]
    pub fn allow_leaks(mut self) -> Runtime {
        self.leaks_allowed = true;
        self
    }

    /// For tests that use sockets: time moves on only when nothing at all has happened for 20 real milliseconds, so that
    /// no time limit fires while bytes are on their way. (A paused tokio clock jumps whenever the thread would sleep, also
    /// if an answer is there already.) Each jump then takes as long.
    ///
    /// A [`FaultProxy`](super::FaultProxy), a [`Patient`](super::Patient) stream and
    /// [`TestBoot::with_sockets`](super::TestBoot::with_sockets) do it by themselves; the first two also wait for the
    /// answer to what they have sent, however long it takes.
    #[must_use]
    pub fn with_sockets(self) -> Runtime {
        self.clock.keeper().keep(QUIET);
        self
    }

    /// Its clock, for stores and policies that are given one.
    pub fn clock(&self) -> Arc<VirtualClock> {
        self.clock.clone()
    }

    /// Runs `work` to its end; what it has spawned stays where it is and goes on in the next call.
    ///
    /// # Panics
    /// When the limit is reached.
    #[track_caller]
    pub fn block_on<F: Future>(&self, work: F) -> F::Output {
        let _switched = crate::clock::switch_to(self.clock.clone(), self.sets.clone());
        let _running = Running::begin(self.clock.keeper());
        let limited = self.tokio.block_on(crate::clock::counted(async { timeout(self.limit, work).await }));
        match limited {
            Ok(out) => out,
            Err(_) => panic!(
                "the test has not ended after {:?} of virtual time: it waits for something that never comes",
                self.limit
            ),
        }
    }

    /// Ends it, as dropping it does.
    ///
    /// # Panics
    /// If tasks have been left behind and may not: those of a [`TaskSet`](crate::TaskSet) are named, with the lines that
    /// spawned them. What can run to its end without virtual time passing does so before.
    #[track_caller]
    pub fn end(mut self) {
        let left = self.left_behind();
        self.leaks_allowed = true;
        if let Some(left) = left {
            panic!("{left}");
        }
    }

    fn left_behind(&self) -> Option<String> {
        let alive = || self.tokio.metrics().num_alive_tasks();
        if self.leaks_allowed {
            return None;
        }
        let _switched = crate::clock::switch_to(self.clock.clone(), self.sets.clone());
        if alive() > 0 {
            self.tokio.block_on(settle(|| alive() == 0));
        }
        self.sets.told(alive())
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // A test that has failed already has better to say.
        if !std::thread::panicking()
            && let Some(left) = self.left_behind()
        {
            panic!("{left}");
        }
    }
}

/// While it lives, the keeper watches.
struct Running<'k>(&'k Keeper);

impl<'k> Running<'k> {
    fn begin(keeper: &'k Keeper) -> Self {
        keeper.runs(true);
        Self(keeper)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.runs(false);
    }
}

/// A socket is in use here: on virtual time, it is waited for.
pub(crate) fn sockets_in_use() {
    if let Some(clock) = crate::clock::virtual_clock() {
        clock.keeper().keep(QUIET);
    }
}

#[cfg(test)]
mod tests {
    use mainstay_core::{clock::Clock, time::StoreTime};
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::{clock, testing::START};

    #[test]
    fn both_clocks_move_together_and_only_when_nothing_can_run() {
        block_on_virtual(async {
            let (clock, began) = (clock::current(), Instant::now());
            assert_eq!((clock.now().wall, clock.now().store), (START, StoreTime(0)));
            std::thread::sleep(crate::millis(5));
            tokio::task::yield_now().await;
            assert_eq!(clock.now().store, StoreTime(0), "time moved while something could run");
            clock.sleep_until(StoreTime(86_400_000)).await;
            assert_eq!(clock.now().wall, START.plus_ms(86_400_000));
            assert_eq!(began.elapsed(), secs(86_400));
            assert_eq!(crate::time::wall(), secs(START.0 as u64 / 1000 + 86_400));
        });
    }

    #[test]
    fn threads_beside_it_read_the_same_time() {
        block_on_virtual(async {
            let clock = clock::current();
            sleep(secs(3600)).await;
            let there = clock.clone();
            let read = std::thread::spawn(move || there.now()).join().unwrap();
            assert_eq!(read, clock.now());
        });
    }

    #[test]
    fn time_is_the_machines_again_afterwards() {
        block_on_virtual(async {});
        assert!(clock::virtual_wall().is_none());
        assert_ne!(clock::current().now().wall, START);
    }

    #[test]
    #[should_panic(expected = "never comes")]
    fn a_test_that_waits_forever_fails_at_once() {
        block_on_virtual(std::future::pending::<()>());
    }

    #[test]
    fn no_time_limit_fires_while_the_real_world_is_waited_for() {
        block_on_virtual(async {
            let (done, waited) = tokio::sync::oneshot::channel();
            std::thread::spawn(move || {
                std::thread::sleep(crate::millis(20));
                done.send(()).unwrap();
            });
            timeout(millis(1), crate::testing::real(waited)).await.expect("the limit fired").unwrap();
        });
    }

    #[test]
    fn chance_follows_the_seed() {
        let draw = |seed| {
            let runtime = Runtime::seeded(seed);
            let chance =
                runtime.block_on(async { [clock::random(), clock::quick_random(), clock::random()] });
            (chance, runtime.clock().entropy())
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let ([first, second, third], fourth) = draw(1);
        let all = std::collections::BTreeSet::from([first, second, third, fourth]);
        assert_eq!(all.len(), 4, "no number is given twice");
    }
}

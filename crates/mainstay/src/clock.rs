//! The clock of the machine, and which clock counts where.

use std::{
    cell::{Cell, RefCell},
    sync::OnceLock,
};

use async_trait::async_trait;
use mainstay_core::{
    clock::Clock,
    time::{Now, StoreTime, Timestamp},
};
use rustix::time::{ClockId, clock_gettime};

#[cfg(not(feature = "testing"))]
#[path = "clock/machine.rs"]
mod place;
#[cfg(feature = "testing")]
#[path = "clock/switched.rs"]
mod place;
use place::virtual_chance;
pub(crate) use place::{counted, current, monotonic, real, virtual_monotonic_ms, virtual_wall, watch};
#[cfg(feature = "testing")]
pub(crate) use place::{switch_to, virtual_clock};

/// The machine's wall clock, and its boot-time clock, which also runs while the machine sleeps.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Now {
        let ns = |id| {
            let now = clock_gettime(id);
            now.tv_sec * 1_000_000_000 + now.tv_nsec
        };
        let (wall, store) = (ns(ClockId::Realtime), ns(ClockId::Boottime));
        // Both change their millisecond together, so that a lease's end on the wall clock is the same at every look.
        static PHASE: OnceLock<i64> = OnceLock::new();
        let phase = *PHASE.get_or_init(|| (wall - store).rem_euclid(1_000_000));
        Now {
            wall: Timestamp(wall / 1_000_000),
            store: StoreTime(((store + phase) / 1_000_000).max(0) as u64),
        }
    }

    async fn sleep_until(&self, at: StoreTime) {
        let now = self.now().store;
        tokio::time::sleep(std::time::Duration::from_millis(at.0.saturating_sub(now.0))).await;
    }

    fn entropy(&self) -> u64 {
        machine_random()
    }
}

/// 64 random bits: from the operating system, or from the seed where time is virtual.
pub(crate) fn random() -> u64 {
    virtual_chance().unwrap_or_else(machine_random)
}

/// 64 random bits from the operating system.
pub(crate) fn machine_random() -> u64 {
    RESERVE.with_borrow_mut(Reserve::take)
}

thread_local! {
    static RESERVE: RefCell<Reserve> = const { RefCell::new(Reserve { bits: [0; 32], left: 0 }) };
}

/// Asks the system for many at a time: a bulk enqueue needs one for each job, and every call costs a switch.
struct Reserve {
    bits: [u64; 32],
    left: usize,
}

impl Reserve {
    fn take(&mut self) -> u64 {
        if self.left == 0 {
            let mut bytes = [0; 256];
            // The operating system's source does not fail once it has begun to answer; a process that never got
            // chance must not run with predictable leases.
            getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
            for (bits, bytes) in self.bits.iter_mut().zip(bytes.as_chunks().0) {
                *bits = u64::from_ne_bytes(*bytes);
            }
            self.left = self.bits.len();
        }
        self.left -= 1;
        // Each is given once, and not to be found here afterwards.
        std::mem::take(&mut self.bits[self.left])
    }
}

/// 64 random bits for the names of things: unlikely to meet, but not secret. A request needs five of them, and the
/// operating system's would cost it a tenth of its time. xoshiro256++ (Blackman and Vigna, "Scrambled linear
/// pseudorandom number generators", 2018), begun anew from the system on each thread.
pub(crate) fn quick_random() -> u64 {
    thread_local! {
        static STATE: Cell<[u64; 4]> = Cell::new(std::array::from_fn(|_| machine_random()));
    }
    if let Some(chance) = virtual_chance() {
        return chance;
    }
    let (out, next) = scramble(STATE.get());
    STATE.set(next);
    out
}

fn scramble([mut a, mut b, mut c, mut d]: [u64; 4]) -> (u64, [u64; 4]) {
    let out = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
    let shifted = b << 17;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = d.rotate_left(45);
    (out, [a, b, c, d])
}

#[cfg(test)]
mod tests {
    #[test]
    fn quick_numbers_are_those_of_the_reference() {
        let mut state = [1, 2, 3, 4];
        for expected in [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386] {
            let (out, next) = super::scramble(state);
            assert_eq!(out, expected);
            state = next;
        }
        let other = std::thread::spawn(super::quick_random).join().unwrap();
        assert_ne!(super::quick_random(), other, "each thread begins somewhere else");
    }

    #[test]
    fn no_number_is_given_twice() {
        let mut seen = std::collections::HashSet::new();
        let many = std::thread::spawn(|| (0..1_000).map(|_| super::machine_random()).collect::<Vec<_>>());
        let here = (0..1_000).map(|_| super::machine_random());
        assert!(here.chain(many.join().unwrap()).all(|number| seen.insert(number)));
    }
}

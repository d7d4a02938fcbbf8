use super::*;

/// A world of `jobs/s` in which each of the workers takes `latency(workers)`: looks every 20 ms.
struct World {
    scale: Scale,
    now: Duration,
    backlog: f64,
}

const LOOK: Duration = millis(20);

impl World {
    fn new(rules: Rules) -> World {
        World { scale: Scale::new(rules), now: secs(1), backlog: 0.0 }
    }

    /// `coming` jobs a second, for this long; answers every change.
    fn run(
        &mut self,
        time: Duration,
        coming: f64,
        latency: impl Fn(usize) -> Duration,
    ) -> Vec<(usize, Reason)> {
        let mut changes = Vec::new();
        let end = self.now + time;
        while self.now < end {
            self.now += LOOK;
            let workers = self.scale.workers();
            let takes = latency(workers);
            let can = workers as f64 * LOOK.as_secs_f64() / takes.as_secs_f64();
            self.backlog += coming * LOOK.as_secs_f64();
            let done = can.min(self.backlog);
            self.backlog -= done;
            let needed = (workers as f64 * done / can).ceil() as usize;
            let waits = takes.mul_f64(self.backlog / workers as f64);
            let look = Look {
                busy: needed.min(workers),
                waiting: self.backlog as usize,
                oldest: waits,
                finished: done.ceil() as usize,
                latency: (done > 0.0).then_some(takes),
            };
            let decision = self.scale.decide(self.now, &look);
            if decision.is_change() {
                changes.push((decision.workers, decision.reason));
            }
        }
        changes
    }
}

#[test]
fn a_burst_gets_workers_at_once_and_keeps_them_until_they_have_been_idle_long() {
    let mut world = World::new(Rules::between(1..=16));
    let grown = world.run(secs(2), 500.0, |_| millis(10));
    let most = world.scale.workers();
    assert!((5..=16).contains(&most), "500 jobs/s of 10 ms need 5: {grown:?}");
    assert!(grown.windows(2).all(|pair| pair[1].0 <= 2 * pair[0].0), "{grown:?}");
    assert_eq!(world.run(secs(9), 0.0, |_| millis(10)), [], "not yet");
    let shrunk = world.run(secs(60), 0.0, |_| millis(10));
    assert_eq!(world.scale.workers(), 1, "{shrunk:?}");
    assert!(shrunk.iter().all(|(_, reason)| matches!(reason, Reason::Idle { .. })), "{shrunk:?}");
}

#[test]
fn a_saw_tooth_does_not_make_it_flap() {
    let mut world = World::new(Rules::between(1..=16));
    for _ in 0..5 {
        world.run(secs(2), 400.0, |_| millis(10));
        world.run(secs(3), 10.0, |_| millis(10));
    }
    let mut changes = Vec::new();
    for _ in 0..10 {
        changes.extend(world.run(secs(2), 400.0, |_| millis(10)));
        changes.extend(world.run(secs(3), 10.0, |_| millis(10)));
    }
    assert_eq!(changes, [], "it knows the load by now");
}

#[test]
fn more_workers_than_help_are_taken_back() {
    // What they share does 400 jobs/s at most, whoever asks: beyond four workers each only takes longer.
    let shared = |workers: usize| millis(10).mul_f64((workers as f64 / 4.0).max(1.0));
    let mut world = World::new(Rules::between(1..=64));
    let changes = world.run(secs(9), 1_000.0, shared);
    assert!(changes.iter().any(|(_, reason)| matches!(reason, Reason::NoGain { .. })), "{changes:?}");
    assert!(world.scale.workers() <= 8, "{changes:?}");
}

#[test]
fn long_jobs_get_workers_before_the_first_has_ended() {
    let mut scale = Scale::new(Rules::between(1..=8));
    let mut now = secs(1);
    for workers in [2, 4, 8, 8] {
        now += millis(200);
        let busy = scale.workers();
        let decision =
            scale.decide(now, &Look { busy, waiting: 100, oldest: millis(60), finished: 0, latency: None });
        assert_eq!(decision.workers, workers, "{decision:?}");
    }
    let look = Look { busy: 8, waiting: 92, oldest: secs(1), finished: 0, latency: None };
    assert_eq!(scale.decide(now + secs(1), &look).reason, Reason::Ceiling);
}

#[test]
fn one_job_that_waits_gets_one_worker() {
    let mut scale = Scale::new(Rules::between(2..=64));
    let look = Look { busy: 2, waiting: 1, oldest: millis(80), finished: 0, latency: Some(secs(10)) };
    assert_eq!(scale.decide(secs(1), &look).workers, 3);
    assert_eq!(scale.decide(secs(1) + millis(5), &Look { busy: 3, ..look }).reason, Reason::Settling);
}

#[test]
#[expect(clippy::reversed_empty_ranges, reason = "bounds that make no sense are among those tried")]
fn bounds_are_kept_whatever_is_seen() {
    for rules in [Rules::between(0..=0), Rules::between(5..=2), Rules::between(1..=3)] {
        let mut scale = Scale::new(rules);
        let mut now = Duration::ZERO;
        for step in 0..5_000_u64 {
            // A number that looks like chance and is not.
            let chance = step.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
            now += millis(chance % 700);
            let decision = scale.decide(
                now,
                &Look {
                    busy: (chance % 7) as usize,
                    waiting: (chance % 11) as usize,
                    oldest: millis(chance % 300),
                    finished: (chance % 5) as usize,
                    latency: chance.is_multiple_of(3).then(|| millis(chance % 1_000)),
                },
            );
            let Rules { floor, ceiling, .. } = *scale.rules();
            assert!((floor..=ceiling).contains(&decision.workers), "{decision:?}");
            assert_eq!(decision.workers, scale.workers());
        }
    }
}

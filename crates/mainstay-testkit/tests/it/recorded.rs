//! Histories recorded from stores: the memory store's can be explained, those of stores that lie cannot.

use std::{collections::HashMap, time::Duration};

use mainstay_core::{
    lock::{Acquire, LockGrant, LockMode, LockOp, LockReply},
    op::{Op, Reason, Reply},
    rules::mix,
};
use mainstay_testkit::{
    Harness, World,
    history::{Asked, Call, Got, check},
    run_with,
    world::locks::{TWO, ask_in, poll, release_op, renew_op, ticket},
};

use crate::{
    harness::Memory,
    judges::{Liar, Lie},
};

const TTL_MS: u64 = 1_000;
const CLIENTS: u64 = 4;

/// What clients notice while they take locks, renew them, overstay and give them back.
fn recorded(harness: impl Harness, seed: u64) -> Vec<Call> {
    let mut calls = vec![];
    run_with(harness, async |world: &mut World| {
        calls = Clients { seed, draws: 0, unheard: HashMap::new(), calls: vec![] }.run(world).await
    });
    calls
}

struct Clients {
    seed: u64,
    draws: u64,
    /// Since when a ticket may have a grant that nobody heard of.
    unheard: HashMap<(u64, String), u64>,
    calls: Vec<Call>,
}

impl Clients {
    async fn run(mut self, w: &World) -> Vec<Call> {
        let mut held: Vec<Option<LockGrant>> = vec![None; CLIENTS as usize];
        for _ in 0..400 {
            w.advance(self.below(3) * self.below(300));
            let client = self.below(CLIENTS);
            match held[client as usize].take() {
                None => held[client as usize] = self.acquire(w, client).await,
                Some(grant) => {
                    let keeps = self.work(w, client, &grant).await;
                    held[client as usize] = keeps.then_some(grant);
                }
            }
        }
        self.calls
    }

    async fn acquire(&mut self, w: &World, client: u64) -> Option<LockGrant> {
        let lock = ["one", "two"][self.below(2) as usize];
        let mode = if lock == "one" {
            LockMode::Exclusive
        } else {
            [LockMode::Shared, LockMode::Exclusive, TWO][self.below(3) as usize]
        };
        let wanted = Acquire { ttl_ms: TTL_MS, ..ask_in(mode, lock, &format!("c{client}")) };
        // The same ticket asks for the same.
        let named = format!("c{client}-{}", mode.as_str());
        let ticketed = self.below(3) == 0;
        let wanted = if ticketed { Acquire { ticket: Some(ticket(&named)), ..poll(wanted) } } else { wanted };
        let (got, grant) = match w.try_lock(wanted).await {
            Ok(LockReply::Granted(grant)) => (Got::Granted(grant.token().0), Some(grant)),
            _ => (Got::Held, None),
        };
        let heard = self.note(w, client, lock, Asked::Acquire { mode, ttl_ms: TTL_MS, wait_ms: 0 }, got);
        if let (true, Some(call)) = (ticketed, self.calls.last_mut()) {
            let key = (client, format!("{lock} {named}"));
            // What it gets may have been granted the first time.
            match (heard, self.unheard.remove(&key)) {
                (true, Some(first)) if grant.is_some() => call.from = first,
                (true, _) => {}
                (false, first) => drop(self.unheard.insert(key, first.unwrap_or(call.from))),
            }
        }
        grant.filter(|_| heard)
    }

    /// Whether it goes on.
    async fn work(&mut self, w: &World, client: u64, grant: &LockGrant) -> bool {
        let token = grant.token().0;
        let lock = grant.name.as_str();
        let (asked, op) = match self.below(4) {
            0 => (Asked::Renew { token, ttl_ms: TTL_MS }, renew_op(grant, None)),
            1 => {
                let shown = w.show_lock(lock).await;
                let valid = shown.as_ref().is_some_and(|lock| lock.is_valid(grant.token()));
                let current = shown.and_then(|lock| lock.current_token()).map(|token| token.0);
                self.note(w, client, lock, Asked::Check { token }, Got::Checked { valid, current });
                return true;
            }
            _ => (Asked::Release { token }, release_op(grant)),
        };
        let releases = matches!(op, Op::Lock(LockOp::Release { .. }));
        let got = match w.try_op(op).await {
            Ok(Reply::Lock(_)) => Got::Done,
            Err(Reason::LockLost) => Got::Lost,
            other => panic!("{other:?}"),
        };
        self.note(w, client, lock, asked, got);
        !releases && got == Got::Done
    }

    /// Notes a call, or that nothing was heard of it. All of it happened within this millisecond.
    fn note(&mut self, w: &World, client: u64, lock: &str, asked: Asked, got: Got) -> bool {
        let heard = self.below(20) > 0;
        let from = w.now().0 as u64 * 1_000;
        let (got, to) = if heard { (got, Some(from + 999)) } else { (Got::Nothing, None) };
        self.calls.push(Call { client, lock: lock.into(), asked, got, from, to });
        heard
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.draws += 1;
        mix(self.seed, self.draws) % limit
    }
}

#[test]
fn what_the_memory_store_answers_can_be_explained() {
    for seed in 0..10 {
        let calls = recorded(Memory::new(), seed);
        check(&calls, Duration::ZERO).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        let granted = calls.iter().filter(|call| matches!(call.got, Got::Granted(_))).count();
        assert!(granted > 50, "seed {seed}: hardly anything was granted");
    }
}

#[test]
fn what_a_broken_lock_service_answers_cannot_be_explained() {
    for lie in [Lie::LockHeldTwice, Lie::LockTooShort, Lie::LockReleasedTwice, Lie::LockNeverFree] {
        let noticed =
            (0..10).filter(|seed| check(&recorded(Liar::new(lie), *seed), Duration::ZERO).is_err()).count();
        assert_eq!(noticed, 10, "{lie:?}");
    }
}

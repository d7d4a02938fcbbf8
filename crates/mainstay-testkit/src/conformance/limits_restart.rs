//! Places, rates and turns over a restart.

use mainstay_core::{
    job::{JobKeys, NewJob},
    queue::{Fairness, QueueConfig, Rate},
};

use super::{places::of_key, turns::of};
use crate::world::{LEASE_MS, World, claim_of};

pub(super) async fn places_are_taken_over_a_restart(w: &mut World) {
    w.configure("q", QueueConfig { concurrency: Some(2), ..QueueConfig::default() }).await;
    for key in ["a", "a", "b", "c"] {
        w.enqueue(of_key(w, "q", key)).await;
    }
    let grants = w.claims(claim_of(&["q"], 10)).await;
    w.reopen().await;
    assert_eq!(w.try_claim("q").await, None);
    w.complete(&grants[1]).await;
    let grant = w.claim("q").await;
    assert_eq!(w.get(grant.id).await.keys.concurrency.as_deref(), Some("c"), "`a` is busy still");
    w.reopen().await;
    w.lose(LEASE_MS).await;
    assert_eq!(
        w.claims(claim_of(&["q"], 10)).await.len(),
        2,
        "a crash frees them, also of a lease from before"
    );
}

pub(super) async fn a_rate_counts_over_a_restart(w: &mut World) {
    let rate = Some(Rate { per_ms: 10_000, count: 3 });
    w.configure("q", QueueConfig { rate, ..QueueConfig::default() }).await;
    for _ in 0..8 {
        w.enqueue(w.job("q")).await;
    }
    assert_eq!(w.claims(claim_of(&["q"], 2)).await.len(), 2);
    w.advance(4_000);
    w.enqueue(w.job("other")).await;
    w.reopen().await;
    assert_eq!(w.claims(claim_of(&["q"], 10)).await.len(), 1);
    w.reopen().await;
    w.advance(5_999);
    assert_eq!(w.try_claim("q").await, None);
    w.advance(1);
    assert_eq!(w.claims(claim_of(&["q"], 10)).await.len(), 2);
}

/// Without that, the first in the alphabet is favoured by every restart.
pub(super) async fn turns_go_on_after_a_restart(w: &mut World) {
    w.configure("q", QueueConfig { fairness: Some(Fairness::default()), ..QueueConfig::default() }).await;
    for tenant in ["a", "b", "c"] {
        for _ in 0..6 {
            w.enqueue(of(w, "q", tenant)).await;
        }
    }
    w.enqueue(w.job("q")).await;
    let mut order = String::new();
    for _ in 0..8 {
        let grant = w.claim("q").await;
        order.push_str(w.get(grant.id).await.keys.fairness.as_deref().unwrap_or("-"));
        w.reopen().await;
    }
    assert_eq!(order, "-abcabca");
}

pub(super) async fn keys_survive_a_restart(w: &mut World) {
    let keys = JobKeys { concurrency: Some("c".into()), fairness: Some("f".into()) };
    let waits = w.enqueue(NewJob { keys: keys.clone(), ..w.job("q") }).await;
    let ended = w.enqueue(NewJob { keys: keys.clone(), priority: 0, ..w.job("q") }).await;
    let grant = w.claim("q").await;
    w.complete(&grant).await;
    w.reopen().await;
    assert_eq!(w.get(waits).await.keys, keys);
    assert_eq!(w.get(ended).await.keys, keys);
    w.claim("q").await;
    w.enqueue(NewJob { keys, ..w.job("q") }).await;
    assert_eq!(w.try_claim("q").await, None);
}

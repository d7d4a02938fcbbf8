//! Whose turn it is: `fairness` and `ageing_ms`.

use std::collections::BTreeMap;

use mainstay_core::{
    JobId,
    job::{JobKeys, JobState, NewJob, When},
    op::Op,
    queue::{Fairness, QueueConfig, Rate},
};

use super::places::of_key;
use crate::world::{World, claim_of, ids, name};

fn fair(weights: &[(&str, u32)]) -> QueueConfig {
    let weights: BTreeMap<_, _> = weights.iter().map(|(key, weight)| ((*key).into(), *weight)).collect();
    QueueConfig { fairness: Some(Fairness { weights: weights.into() }), ..QueueConfig::default() }
}

/// A job of a tenant.
pub(super) fn of(w: &World, queue: &str, tenant: &str) -> NewJob {
    let keys = JobKeys { fairness: Some(tenant.into()), ..JobKeys::default() };
    NewJob { keys, ..w.job(queue) }
}

async fn fill(w: &World, tenant: &str, count: usize) -> Vec<JobId> {
    let mut ids = vec![];
    for _ in 0..count {
        ids.push(w.enqueue(of(w, "q", tenant)).await);
    }
    ids
}

/// The tenants of the next `count` jobs, a claim each.
async fn tenants(w: &World, count: usize) -> String {
    let mut order = String::new();
    for _ in 0..count {
        let grant = w.claim("q").await;
        order.push_str(w.get(grant.id).await.keys.fairness.as_deref().unwrap_or("-"));
    }
    order
}

pub(super) async fn a_small_tenant_is_not_starved_by_a_large_one(w: &mut World) {
    w.configure("q", fair(&[])).await;
    let jobs = (0..500).map(|_| Op::Enqueue(Box::new(NewJob { priority: 0, ..of(w, "q", "large") })));
    let commit = w.ops(jobs);
    w.commit(commit).await.expect("enqueue");
    assert_eq!(w.claims(claim_of(&["q"], 100)).await.len(), 100);
    let small = fill(w, "small", 3).await;
    let first: Vec<JobId> = ids(&w.claims(claim_of(&["q"], 6)).await);
    assert!(small.iter().all(|id| first.contains(id)), "every other hand-out is the small one's");
}

pub(super) async fn tenants_take_turns(w: &mut World) {
    w.configure("q", fair(&[])).await;
    for (tenant, count) in [("a", 4), ("b", 2), ("c", 3)] {
        fill(w, tenant, count).await;
    }
    let (rest, order) = (tenants(w, 6).await, tenants(w, 3).await);
    for tenant in ["a", "b", "c"] {
        assert_eq!(rest.matches(tenant).count(), 2, "{rest}");
    }
    assert_eq!(order.matches('a').count(), 2);
    assert_eq!(order.matches('c').count(), 1);
}

pub(super) async fn shares_are_by_weight(w: &mut World) {
    w.configure("q", fair(&[("a", 3_000), ("c", 500)])).await;
    for tenant in ["a", "b", "c"] {
        fill(w, tenant, 60).await;
    }
    let order = tenants(w, 45).await;
    let counts = ["a", "b", "c"].map(|tenant| order.matches(tenant).count());
    assert_eq!(counts, [30, 10, 5], "3 : 1 : 0.5, in {order}");
}

pub(super) async fn within_a_tenant_the_order_is_that_of_the_queue(w: &mut World) {
    w.configure("q", fair(&[])).await;
    let late = w.enqueue(NewJob { priority: 7, ..of(w, "q", "a") }).await;
    let due = w.enqueue(NewJob { run_at: Some(When::In(50)), ..of(w, "q", "a") }).await;
    let urgent = w.enqueue(NewJob { priority: 0, ..of(w, "q", "a") }).await;
    w.advance(50);
    assert_eq!(w.drain("q").await, [urgent, due, late]);
}

pub(super) async fn jobs_without_a_key_take_turns_as_one(w: &mut World) {
    w.configure("q", fair(&[])).await;
    for _ in 0..10 {
        w.enqueue(NewJob { priority: 0, ..w.job("q") }).await;
    }
    fill(w, "a", 3).await;
    w.enqueue(NewJob { priority: 0, ..of_key(w, "q", "place") }).await;
    let order = tenants(w, 6).await;
    assert_eq!(order.matches('a').count(), 3, "{order}");
}

pub(super) async fn a_tenant_that_paused_does_not_catch_up(w: &mut World) {
    w.configure("q", fair(&[])).await;
    fill(w, "a", 2).await;
    fill(w, "b", 60).await;
    tenants(w, 40).await;
    fill(w, "a", 20).await;
    let order = tenants(w, 10).await;
    assert!((5..=6).contains(&order.matches('a').count()), "{order}");
}

/// One that always comes back with one job more must not be served each time it does.
pub(super) async fn a_tenant_with_one_job_at_a_time_gets_its_share_and_no_more(w: &mut World) {
    w.configure("q", fair(&[])).await;
    fill(w, "b", 40).await;
    fill(w, "a", 1).await;
    let mut order = String::new();
    for _ in 0..20 {
        order.push_str(&tenants(w, 1).await);
        if order.ends_with('a') {
            fill(w, "a", 1).await;
        }
    }
    let a = order.matches('a').count();
    assert!((9..=11).contains(&a), "{order}");
    assert!(!order.contains("aaa"), "{order}");
}

pub(super) async fn fairness_may_come_and_go_with_a_backlog(w: &mut World) {
    let (mut a, b) = (fill(w, "a", 10).await, fill(w, "b", 4).await);
    assert_eq!(w.claim("q").await.id, a.remove(0), "without fairness, first come");
    assert_eq!(w.claim("q").await.id, a.remove(0));
    w.configure("q", fair(&[])).await;
    let order = tenants(w, 4).await;
    assert_eq!(order.matches('b').count(), 2, "{order}");
    w.configure("q", QueueConfig::default()).await;
    let rest: Vec<JobId> = a.into_iter().skip(2).chain(b.into_iter().skip(2)).collect();
    assert_eq!(w.drain("q").await, rest);
}

pub(super) async fn a_tenant_whose_keys_are_busy_does_not_hold_others_up(w: &mut World) {
    w.configure("q", fair(&[])).await;
    let keys =
        |tenant: &str, key: &str| JobKeys { concurrency: Some(key.into()), fairness: Some(tenant.into()) };
    for _ in 0..5 {
        w.enqueue(NewJob { keys: keys("a", "busy"), ..w.job("q") }).await;
    }
    fill(w, "b", 3).await;
    let first = w.claim("q").await;
    assert_eq!(w.get(first.id).await.keys.fairness.as_deref(), Some("a"));
    assert_eq!(tenants(w, 3).await, "bbb");
    assert_eq!(w.try_claim("q").await, None);
    fill(w, "b", 2).await;
    w.complete(&first).await;
    assert_eq!(tenants(w, 1).await, "a", "it has had fewer turns");
}

/// All limits at once, and nothing that can run waits.
pub(super) async fn fairness_places_rates_and_time_hold_together(w: &mut World) {
    let config = QueueConfig {
        concurrency: Some(4),
        rate: Some(Rate { per_ms: 1_000, count: 3 }),
        ..fair(&[("b", 2_000)])
    };
    w.configure("q", config).await;
    let keys =
        |tenant: &str, key: &str| JobKeys { concurrency: Some(key.into()), fairness: Some(tenant.into()) };
    for n in 0..12 {
        let tenant = ["a", "b", "c"][n % 3];
        let job = NewJob { keys: keys(tenant, &format!("k{}", n % 4)), ..w.job("q") };
        w.enqueue(job).await;
    }
    let expires = w.enqueue(NewJob { expires: Some(When::In(500)), priority: 0, ..of(w, "q", "d") }).await;
    let later = w.enqueue(NewJob { run_at: Some(When::In(1_500)), priority: 0, ..of(w, "q", "d") }).await;
    w.set_paused("q", true).await;
    w.advance(600);
    assert_eq!(w.claims(claim_of(&["q"], 10)).await, []);
    w.set_paused("q", false).await;
    let (mut done, mut running, mut seen) = (0, vec![], vec![]);
    for round in 0..40 {
        let grants = w.claims(claim_of(&["q"], 10)).await;
        assert!(grants.len() <= 3 && running.len() + grants.len() <= 4, "round {round}");
        for grant in &grants {
            assert_ne!(grant.id, expires);
            let job = w.get(grant.id).await;
            assert!(job.run_at <= w.now());
            seen.push(grant.id);
            running.push((job.keys.concurrency, grant.clone()));
        }
        for (at, (key, _)) in running.iter().enumerate() {
            assert!(
                key.is_none() || running[..at].iter().all(|(other, _)| other != key),
                "a place for each key"
            );
        }
        w.advance(400);
        if !running.is_empty() {
            w.complete(&running.remove(0).1).await;
            done += 1;
        }
        if done == 13 {
            break;
        }
    }
    assert_eq!((done, seen.contains(&later)), (13, true));
    assert_eq!(w.state(expires).await, JobState::Dead);
}

pub(super) async fn a_refused_commit_takes_no_turn(w: &mut World) {
    w.configure("q", fair(&[])).await;
    fill(w, "a", 6).await;
    fill(w, "b", 6).await;
    let mut plain = String::new();
    for _ in 0..6 {
        let commit = w.ops([Op::Claim(claim_of(&["q"], 3)), Op::Cancel { id: w.id("q") }]);
        assert!(w.commit(commit).await.is_err());
        plain.push_str(&tenants(w, 1).await);
    }
    assert!(plain == "ababab" || plain == "bababa", "{plain}");
}

pub(super) async fn a_refused_commit_delays_nobodys_turn(w: &mut World) {
    w.configure("q", fair(&[("d", 1_500)])).await;
    let with = |w: &World, tenant: &str, key: &str| {
        let keys = JobKeys { concurrency: Some(key.into()), fairness: Some(tenant.into()) };
        NewJob { keys, ..w.job("q") }
    };
    w.enqueue(with(w, "x", "one")).await;
    let busy = w.claim("q").await;
    w.enqueue(with(w, "x", "two")).await;
    w.claim("q").await;
    // Somebody always waits, so nobody's past is forgotten.
    w.enqueue(with(w, "z", "two")).await;
    fill(w, "b", 2).await;
    assert_eq!(tenants(w, 2).await, "bb");
    w.enqueue(with(w, "b", "one")).await;
    fill(w, "d", 6).await;
    // It hands out past the turn of `b`, which has no place, and gives that a job to begin with.
    let urgent = NewJob { priority: 0, ..with(w, "b", "one") };
    let refused = Op::Cancel { id: w.id("q") };
    let commit = w.ops([Op::Claim(claim_of(&["q"], 4)), Op::Enqueue(Box::new(urgent)), refused]);
    assert!(w.commit(commit).await.is_err());
    w.complete(&busy).await;
    assert_eq!(tenants(w, 4).await, "ddbd");
}

pub(super) async fn a_low_priority_is_not_starved_where_jobs_age(w: &mut World) {
    w.configure("q", QueueConfig { ageing_ms: Some(1_000), ..QueueConfig::default() }).await;
    let old = w.enqueue(NewJob { priority: 9, ..w.job("q") }).await;
    w.advance(3_999);
    let fresh = w.enqueue(NewJob { priority: 5, ..of_key(w, "q", "k") }).await;
    w.advance(2);
    let later = w.enqueue(NewJob { priority: 5, ..w.job("q") }).await;
    let order = w.drain("q").await;
    assert_eq!(order, [fresh, old, later], "four steps are worth four seconds");
}

pub(super) async fn without_ageing_a_priority_is_absolute(w: &mut World) {
    let old = w.enqueue(NewJob { priority: 9, ..w.job("q") }).await;
    w.advance(86_400_000 / 2);
    let fresh = w.enqueue(NewJob { priority: 8, ..w.job("q") }).await;
    assert_eq!(w.drain("q").await, [fresh, old]);
}

pub(super) async fn the_limits_of_a_queue_are_shown(w: &mut World) {
    let config = QueueConfig {
        concurrency: Some(7),
        key_concurrency: Some(2),
        rate: Some(Rate { per_ms: 60_000, count: 100 }),
        ageing_ms: Some(5_000),
        ..fair(&[("gold", 4_000)])
    };
    w.configure("q", config.clone()).await;
    assert_eq!(w.queue("q").await.config, config);
    w.op(Op::DeleteQueue { queue: name("q") }).await;
    w.enqueue(w.job("q")).await;
    assert_eq!(w.queue("q").await.config, QueueConfig::default(), "a new queue of that name has none of it");
}

//! Fencing tokens only grow.

use mainstay_core::{Token, store::TokenOrder};

use crate::world::{LEASE_MS, World, claim_of};

pub(super) async fn tokens_grow_with_every_grant_of_a_job(w: &mut World) {
    w.enqueue(w.job_with("q", |policy| policy.max_crashes = Some(100))).await;
    let mut last = Token(0);
    for round in 0..20 {
        let grant = w.claim("q").await;
        assert!(grant.lease.token > last, "{:?} after {last:?}", grant.lease.token);
        assert!(grant.lease.token.0 < Token::LIMIT);
        last = grant.lease.token;
        if round % 2 == 0 {
            w.lose(LEASE_MS).await;
        } else {
            w.release(&grant, 0).await;
        }
    }
}

pub(super) async fn tokens_grow_over_what_the_store_promises(w: &mut World) {
    if w.store().capabilities().token_order != TokenOrder::Store {
        return; // what is promised of one job has its own case
    }
    let mut tokens = vec![];
    for round in 0..5 {
        for queue in ["a", "b"] {
            w.enqueue(w.job(queue)).await;
            w.enqueue(w.job(queue)).await;
        }
        let queues: &[&str] = if round % 2 == 0 { &["a", "b"] } else { &["b", "a"] };
        tokens.extend(w.claims(claim_of(queues, 3)).await.iter().map(|grant| grant.lease.token));
    }
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
}

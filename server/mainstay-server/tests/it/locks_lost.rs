//! Clients that go away while they wait for a lock, or before they have it.

use serde_json::{Value, json};

use crate::client::{Request, read};
use crate::locks::present;
use crate::lost::behind_one_that_waits;
use crate::server::{Setup, TestServer};

fn acquire(server: &TestServer, owner: &str, wait_ms: u64) -> Request {
    let body = json!({ "owner": owner, "wait_ms": wait_ms });
    server.request("POST", "/v1/locks/l/acquire").json(body)
}

async fn release(server: &TestServer, grant: &Value) {
    server.post("/v1/locks/l/release", json!({ "lease": grant["lease"] })).await.is(200);
}

async fn waiters(server: &TestServer, owners: &[&str]) {
    let is = |lock: &Value| {
        let waiters = lock["waiters"].as_array().unwrap();
        waiters.iter().map(|waiter| waiter["owner"].as_str().unwrap()).eq(owners.iter().copied())
    };
    server.get_until("/v1/locks/l", is).await;
}

#[tokio::test]
async fn a_waiter_without_a_key_leaves_the_line_with_its_connection() {
    let server = TestServer::start().await;
    for _ in 0..10 {
        let grant = acquire(&server, "holder", 0).send().await.is(200);
        let gone = acquire(&server, "gone", 60000).open().await;
        waiters(&server, &["gone"]).await;
        let next = tokio::join!(acquire(&server, "next", 60000).send(), async {
            waiters(&server, &["gone", "next"]).await;
            drop(gone);
            waiters(&server, &["next"]).await;
            release(&server, &grant).await;
        });
        let next = next.0.is(200);
        release(&server, &next).await;
    }
}

#[tokio::test]
async fn a_waiter_that_left_at_the_moment_of_the_hand_over_does_not_keep_the_lock() {
    let server = TestServer::start().await;
    for round in 0..20 {
        let grant = acquire(&server, "holder", 0).send().await.is(200);
        let gone = acquire(&server, "gone", 60000).open().await;
        waiters(&server, &["gone"]).await;
        // Both at once: whichever comes first, the lock is free in the end, long before the TTL is over.
        drop(gone);
        release(&server, &grant).await;
        let next = acquire(&server, "next", 60000).send().await;
        assert_eq!(next.status, 200, "{round}: {next:?}");
        release(&server, &next.json()).await;
    }
}

#[tokio::test]
async fn a_client_that_left_before_its_acquire_was_begun_is_granted_nothing() {
    let server = TestServer::start().await;
    for _ in 0..10 {
        behind_one_that_waits(&server, acquire(&server, "gone", 0)).await;
        let next = acquire(&server, "next", 60000).send().await.is(200);
        release(&server, &next).await;
    }
}

#[tokio::test]
async fn a_ticket_whose_connection_broke_is_passed_over_and_keeps_its_place() {
    let server = Setup::default().manual_clock().start().await;
    let grant = acquire(&server, "holder", 0).send().await.is(200);
    let keyed = || acquire(&server, "ticket", 60000).header("idempotency-key", "t");
    let broken = keyed().open().await;
    waiters(&server, &["ticket"]).await;
    let mut next = acquire(&server, "next", 60000).open().await;
    waiters(&server, &["ticket", "next"]).await;
    let mut last = acquire(&server, "last", 60000).open().await;
    waiters(&server, &["ticket", "next", "last"]).await;
    drop(broken);
    present(&server, false).await;
    release(&server, &grant).await;
    let next = read(&mut next, "POST").await.is(200);
    // It is back, before those who came after it.
    let mut again = keyed().open().await;
    present(&server, true).await;
    release(&server, &next).await;
    let again = read(&mut again, "POST").await.is(200);
    release(&server, &again).await;
    read(&mut last, "POST").await.is(200);
}

#[tokio::test]
async fn a_ticket_waits_on_whatever_else_is_asked_under_its_key() {
    let server = Setup::default().manual_clock().start().await;
    let keyed = |owner, wait_ms| acquire(&server, owner, wait_ms).header("idempotency-key", "t");
    for other in ["ticket", "another body"] {
        let grant = acquire(&server, "holder", 0).send().await.is(200);
        let mut waits = keyed("ticket", 60000).open().await;
        waiters(&server, &["ticket"]).await;
        let look = keyed(other, 0).send().await;
        if other == "ticket" {
            look.problem(409, "lock-held");
        } else {
            look.problem(422, "idempotency-mismatch");
        }
        release(&server, &grant).await;
        let waited = read(&mut waits, "POST").await.is(200);
        release(&server, &waited).await;
    }
}

#[tokio::test]
async fn a_grant_whose_answer_was_lost_is_kept_for_its_ticket() {
    let server = Setup::default().manual_clock().start().await;
    let grant = acquire(&server, "holder", 0).send().await.is(200);
    let keyed = || acquire(&server, "ticket", 60000).header("idempotency-key", "t");
    let unread = keyed().open().await;
    waiters(&server, &["ticket"]).await;
    release(&server, &grant).await;
    let held = server.get_until("/v1/locks/l", |lock| lock["holders"][0]["owner"] == "ticket").await;
    drop(unread);
    let again = keyed().send().await.is(200);
    assert_eq!(again["token"], held["holders"][0]["token"], "the same grant");
    release(&server, &again).await;
}

//! Locks over the wire, on a clock that the test moves.

use mainstay::{millis, secs};
use serde_json::{Value, json};

use crate::client::{Reply, Request, pointers};
use crate::server::{Setup, TestServer};

async fn manual() -> TestServer {
    Setup::default().manual_clock().start().await
}

fn acquire(server: &TestServer, owner: &str, more: Value) -> Request {
    let mut body = json!({ "owner": owner });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.request("POST", "/v1/locks/l/acquire").json(body)
}

/// Takes the lock, which is free.
async fn take(server: &TestServer, owner: &str) -> Value {
    acquire(server, owner, json!({})).send().await.is(200)
}

async fn on_lease(server: &TestServer, verb: &str, grant: &Value) -> Reply {
    server.post(&format!("/v1/locks/l/{verb}"), json!({ "lease": grant["lease"] })).await
}

/// Waits until so many stand in line.
async fn waiting(server: &TestServer, count: usize) -> Value {
    server.get_until("/v1/locks/l", |lock| lock["waiters"].as_array().unwrap().len() == count).await
}

/// Waits until the first in line is there, or is not.
pub async fn present(server: &TestServer, is: bool) {
    let name = "l".parse().unwrap();
    let looking = async {
        loop {
            let lock = server.store().lock_record(&name).await.unwrap().unwrap();
            if lock.waiters[0].present == is {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(secs(60), looking).await.expect("it comes to that");
}

fn token(grant: &Value) -> u64 {
    grant["token"].as_u64().unwrap()
}

#[tokio::test]
async fn a_lock_is_held_by_one_and_who_asks_is_told_by_whom() {
    let server = manual().await;
    server.get("/v1/locks/l").await.problem(404, "not-found");
    let grant = take(&server, "a").await;
    assert_eq!((&grant["name"], token(&grant) < 1 << 53), (&json!("l"), true));
    assert!(grant["lease"].is_string() && grant["expires_at"].as_str().unwrap().ends_with('Z'), "{grant}");

    // Not re-entrant: the same owner is somebody else.
    for owner in ["a", "b"] {
        let held = acquire(&server, owner, json!({})).send().await.problem(409, "lock-held");
        assert_eq!((&held["holder"], &held["waiters"]), (&json!("a"), &json!(0)));
        assert_eq!((&held["expires_at"], &held["retryable"]), (&grant["expires_at"], &json!(true)));
    }
    let lock = server.get("/v1/locks/l").await.is(200);
    let holder = json!({
        "owner": "a", "token": grant["token"], "acquired_at": "2027-01-15T08:00:00.000Z",
        "expires_at": grant["expires_at"],
    });
    assert_eq!(
        lock,
        json!({ "name": "l", "mode": "exclusive", "holders": [holder], "waiters": [], "waiting": 0 })
    );

    assert_eq!(on_lease(&server, "release", &grant).await.is(200), json!({ "released": true }));
    assert_eq!(
        on_lease(&server, "release", &grant).await.problem(409, "lock-lost")["outcome"],
        "not-applied"
    );
    let next = take(&server, "b").await;
    assert!(token(&next) > token(&grant), "a fencing token only grows");
}

#[tokio::test]
async fn a_lock_ends_with_its_ttl_unless_it_is_renewed() {
    let server = manual().await;
    let grant = acquire(&server, "a", json!({ "ttl_ms": 10000 })).send().await.is(200);
    server.advance(secs(9));
    let renewed = on_lease(&server, "renew", &grant).await.is(200);
    assert!(renewed["expires_at"].as_str() > grant["expires_at"].as_str());
    server.advance(secs(9));
    acquire(&server, "b", json!({})).send().await.problem(409, "lock-held");
    // For as long as it says, from now.
    let long = json!({ "lease": grant["lease"], "ttl_ms": 60000 });
    server.post("/v1/locks/l/renew", long).await.is(200);
    server.advance(secs(59));
    acquire(&server, "b", json!({})).send().await.problem(409, "lock-held");
    server.advance(secs(1));
    on_lease(&server, "renew", &grant).await.problem(409, "lock-lost");
    let next = take(&server, "b").await;
    on_lease(&server, "release", &grant).await.problem(409, "lock-lost");
    assert_eq!(server.get("/v1/locks/l").await.is(200)["holders"][0]["token"], next["token"], "b has it");
}

#[tokio::test]
async fn waiters_are_served_in_the_order_in_which_they_came() {
    let server = manual().await;
    let first = take(&server, "first").await;
    let mut streams = Vec::new();
    for n in 0..4 {
        streams.push(acquire(&server, &format!("w{n}"), json!({ "wait_ms": 60000 })).open().await);
        let lock = waiting(&server, n + 1).await;
        let waiter = &lock["waiters"][n];
        assert_eq!((&waiter["owner"], &waiter["position"]), (&json!(format!("w{n}")), &json!(n + 1)));
        assert_eq!((&waiter["mode"], &waiter["present"]), (&json!("exclusive"), &json!(true)));
    }
    let mut grant = first;
    for mut stream in streams {
        on_lease(&server, "release", &grant).await.is(200);
        let next = crate::client::read(&mut stream, "POST").await.is(200);
        assert!(token(&next) > token(&grant));
        grant = next;
    }
    assert_eq!(server.get("/v1/locks/l").await.is(200)["holders"][0]["owner"], "w3");
}

#[tokio::test]
async fn a_waiter_gets_the_lock_when_its_holder_is_gone() {
    let server = manual().await;
    let stale = take(&server, "a").await;
    let (granted, ()) = tokio::join!(acquire(&server, "b", json!({ "wait_ms": 60000 })).send(), async {
        waiting(&server, 1).await;
        server.advance(secs(30));
    });
    assert!(token(&granted.is(200)) > token(&stale));
}

#[tokio::test]
async fn a_wait_ends_with_who_holds_the_lock() {
    let server = manual().await;
    take(&server, "a").await;
    let wait = |ms: u64| acquire(&server, "b", json!({ "wait_ms": ms })).send();
    let (held, ()) = tokio::join!(wait(5000), async {
        waiting(&server, 1).await;
        server.advance(secs(5));
    });
    let held = held.problem(409, "lock-held");
    assert_eq!((&held["holder"], &held["waiters"]), (&json!("a"), &json!(0)), "it has left the line");
}

#[tokio::test]
async fn a_callers_own_time_limit_ends_its_wait_with_the_ordinary_answer() {
    let server = TestServer::start().await;
    take(&server, "a").await;
    let limited = acquire(&server, "b", json!({ "wait_ms": 60000 })).header("x-request-timeout-ms", "300");
    limited.send().await.problem(409, "lock-held");
    assert_eq!(server.get("/v1/locks/l").await.is(200)["waiters"], json!([]));
}

#[tokio::test]
async fn readers_share_and_one_behind_a_waiting_writer_waits() {
    let server = manual().await;
    let shared = json!({ "mode": "shared" });
    let one = acquire(&server, "r1", shared.clone()).send().await.is(200);
    let two = acquire(&server, "r2", shared.clone()).send().await.is(200);
    let lock = server.get("/v1/locks/l").await.is(200);
    assert_eq!((&lock["mode"], lock["holders"].as_array().unwrap().len()), (&json!("shared"), 2));
    let mut writer = acquire(&server, "w", json!({ "mode": "exclusive", "wait_ms": 60000 })).open().await;
    waiting(&server, 1).await;
    acquire(&server, "r3", shared.clone()).send().await.problem(409, "lock-held");
    let mut reader = acquire(&server, "r4", json!({ "mode": "shared", "wait_ms": 60000 })).open().await;
    waiting(&server, 2).await;
    on_lease(&server, "release", &one).await.is(200);
    on_lease(&server, "release", &two).await.is(200);
    let writer = crate::client::read(&mut writer, "POST").await.is(200);
    on_lease(&server, "release", &writer).await.is(200);
    crate::client::read(&mut reader, "POST").await.is(200);
}

#[tokio::test]
async fn a_semaphore_has_its_permits_and_no_other_size() {
    let server = manual().await;
    let permits = |n: u32| json!({ "permits": n });
    let one = acquire(&server, "a", permits(2)).send().await.is(200);
    let two = acquire(&server, "b", permits(2)).send().await.is(200);
    assert_ne!(one["token"], two["token"]);
    acquire(&server, "c", permits(2)).send().await.problem(409, "lock-held");
    acquire(&server, "c", permits(3)).send().await.problem(409, "state-conflict");
    acquire(&server, "c", json!({ "mode": "shared" })).send().await.problem(409, "lock-held");
    let lock = server.get("/v1/locks/l").await.is(200);
    assert_eq!((&lock["mode"], &lock["permits"]), (&json!("semaphore"), &json!(2)));
    on_lease(&server, "release", &one).await.is(200);
    acquire(&server, "c", permits(2)).send().await.is(200);
}

#[tokio::test]
async fn a_ticket_collects_its_grant_again_and_with_another_body_is_a_mistake() {
    let server = manual().await;
    let keyed = |more: Value| acquire(&server, "a", more).header("idempotency-key", "t").send();
    let grant = keyed(json!({})).await.is(200);
    assert_eq!(keyed(json!({})).await.is(200), grant, "a lost answer is given again");
    assert_eq!(keyed(json!({ "wait_ms": 100 })).await.is(200), grant, "how long to wait is no part of it");
    keyed(json!({ "ttl_ms": 5000 })).await.problem(422, "idempotency-mismatch");
    on_lease(&server, "release", &grant).await.is(200);
    let again = keyed(json!({})).await.is(200);
    assert!(token(&again) > token(&grant), "a key whose grant has ended is an ordinary acquire");
}

#[tokio::test]
async fn a_ticket_keeps_its_place_for_ten_seconds() {
    let server = manual().await;
    let first = take(&server, "a").await;
    let keyed = |more: Value| acquire(&server, "ticket", more).header("idempotency-key", "t").send();
    // A ticket that does not wait gets a place, too, and counts.
    let held = keyed(json!({})).await.problem(409, "lock-held");
    assert_eq!(held["waiters"], 1);
    let held = acquire(&server, "other", json!({})).send().await.problem(409, "lock-held");
    assert_eq!(held["waiters"], 1);
    let mut behind = acquire(&server, "behind", json!({ "wait_ms": 60000 })).open().await;
    waiting(&server, 2).await;
    server.advance(secs(9));
    // It comes back, and is served before the other, because it was there before.
    let (grant, ()) = tokio::join!(keyed(json!({ "wait_ms": 60000 })), async {
        present(&server, true).await;
        on_lease(&server, "release", &first).await.is(200);
    });
    let grant = grant.is(200);
    on_lease(&server, "release", &grant).await.is(200);
    let behind = crate::client::read(&mut behind, "POST").await.is(200);

    keyed(json!({})).await.problem(409, "lock-held");
    server.advance(millis(10_001));
    assert_eq!(server.get("/v1/locks/l").await.is(200)["waiters"], json!([]), "its place is gone");
    on_lease(&server, "release", &behind).await.is(200);
}

#[tokio::test]
async fn a_ticket_that_is_withdrawn_leaves_neither_a_place_nor_a_grant() {
    let server = manual().await;
    let first = take(&server, "a").await;
    let keyed = |key: &str, verb: &str, more: Value| {
        let mut body = json!({ "owner": "ticket" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let path = format!("/v1/locks/l/{verb}");
        server.request("POST", &path).header("idempotency-key", key).json(body).send()
    };
    // One that waits. How long is no part of what it asked.
    keyed("t", "acquire", json!({})).await.problem(409, "lock-held");
    waiting(&server, 1).await;
    for _ in 0..2 {
        assert_eq!(
            keyed("t", "withdraw", json!({ "wait_ms": 5 })).await.is(200),
            json!({ "withdrawn": true })
        );
        waiting(&server, 0).await;
    }
    // One that was granted the lock, whoever has heard of it.
    on_lease(&server, "release", &first).await.is(200);
    let grant = keyed("t", "acquire", json!({})).await.is(200);
    keyed("t", "withdraw", json!({})).await.is(200);
    server.get("/v1/locks/l").await.problem(404, "not-found");
    on_lease(&server, "renew", &grant).await.problem(409, "lock-lost");
    // What others asked, under another key or with another body, is not this caller's.
    let other = keyed("u", "acquire", json!({})).await.is(200);
    keyed("t", "withdraw", json!({})).await.is(200);
    keyed("u", "withdraw", json!({ "ttl_ms": 5000 })).await.is(200);
    assert_eq!(server.get("/v1/locks/l").await.is(200)["holders"][0]["token"], other["token"]);
    let keyless = server.post("/v1/locks/l/withdraw", json!({ "owner": "ticket", "ttl_ms": 1 })).await;
    assert_eq!(pointers(&keyless.problem(422, "validation-failed")), ["/Idempotency-Key", "/ttl_ms"]);
}

#[tokio::test]
async fn an_acquire_that_waits_is_over_when_its_ticket_is_withdrawn_and_the_lock_goes_to_the_next() {
    let server = manual().await;
    let first = take(&server, "a").await;
    let keyed = |verb: &str, more: Value| {
        let mut body = json!({ "owner": "ticket" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let request = server.request("POST", &format!("/v1/locks/l/{verb}")).json(body);
        request.header("idempotency-key", "t")
    };
    // Its connection stays open, as behind a proxy that does not tell that its client has left.
    let mut kept = keyed("acquire", json!({ "wait_ms": 60000 })).open().await;
    waiting(&server, 1).await;
    let mut next = acquire(&server, "next", json!({ "wait_ms": 60000 })).open().await;
    waiting(&server, 2).await;
    keyed("withdraw", json!({})).send().await.is(200);
    let over = crate::client::read(&mut kept, "POST").await.problem(409, "state-conflict");
    assert_eq!((&over["outcome"], &over["retryable"]), (&json!("not-applied"), &json!(false)));
    assert_eq!(waiting(&server, 1).await["waiters"][0]["owner"], "next");
    on_lease(&server, "release", &first).await.is(200);
    let next = crate::client::read(&mut next, "POST").await.is(200);
    on_lease(&server, "release", &next).await.is(200);
    server.get("/v1/locks/l").await.problem(404, "not-found");
    // Who asks anew under the key is an ordinary caller.
    let grant = keyed("acquire", json!({})).send().await.is(200);
    on_lease(&server, "release", &grant).await.is(200);
}

#[tokio::test]
async fn a_delay_after_an_expiry_keeps_others_out() {
    let server = manual().await;
    acquire(&server, "a", json!({ "ttl_ms": 1000, "delay_ms": 5000 })).send().await.is(200);
    server.advance(millis(1_001));
    let held = acquire(&server, "b", json!({})).send().await.problem(409, "lock-held");
    assert_eq!(held["holder"], "a");
    server.advance(millis(5_000));
    let grant = acquire(&server, "b", json!({ "delay_ms": 5000 })).send().await.is(200);
    on_lease(&server, "release", &grant).await.is(200);
    acquire(&server, "c", json!({})).send().await.is(200);
    let wrong =
        acquire(&server, "d", json!({ "delay_ms": 60001 })).send().await.problem(422, "validation-failed");
    assert_eq!(pointers(&wrong), ["/delay_ms"]);
}

#[tokio::test]
async fn many_locks_are_renewed_at_once_each_on_its_own() {
    let server = manual().await;
    let held = server.post("/v1/locks/one/acquire", json!({ "owner": "a" })).await.is(200);
    let item = |name: &str, lease: &Value| json!({ "name": name, "lease": lease, "ttl_ms": 60000 });
    let leases =
        json!([item("one", &held["lease"]), item("two", &held["lease"]), item("three", &json!("x"))]);
    let renewed = server.post("/v1/locks/renew", json!({ "leases": leases })).await.is(200);
    let results = renewed["results"].as_array().unwrap();
    assert_eq!(results[0]["name"], "one");
    assert!(results[0]["expires_at"].as_str() > held["expires_at"].as_str(), "{renewed}");
    for (result, name) in results[1..].iter().zip(["two", "three"]) {
        assert_eq!((&result["name"], &result["error"]["code"]), (&json!(name), &json!("lock-lost")));
        assert!(result.get("expires_at").is_none() && result["error"]["detail"].is_string());
    }
}

#[tokio::test]
async fn a_lock_may_be_called_like_a_route() {
    let server = manual().await;
    let grant = server.post("/v1/locks/renew/acquire", json!({ "owner": "a" })).await.is(200);
    assert_eq!(server.get("/v1/locks/renew").await.is(200)["name"], "renew");
    server.post("/v1/locks/renew/renew", json!({ "lease": grant["lease"] })).await.is(200);
    assert_eq!(server.delete("/v1/locks/renew").await.status, 204);
    server.get("/v1/locks/renew").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_check_says_whether_a_token_still_counts() {
    let server = manual().await;
    let check = async |token: u64| server.post("/v1/locks/l/check", json!({ "token": token })).await.is(200);
    assert_eq!(check(7).await, json!({ "valid": false, "current_token": null }));
    let first = take(&server, "a").await;
    assert_eq!(check(token(&first)).await, json!({ "valid": true, "current_token": token(&first) }));
    on_lease(&server, "release", &first).await.is(200);
    let second = take(&server, "b").await;
    assert_eq!(check(token(&first)).await, json!({ "valid": false, "current_token": token(&second) }));
    server.advance(secs(30));
    assert_eq!(check(token(&second)).await, json!({ "valid": false, "current_token": null }), "it ran out");
}

#[tokio::test]
async fn a_lock_that_is_taken_away_is_lost_and_the_audit_trail_says_why() {
    let server = manual().await;
    server.delete("/v1/locks/l").await.problem(404, "not-found");
    let grant = take(&server, "stuck").await;
    let (next, broken) = tokio::join!(acquire(&server, "next", json!({ "wait_ms": 60000 })).send(), async {
        waiting(&server, 1).await;
        server.delete("/v1/locks/l?reason=it%20hangs").await
    });
    assert_eq!((broken.status, broken.body.len()), (204, 0));
    assert!(token(&next.is(200)) > token(&grant));
    on_lease(&server, "renew", &grant).await.problem(409, "lock-lost");
    let audit = server.on_admin("GET", "/admin/audit").send().await.is(200);
    let line = &audit["items"][0];
    assert_eq!((&line["action"], &line["target"]), (&json!("lock.force"), &json!("l")));
    assert_eq!(line["reason"], "it hangs");
    assert!(line["request_id"].as_str().is_some_and(|id| !id.contains(' ')), "{line}");
    assert_eq!(audit["items"].as_array().unwrap().len(), 1, "what was refused is not there");
}

#[tokio::test]
async fn locks_are_listed_by_name_in_pages() {
    let server = manual().await;
    for name in ["b", "a:2", "a:1", "c", "a:3"] {
        server.post(&format!("/v1/locks/{name}/acquire"), json!({ "owner": "o" })).await.is(200);
    }
    let names = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap();
        items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    let all = server.get("/v1/locks").await.is(200);
    assert_eq!(names(&all), ["a:1", "a:2", "a:3", "b", "c"]);
    assert!(all.to_string().find("lease").is_none(), "a lease is for its holder alone");
    let mut found = Vec::new();
    let mut path = "/v1/locks?prefix=a:&limit=2".to_owned();
    loop {
        let page = server.get(&path).await.is(200);
        found.extend(names(&page));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        let other = server.get(&format!("/v1/locks?cursor={cursor}")).await.problem(422, "validation-failed");
        assert_eq!(pointers(&other), ["/cursor"], "a cursor belongs to its query");
        path = format!("/v1/locks?prefix=a:&limit=2&cursor={cursor}");
    }
    assert_eq!(found, ["a:1", "a:2", "a:3"]);
    assert_eq!(server.get("/v1/locks?prefix=x").await.is(200), json!({ "items": [], "next_cursor": null }));
}

#[tokio::test]
async fn a_token_guards_a_commit_and_a_lock_is_released_with_it() {
    let server = manual().await;
    let grant = take(&server, "a").await;
    let enqueue = json!({ "op": "enqueue", "queue": "q", "kind": "k" });
    let commit = |token: u64, ops: Value| {
        let body = json!({ "require": [{"lock": "l", "token": token}], "ops": ops });
        server.request("POST", "/v1/commit").json(body).send()
    };
    commit(token(&grant), json!([enqueue])).await.is(200);
    let release = json!({ "op": "release_lock", "name": "l", "lease": grant["lease"] });
    let done = commit(token(&grant), json!([enqueue, release])).await.is(200);
    assert_eq!(done["results"][1], json!({ "released": true }));
    let next = take(&server, "b").await;
    // What the first one still writes does not happen, whether it names its token or its lease.
    let stale = commit(token(&grant), json!([enqueue])).await.problem(409, "state-conflict");
    assert_eq!(pointers(&stale), ["/require/0"]);
    let stale = commit(token(&next), json!([enqueue, release])).await.problem(409, "lock-lost");
    assert_eq!(pointers(&stale), ["/ops/1"]);
    assert_eq!(server.get("/v1/queues/q").await.is(200)["depth"]["available"], 2);
}

#[tokio::test]
async fn a_release_repeated_under_its_key_is_the_same_answer() {
    let server = manual().await;
    let grant = take(&server, "a").await;
    let release = || {
        let request = server.request("POST", "/v1/locks/l/release").header("idempotency-key", "r");
        request.json(json!({ "lease": grant["lease"] })).send()
    };
    let first = release().await.is(200);
    assert_eq!(release().await.is(200), first);
    on_lease(&server, "release", &grant).await.problem(409, "lock-lost");
}

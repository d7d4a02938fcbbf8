//! Events over the wire.

mod streams;

use mainstay_api::client::{HttpClient, Options};
use mainstay_api::query::PageQuery;
use mainstay_api::types::{Fetch, TopicConfig};
use serde_json::{Value, json};

use crate::client::{Reply, Request, pointers};
use crate::server::{Setup, TestServer};

const STRUCTURED: &str = "application/cloudevents+json";
const BATCHED: &str = "application/cloudevents-batch+json";

/// Publishes data with everything else left out.
async fn publish(server: &TestServer, topic: &str, data: Value) -> Value {
    server.post(&format!("/v1/topics/{topic}/events"), data).await.is(201)
}

async fn declared(server: &TestServer, topic: &str, kind: &str, body: Value) -> Reply {
    let request = server.request("POST", &format!("/v1/topics/{topic}/events"));
    request.header("content-type", kind).body(body.to_string()).send().await
}

async fn log(server: &TestServer, topic: &str) -> Vec<Value> {
    let page = server.get(&format!("/v1/topics/{topic}/events")).await.is(200);
    page["items"].as_array().unwrap().clone()
}

async fn group(server: &TestServer, more: Value) {
    let mut config = json!({ "topics": ["orders.*"] });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.put("/v1/groups/g", config).await.is(200);
}

async fn fetch(server: &TestServer, max: u32) -> Vec<Value> {
    let fetched = server.post("/v1/groups/g/fetch", json!({ "max": max })).await.is(200);
    fetched["events"].as_array().unwrap().clone()
}

async fn settle(server: &TestServer, body: Value) -> Vec<Value> {
    let settled = server.post("/v1/groups/g/settle", body).await.is(200);
    settled["results"].as_array().unwrap().clone()
}

fn data(events: &[Value]) -> Vec<Value> {
    events.iter().map(|one| one["event"]["data"].clone()).collect()
}

#[tokio::test]
async fn all_three_modes_of_cloudevents_end_in_the_same_log() {
    let server = TestServer::start().await;
    let binary = server
        .request("POST", "/v1/topics/orders.new/events")
        .header("ce-id", "one%20two")
        .header("ce-type", "Order")
        .header("ce-partitionkey", "k")
        .header("ce-comexample", "x")
        .json(json!({ "n": 1 }));
    let first = binary.send().await.is(201);
    assert_eq!(first, json!({"id": "one two", "seq": 1, "topic": "orders.new", "deduplicated": false}));
    let event = json!({"specversion": "1.0", "id": "s", "source": "/a", "data": {"n": 2}});
    assert_eq!(declared(&server, "orders.new", STRUCTURED, event).await.is(201)["seq"], 2);
    let batch = json!([{"id": "b0", "data": 3}, {"id": "b1", "data_base64": "AAH/"}]);
    let batch = declared(&server, "orders.new", BATCHED, batch).await.is(201);
    assert_eq!((&batch["results"][0]["seq"], &batch["results"][1]["seq"]), (&json!(3), &json!(4)));

    let log = log(&server, "orders.new").await;
    let event = &log[0]["event"];
    let expected = json!({"specversion": "1.0", "id": "one two", "source": "/mainstay", "type": "Order",
        "partitionkey": "k", "datacontenttype": "application/json", "comexample": "x", "data": {"n": 1}});
    assert_eq!(*event, expected);
    assert_eq!(log[1]["event"]["type"], "orders.new", "what is left out is added");
    assert_eq!(log[3]["event"]["data_base64"], "AAH/");
}

#[tokio::test]
async fn a_wrong_batch_is_refused_whole_with_every_mistake() {
    let server = TestServer::start().await;
    let batch = json!([{"id": "ok"}, {"id": 5, "Bad": 1}, {"specversion": "0.3"}]);
    let problem = declared(&server, "orders.new", BATCHED, batch).await.problem(422, "validation-failed");
    assert_eq!(pointers(&problem), ["/1/Bad", "/1/id", "/2/specversion"]);
    assert!(log(&server, "orders.new").await.is_empty());
    let problem = server.post("/v1/topics/a..b/events", json!(1)).await.problem(422, "validation-failed");
    assert_eq!(
        (&problem["errors"][0]["pointer"], &problem["errors"][0]["in"]),
        (&json!("/topic"), &json!("path"))
    );
    declared(&server, "a", STRUCTURED, json!("{")).await.problem(422, "validation-failed");
    let broken = server.request("POST", "/v1/topics/a/events").header("content-type", STRUCTURED).body("{");
    broken.send().await.problem(400, "malformed-body");
}

#[tokio::test]
async fn the_same_source_and_id_is_stored_once_and_a_key_repeats_the_first_answer() {
    let server = TestServer::start().await;
    let event = json!({"id": "x", "source": "/s", "data": 1});
    let first = declared(&server, "t", STRUCTURED, event.clone()).await.is(201);
    let again = declared(&server, "t", STRUCTURED, event).await.is(200);
    assert_eq!((&again["seq"], &again["deduplicated"]), (&first["seq"], &json!(true)));

    let keyed = |body: &str| {
        let request = server.request("POST", "/v1/topics/t/events").header("idempotency-key", "k");
        request.header("content-type", "application/json").body(body)
    };
    let first = keyed("2").send().await.is(201);
    let again = keyed("2").send().await.is(200);
    assert_eq!(
        (&again["id"], &again["seq"]),
        (&first["id"], &first["seq"]),
        "the id that was made the first time"
    );
    keyed("3").send().await.problem(422, "idempotency-mismatch");
    assert_eq!(log(&server, "t").await.len(), 2);
}

#[tokio::test]
async fn a_key_repeats_the_id_that_was_made_although_the_event_is_gone() {
    let server = TestServer::start().await;
    server.put("/v1/topics/t", json!({"retention": {"count": 1}})).await.is(200);
    let keyed = |path: &str, body: Value| {
        server.request("POST", path).header("idempotency-key", "k").json(body).send()
    };
    let alone = keyed("/v1/topics/t/events", json!(1)).await.is(201);
    let ops = json!({"ops": [{"op": "publish", "topic": "t", "event": {"data": 2}}]});
    let op = keyed("/v1/commit", ops.clone()).await.is(200)["results"][0].clone();
    assert_ne!(alone["id"], op["id"]);
    publish(&server, "t", json!("the one that stays")).await;
    server.get_until("/v1/topics/t/events", |page| page["items"].as_array().unwrap().len() == 1).await;
    assert_eq!(keyed("/v1/topics/t/events", json!(1)).await.is(200)["id"], alone["id"]);
    assert_eq!(keyed("/v1/commit", ops).await.is(200)["results"][0]["id"], op["id"]);
}

#[tokio::test]
async fn what_retention_has_removed_is_gone_and_says_what_is_there() {
    let server = TestServer::start().await;
    server.put("/v1/topics/t", json!({"retention": {"count": 2}})).await.is(200);
    for n in 1..=4 {
        publish(&server, "t", json!(n)).await;
    }
    server.get_until("/v1/topics/t/events", |page| page["items"].as_array().unwrap().len() == 2).await;
    let gone = server.get("/v1/topics/t/events?from=1").await.problem(410, "history-gone");
    assert_eq!(gone["first_seq"], 3);
    server.get("/v1/events/stream?topics=t&from=2").await.problem(410, "history-gone");
    let page = server.get("/v1/topics/t/events?from=3&limit=1").await.is(200);
    assert_eq!(data(page["items"].as_array().unwrap()), [json!(3)], "inclusive");
    let next = page["next_cursor"].as_str().unwrap();
    let page = server.get(&format!("/v1/topics/t/events?from=3&limit=1&cursor={next}")).await.is(200);
    assert_eq!(
        (data(page["items"].as_array().unwrap()), &page["next_cursor"]),
        (vec![json!(4)], &Value::Null)
    );
    let other = server.get(&format!("/v1/topics/other/events?cursor={next}")).await;
    assert_eq!(crate::client::pointers(&other.problem(422, "validation-failed")), ["/cursor"]);
    server.delete("/v1/topics/t").await.is(204);
    server.delete("/v1/topics/t").await.problem(404, "not-found");
}

#[tokio::test]
async fn data_must_fit_the_topics_schema_and_a_narrower_one_is_told() {
    let server = TestServer::start().await;
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    server.put("/v1/topics/t", json!({ "schema": schema })).await.is(200);
    publish(&server, "t", json!({"n": 1})).await;
    let wrong = server.post("/v1/topics/t/events", json!({"n": "x"})).await.problem(422, "validation-failed");
    assert_eq!(pointers(&wrong), ["/n"]);
    let batch = json!([{"data": {"n": 1}}, {"data": {"n": "x"}}]);
    let wrong = declared(&server, "t", BATCHED, batch).await.problem(422, "validation-failed");
    assert_eq!(pointers(&wrong), ["/1/data/n"]);
    let op = json!({"op": "publish", "topic": "t", "event": {"data": 5}});
    let wrong = server.post("/v1/commit", json!({ "ops": [op] })).await.problem(422, "validation-failed");
    assert_eq!(pointers(&wrong), ["/ops/0/event/data"]);

    let narrower = json!({"type": "object", "required": ["m"]});
    let put = server.put("/v1/topics/t", json!({ "schema": narrower })).await.is(200);
    assert!(put["incompatible"][0].as_str().unwrap().contains("required"), "{put}");
    server.post("/v1/topics/t/events", json!({"n": 1})).await.problem(422, "validation-failed");
    let none =
        server.put("/v1/topics/t", json!({"schema": {"type": 5}})).await.problem(422, "validation-failed");
    assert_eq!(pointers(&none), ["/schema"]);
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_although_the_schema_has_changed() {
    let server = TestServer::start().await;
    let under = |key: &str, path: &str, body: Value| {
        let request = server.request("POST", path).header("idempotency-key", key);
        request.header("content-type", "application/json").body(body.to_string()).send()
    };
    let commit = json!({"ops": [
        {"op": "publish", "topic": "t", "event": {"data": {"n": 2}}},
        {"op": "enqueue", "queue": "q", "kind": "k"},
    ]});
    let first = under("one", "/v1/topics/t/events", json!({"n": 1})).await.is(201);
    let committed = under("two", "/v1/commit", commit.clone()).await.is(200);
    server.put("/v1/topics/t", json!({"schema": {"type": "string"}})).await.is(200);

    let again = under("one", "/v1/topics/t/events", json!({"n": 1})).await.is(200);
    assert_eq!(
        (&again["id"], &again["seq"], &again["deduplicated"]),
        (&first["id"], &json!(1), &json!(true))
    );
    let repeated = under("two", "/v1/commit", commit.clone()).await.is(200);
    assert_eq!(repeated["results"][0]["seq"], committed["results"][0]["seq"]);
    assert_eq!(repeated["results"][1]["id"], committed["results"][1]["id"]);
    assert_eq!(log(&server, "t").await.len(), 2);

    // What was never answered is judged, and another body is another body.
    under("new", "/v1/topics/t/events", json!({"n": 1})).await.problem(422, "validation-failed");
    under("new", "/v1/topics/t/events", json!({"n": 1})).await.problem(422, "validation-failed");
    under("new", "/v1/commit", commit).await.problem(422, "validation-failed");
    under("one", "/v1/topics/t/events", json!({"n": 3})).await.problem(422, "idempotency-mismatch");
    under("new", "/v1/topics/t/events", json!("fits")).await.is(201);
}

#[tokio::test]
async fn the_first_event_is_number_one_and_none_is_asked_for_by_zero() {
    let server = TestServer::start().await;
    group(&server, json!({})).await;
    publish(&server, "orders.new", json!(1)).await;
    let pointers_of = |reply: Reply| pointers(&reply.problem(422, "validation-failed"));
    assert_eq!(pointers_of(server.post("/v1/groups/g/seek", json!({"seq": 0})).await), ["/seq"]);
    let config = json!({"topics": ["orders.*"], "start": {"seq": 0}});
    assert_eq!(pointers_of(server.put("/v1/groups/h", config).await), ["/start/seq"]);
    for path in ["/v1/topics/orders.new/events?from=0", "/v1/events?from=0", "/v1/events/stream?from=0"] {
        assert_eq!(pointers_of(server.get(path).await), ["/from"], "{path}");
    }
    server.post("/v1/groups/g/seek", json!({"seq": 1})).await.is(200);
    assert_eq!(server.get("/v1/events?from=1").await.is(200)["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_group_hands_out_settles_and_keeps_dead_letters() {
    let server = Setup::default().manual_clock().start().await;
    group(&server, json!({"max_deliver": 2, "backoff": {"base_ms": 1000, "jitter": "none"}})).await;
    for n in 1..=3 {
        publish(&server, "orders.new", json!(n)).await;
    }
    publish(&server, "users.new", json!("not for this group")).await;
    let events = fetch(&server, 10).await;
    assert_eq!(data(&events), [json!(1), json!(2), json!(3)]);
    let lease = |n: usize| events[n]["lease"].clone();
    let results = settle(
        &server,
        json!({
            "ack": [lease(0), "1-0000000000000000"],
            "nack": [{"lease": lease(1), "delay_ms": 0, "error": "boom"}],
            "extend": [{"lease": lease(2), "extend_ms": 60000}],
        }),
    );
    let results = results.await;
    assert_eq!(results[0], json!({"lease": lease(0), "ok": true}));
    assert_eq!(results[1]["error"]["code"], "lease-lost");
    assert!(results[2]["ok"] == true && results[3]["ok"] == true, "{results:?}");

    let again = fetch(&server, 10).await;
    assert_eq!((data(&again), &again[0]["attempt"]), (vec![json!(2)], &json!(2)));
    let late = settle(&server, json!({"ack": [lease(1)]})).await;
    assert_eq!(late[0]["error"]["code"], "lease-lost", "a lease is for one delivery");
    let error = json!({"type": "Boom", "message": "again"});
    settle(&server, json!({"nack": [{"lease": again[0]["lease"], "error": error}]})).await;
    let dead = server.get("/v1/groups/g/dead").await.is(200)["items"][0].clone();
    assert_eq!((&dead["reason"], &dead["error"]["message"]), (&json!("exhausted"), &json!("again")));
    let view = server.get("/v1/groups/g").await.is(200);
    assert_eq!((&view["dead"], &view["in_flight"], &view["lag"]), (&json!(1), &json!(1), &json!(0)));

    let ids = json!({"ids": [dead["id"]]});
    let requeued = server.post("/v1/groups/g/dead/requeue", ids).await.is(200);
    assert_eq!(requeued, json!({"matched": 1, "changed": 1}));
    let back = fetch(&server, 10).await;
    assert_eq!((data(&back), &back[0]["attempt"]), (vec![json!(2)], &json!(1)));
}

#[tokio::test]
async fn a_requeue_under_a_key_is_answered_again_word_for_word() {
    let server = TestServer::start().await;
    group(&server, json!({"max_deliver": 1})).await;
    for n in 0..6 {
        publish(&server, "orders.new", json!(n)).await;
    }
    let nack: Vec<Value> =
        fetch(&server, 10).await.iter().map(|one| json!({"lease": one["lease"]})).collect();
    settle(&server, json!({ "nack": nack })).await;
    let path = "/v1/groups/g/dead/requeue";
    for (key, answer) in
        [("a", json!({"matched": 6, "changed": 2})), ("b", json!({"matched": 4, "changed": 2}))]
    {
        let keyed = || server.request("POST", path).header("idempotency-key", key).json(json!({"limit": 2}));
        assert_eq!(keyed().send().await.is(200), answer);
        assert_eq!(keyed().send().await.is(200), answer, "the first answer");
    }
    assert_eq!(server.post(path, json!({"limit": 1})).await.is(200), json!({"matched": 2, "changed": 1}));
    let none = || server.request("POST", path).header("idempotency-key", "c").json(json!({"ids": ["x"]}));
    assert_eq!(none().send().await.is(200), json!({"matched": 0, "changed": 0}));
    assert_eq!(server.get("/v1/groups/g/dead").await.is(200)["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_waiting_fetch_gets_what_is_published_and_a_lost_answer_is_given_back() {
    let server = TestServer::start().await;
    group(&server, json!({})).await;
    let waiting = server.post("/v1/groups/g/fetch", json!({"wait_ms": 60000}));
    let ((), fetched) = tokio::join!(async { drop(publish(&server, "orders.new", json!(1)).await) }, waiting);
    let fetched = fetched.is(200);
    assert_eq!(fetched["events"][0]["event"]["data"], 1);

    let body = json!({"wait_ms": 60000}).to_string();
    let gone =
        server.request("POST", "/v1/groups/g/fetch").header("content-type", "application/json").body(body);
    drop(gone.open().await);
    publish(&server, "orders.new", json!(2)).await;
    let group = server.get_until("/v1/groups/g", |group| group["lag"] == 1 && group["in_flight"] == 1).await;
    assert_eq!(group["redelivered"], 0);
    assert_eq!(fetch(&server, 1).await[0]["attempt"], 1, "no delivery was spent");
}

#[tokio::test]
async fn a_group_is_moved_and_its_leases_are_void() {
    let server = TestServer::start().await;
    group(&server, json!({})).await;
    let first = publish(&server, "orders.new", json!(1)).await;
    publish(&server, "orders.new", json!(2)).await;
    let events = fetch(&server, 10).await;
    let sought = server.post("/v1/groups/g/seek", json!({"seq": first["seq"]})).await.is(200);
    assert_eq!(sought["cursor"], first["seq"]);
    let void = settle(&server, json!({"ack": [events[0]["lease"]]})).await;
    assert_eq!(void[0]["error"]["code"], "lease-lost");
    assert_eq!(data(&fetch(&server, 10).await), [json!(1), json!(2)]);
    server.post("/v1/groups/g/seek", json!({"to": "latest"})).await.is(200);
    assert!(fetch(&server, 10).await.is_empty());
    for wrong in [json!({}), json!({"seq": 1, "to": "latest"}), json!({"to": "here"}), json!({"time": "now"})]
    {
        server.post("/v1/groups/g/seek", wrong).await.problem(422, "validation-failed");
    }
    server.post("/v1/groups/none/seek", json!({"seq": 1})).await.problem(404, "not-found");
}

#[tokio::test]
async fn every_mistake_of_a_group_is_named() {
    let server = TestServer::start().await;
    let wrong =
        json!({"topics": ["a..b", ">.a"], "start": "here", "ack_wait_ms": 1, "max_deliver": 0, "x": 1});
    let problem = server.put("/v1/groups/g", wrong).await.problem(422, "validation-failed");
    let named = ["/ack_wait_ms", "/max_deliver", "/start", "/topics/0", "/topics/1", "/x"];
    assert_eq!(pointers(&problem), named);
    let missing = server.put("/v1/groups/g", json!({})).await.problem(422, "validation-failed");
    assert_eq!(pointers(&missing), ["/topics"]);
}

#[tokio::test]
async fn a_job_a_lock_an_event_and_a_delivery_end_in_one_commit() {
    let server = TestServer::start().await;
    group(&server, json!({})).await;
    publish(&server, "orders.new", json!("first")).await;
    let delivery = fetch(&server, 1).await[0]["lease"].clone();
    server.enqueue("q", json!({})).await;
    let (id, lease) = server.claim_one("q").await;
    let lock = server.post("/v1/locks/l/acquire", json!({"owner": "o"})).await.is(200);
    let ops = json!([
        {"op": "complete", "id": id, "lease": lease},
        {"op": "publish", "topic": "orders.done", "event": {"data": "second"}},
        {"op": "ack", "group": "g", "lease": delivery},
        {"op": "release_lock", "name": "l", "lease": lock["lease"]},
    ]);
    let mut broken = ops.clone();
    broken[3]["lease"] = json!("1-0000000000000000");
    let problem = server.post("/v1/commit", json!({ "ops": broken })).await.problem(409, "lock-lost");
    assert_eq!(pointers(&problem), ["/ops/3"]);
    assert_eq!(server.job(&id).await["state"], "running", "nothing has happened");
    assert!(fetch(&server, 10).await.is_empty());

    let require = json!([{"lock": "l", "token": lock["token"]}]);
    let done = server.post("/v1/commit", json!({ "require": require, "ops": ops })).await.is(200);
    assert_eq!(
        (&done["results"][1]["topic"], &done["results"][1]["seq"]),
        (&json!("orders.done"), &json!(2))
    );
    assert_eq!(data(&fetch(&server, 10).await), [json!("second")]);
    let again = json!({"ops": [{"op": "ack", "group": "g", "lease": delivery}]});
    let problem = server.post("/v1/commit", again).await;
    assert_eq!((problem.status, pointers(&problem.json())), (409, vec!["/ops/0".to_owned()]));
}

#[tokio::test]
async fn an_event_in_an_unknown_format_is_refused_and_quoted_headers_are_read() {
    let server = TestServer::start().await;
    for kind in
        ["application/cloudevents+xml", "application/cloudevents", "Application/CloudEvents-batch; x=y"]
    {
        declared(&server, "t", kind, json!({})).await.problem(415, "unsupported-media-type");
    }
    let quoted = server.request("POST", "/v1/topics/t/events").header("ce-subject", r#""a \"b\" %C3%A9""#);
    quoted.json(json!(1)).send().await.is(201);
    assert_eq!(log(&server, "t").await[0]["event"]["subject"], "a \"b\" é");
}

#[tokio::test]
async fn a_token_with_a_prefix_reads_nothing_else_through_a_wider_group() {
    let server = TestServer::start().await;
    let token = |name: &str, scope: &str| {
        server.on_admin("POST", "/admin/tokens").json(json!({"name": name, "scopes": [scope]}))
    };
    let admin = token("admin", "admin").send().await.is(201)["token"].as_str().unwrap().to_owned();
    let as_admin = |request: Request| request.header("authorization", &format!("Bearer {admin}"));
    let narrow = as_admin(token("narrow", "events:subscribe=orders.")).send().await.is(201);
    let narrow = format!("Bearer {}", narrow["token"].as_str().unwrap());
    for (name, filter) in [("orders.all", ">"), ("orders.own", "orders.*")] {
        let put = server.request("PUT", &format!("/v1/groups/{name}")).json(json!({"topics": [filter]}));
        as_admin(put).send().await.is(200);
    }
    for (verb, body) in [("fetch", json!({})), ("settle", json!({})), ("seek", json!({"seq": 1}))] {
        let of = |group: &str| {
            let request = server.request("POST", &format!("/v1/groups/{group}/{verb}"));
            request.header("authorization", &narrow).json(body.clone()).send()
        };
        of("orders.all").await.problem(403, "forbidden");
        of("orders.own").await.is(200);
    }
    let delete = server.request("DELETE", "/v1/groups/orders.all").header("authorization", &narrow);
    delete.send().await.problem(403, "forbidden");
    let ack = json!({"ops": [{"op": "ack", "group": "orders.all", "lease": "1-0000000000000000"}]});
    let commit = server.request("POST", "/v1/commit").header("authorization", &narrow).json(ack);
    commit.send().await.problem(403, "forbidden");
}

#[tokio::test]
async fn a_fetch_that_is_answered_again_leaves_out_what_retention_has_removed() {
    let server = TestServer::start().await;
    group(&server, json!({})).await;
    for n in 1..=3 {
        publish(&server, "orders.new", json!(n)).await;
    }
    let keyed = || {
        let request = server.request("POST", "/v1/groups/g/fetch").header("idempotency-key", "k");
        request.json(json!({"max": 10})).send()
    };
    assert_eq!(keyed().await.is(200)["events"].as_array().unwrap().len(), 3);
    server.put("/v1/topics/orders.new", json!({"retention": {"count": 1}})).await.is(200);
    let trimmed = |page: &Value| page["items"].as_array().unwrap().len() == 1;
    server.get_until("/v1/topics/orders.new/events", trimmed).await;
    let again = keyed().await.is(200);
    assert_eq!(data(again["events"].as_array().unwrap()), [json!(3)]);
}

#[tokio::test]
async fn the_client_reads_what_it_fetches_dead_letters_and_topics_with_schemas() {
    let server = TestServer::start().await;
    let client = HttpClient::new(&format!("http://{}", server.api), Options::default()).unwrap();
    let config = json!({"schema": {"type": "integer"}, "retention": {"count": 9}});
    let config: TopicConfig = serde_json::from_str(&config.to_string()).unwrap();
    let put = client.put_topic("orders.new", &config).await.unwrap();
    assert_eq!((put.topic.name.as_str(), &put.topic.config), ("orders.new", &config));
    group(&server, json!({"max_deliver": 1})).await;
    publish(&server, "orders.new", json!(1)).await;
    let fetched = client.fetch("g", &Fetch { max: 1, wait_ms: 0, consumer: None }).await.unwrap();
    let event: Value = fetched.events[0].envelope.event.read().unwrap();
    assert_eq!((fetched.events[0].envelope.seq, &event["data"]), (1, &json!(1)));
    settle(&server, json!({"nack": [{"lease": fetched.events[0].lease, "error": "boom"}]})).await;
    let dead = client.dead_events("g", &PageQuery::default()).await.unwrap();
    assert_eq!((dead.items[0].envelope.topic.as_str(), dead.items[0].attempts), ("orders.new", 1));
}

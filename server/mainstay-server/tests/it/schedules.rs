//! Schedules and workers, over the wire.

use serde_json::{Value, json};

use crate::client::pointers;
use crate::server::{Setup, TestServer};

fn nightly() -> Value {
    json!({ "cron": "30 3 * * *", "timezone": "Europe/Berlin", "queue": "chores",
        "job": {"kind": "clean", "payload": {"deep": true}, "priority": 2, "tags": ["night"]}, "catch_up": "one" })
}

#[tokio::test]
async fn a_schedule_is_put_read_listed_and_deleted() {
    let server = TestServer::start().await;
    let next = server.put("/v1/schedules/nightly", nightly()).await.is(200)["next_run_at"].clone();
    let view = server.get("/v1/schedules/nightly").await.is(200);
    for (field, value) in nightly().as_object().unwrap() {
        if field != "job" {
            assert_eq!(&view[field], value, "{field}");
        }
    }
    assert_eq!((&view["job"]["kind"], &view["job"]["payload"]), (&json!("clean"), &json!({"deep": true})));
    assert_eq!((&view["job"]["priority"], &view["job"]["tags"]), (&json!(2), &json!(["night"])));
    assert_eq!((&view["next_run_at"], &view["last_run_at"]), (&next, &json!(null)));
    assert_eq!((&view["paused"], &view["fired"]), (&json!(false), &json!(0)));
    // Three in the morning in Berlin is one or two o'clock here.
    assert!(
        ["T01:30:00.000Z", "T02:30:00.000Z"].iter().any(|end| next.as_str().unwrap().ends_with(end)),
        "{next}"
    );

    server
        .put("/v1/schedules/hourly", json!({ "cron": "0 * * * *", "queue": "q", "job": {"kind": "k"} }))
        .await
        .is(200);
    let list = server.get("/v1/schedules?limit=1").await.is(200);
    assert_eq!(list["items"][0]["name"], "hourly");
    let more = format!("/v1/schedules?limit=1&cursor={}", list["next_cursor"].as_str().unwrap());
    let list = server.get(&more).await.is(200);
    assert_eq!((&list["items"][0]["name"], &list["next_cursor"]), (&json!("nightly"), &json!(null)));

    assert_eq!(server.delete("/v1/schedules/nightly").await.status, 204);
    server.get("/v1/schedules/nightly").await.problem(404, "not-found");
    server.delete("/v1/schedules/nightly").await.problem(404, "not-found");
}

#[tokio::test]
async fn every_mistake_in_a_schedule_is_told_with_its_place() {
    let server = TestServer::start().await;
    let rows = [
        (json!({}), &["/cron", "/job", "/queue"][..]),
        (json!({ "cron": "61 25 * * *", "queue": "q", "job": {"kind": "k"} }), &["/cron"]),
        (json!({ "cron": "0 0 30 2 *", "queue": "q", "job": {"kind": "k"} }), &["/cron"]),
        (json!({ "cron": "* * * * * * *", "queue": "q", "job": {"kind": "k"} }), &["/cron"]),
        (json!({ "cron": "", "queue": "q", "job": {"kind": "k"} }), &["/cron"]),
        (json!({ "cron": "x".repeat(300), "queue": "q", "job": {"kind": "k"} }), &["/cron"]),
        (json!({ "cron": 5, "queue": "q", "job": {"kind": "k"} }), &["/cron"]),
        (
            json!({ "cron": "* * * * *", "timezone": "Mars", "queue": "q", "job": {"kind": "k"} }),
            &["/timezone"],
        ),
        (json!({ "cron": "* * * * *", "queue": "no queue", "job": {"kind": ""} }), &["/job/kind", "/queue"]),
        (
            json!({ "cron": "x", "timezone": "y", "queue": "", "job": {"kin": "k", "priority": 12}, "catch_up": "z" }),
            &["/catch_up", "/cron", "/job/kin", "/job/kind", "/job/priority", "/queue", "/timezone"],
        ),
        (
            json!({ "cron": "* * * * *", "queue": "q", "job": {"kind": "k", "run_at": "2030-01-01T00:00:00Z",
                "expires_at": "2030-01-01T00:00:00Z", "id": "0192f7c6-5f2a-7000-8000-000000000000"}, "every": 5 }),
            &["/every", "/job/expires_at", "/job/id", "/job/run_at"],
        ),
    ];
    for (body, expected) in rows {
        let problem = server.put("/v1/schedules/s", body.clone()).await.problem(422, "validation-failed");
        assert_eq!(pointers(&problem), expected, "{body}");
    }
    let large =
        json!({ "cron": "* * * * *", "queue": "q", "job": {"kind": "k", "payload": "x".repeat(2 << 20)} });
    let reply = server.put("/v1/schedules/s", large).await;
    assert!([413, 422].contains(&reply.status), "{reply:?}");
    assert_eq!(pointers(&reply.json()), ["/job/payload"]);
    server.put("/v1/schedules/no%20name", nightly()).await.problem(422, "validation-failed");
    server.get("/v1/schedules/s").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_schedule_makes_a_job_for_each_tick() {
    let server = TestServer::start().await;
    let every_second = json!({ "cron": "* * * * * *", "queue": "q", "job": {"kind": "k", "payload": [1]} });
    server.put("/v1/schedules/s", every_second).await.is(200);
    let mut ticks = vec![];
    for _ in 0..2 {
        let claim = json!({ "queues": ["q"], "wait_ms": 60_000, "worker": "w" });
        let jobs = server.post("/v1/jobs/claim", claim).await.is(200);
        let job = &jobs["jobs"][0];
        assert_eq!((&job["kind"], &job["payload"]), (&json!("k"), &json!([1])));
        assert_eq!(job["meta"]["schedule"]["name"], "s");
        ticks.push(job["meta"]["schedule"]["tick"].as_str().unwrap().to_owned());
    }
    assert!(ticks[0] < ticks[1], "{ticks:?}");
    let view = server.get("/v1/schedules/s").await.is(200);
    assert!(view["fired"].as_u64().unwrap() >= 2, "{view}");
    assert!(view["last_run_at"].as_str().unwrap() >= ticks[1].as_str(), "{view}");
    assert!(view["next_run_at"].as_str() > view["last_run_at"].as_str(), "{view}");
    let metrics = server.on_admin("GET", "/metrics").send().await;
    let metrics = String::from_utf8(metrics.body).unwrap();
    assert!(metrics.contains("mainstay_schedules_fired_total"), "{metrics}");
    let health = server.on_admin("GET", "/livez?verbose").send().await.is(200);
    assert!(health.to_string().contains("scheduler"), "{health}");
}

#[tokio::test]
async fn a_schedule_is_triggered_paused_and_resumed() {
    let server = TestServer::start().await;
    let unknown = ["trigger", "pause", "resume"].map(|verb| format!("/v1/schedules/nightly/{verb}"));
    for path in &unknown {
        server.post(path, json!({})).await.problem(404, "not-found");
    }
    server.put("/v1/schedules/nightly", nightly()).await.is(200);
    let job = server.post("/v1/schedules/nightly/trigger", json!({})).await.is(200);
    assert_eq!(
        (&job["queue"], &job["kind"], &job["state"]),
        (&json!("chores"), &json!("clean"), &json!("available"))
    );
    assert_eq!(server.job(job["id"].as_str().unwrap()).await["meta"]["schedule"]["tick"], json!(null));
    // Under one key it is one job.
    let again = || server.request("POST", "/v1/schedules/nightly/trigger").header("idempotency-key", "x");
    let (first, second) = (again().send().await.is(200), again().send().await.is(200));
    assert_eq!(first["id"], second["id"]);
    assert_ne!(first["id"], job["id"]);

    assert_eq!(server.post("/v1/schedules/nightly/pause", json!({})).await.is(200)["paused"], true);
    let view = server.get("/v1/schedules/nightly").await.is(200);
    assert_eq!((&view["paused"], &view["next_run_at"]), (&json!(true), &json!(null)));
    assert_eq!(server.put("/v1/schedules/nightly", nightly()).await.is(200), json!({"next_run_at": null}));
    assert_eq!(server.post("/v1/schedules/nightly/resume", json!({})).await.is(200)["paused"], false);
    let view = server.get("/v1/schedules/nightly").await.is(200);
    assert!(view["next_run_at"].is_string() && view["paused"] == false, "{view}");
    server.post("/v1/schedules/nightly/pause", json!({ "x": 1 })).await.problem(422, "validation-failed");
}

#[tokio::test]
async fn schedules_survive_a_restart_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("m.db").display());
    let server = Setup::default().set("store", &store).start().await;
    server.put("/v1/schedules/nightly", nightly()).await.is(200);
    let before = server.get("/v1/schedules/nightly").await.is(200);
    server.stop().await;
    let server = Setup::default().set("store", &store).start().await;
    assert_eq!(server.get("/v1/schedules/nightly").await.is(200), before);
    // The service that owns it puts it at every start.
    let next = server.put("/v1/schedules/nightly", nightly()).await.is(200);
    assert_eq!(next["next_run_at"], before["next_run_at"]);
    assert_eq!(server.get("/v1/schedules/nightly").await.is(200), before);
    server.stop().await;
}

#[tokio::test]
async fn schedules_are_for_administrators_of_both_names() {
    let server = TestServer::start().await;
    let make = async |name: &str, scopes: &[&str], by: Option<&str>| {
        let request =
            server.on_admin("POST", "/admin/tokens").json(json!({ "name": name, "scopes": scopes }));
        let request = match by {
            Some(by) => request.header("authorization", &format!("Bearer {by}")),
            None => request,
        };
        request.send().await.is(201)["token"].as_str().unwrap().to_owned()
    };
    let root = make("root", &["admin"], None).await;
    let acme = make("acme", &["admin=acme"], Some(&root)).await;
    let reader = make("reader", &["read"], Some(&root)).await;
    let put = async |token: &str, name: &str, queue: &str| {
        let body = json!({ "cron": "0 3 * * *", "queue": queue, "job": {"kind": "k"} });
        let request = server.request("PUT", &format!("/v1/schedules/{name}")).json(body);
        request.header("authorization", &format!("Bearer {token}")).send().await.status
    };
    assert_eq!(put(&acme, "acme:a", "acme:q").await, 200);
    assert_eq!(put(&acme, "other", "acme:q").await, 403);
    assert_eq!(put(&acme, "acme:b", "other").await, 403, "a schedule makes jobs of its queue");
    assert_eq!(put(&reader, "x", "q").await, 403);
    assert_eq!(put(&root, "other", "q").await, 200);
    let as_reader = |method: &str, path: &str| {
        server.request(method, path).header("authorization", &format!("Bearer {reader}"))
    };
    assert_eq!(as_reader("GET", "/v1/schedules").send().await.is(200)["items"].as_array().unwrap().len(), 2);
    assert_eq!(as_reader("GET", "/v1/workers").send().await.status, 200);
    for (method, path) in [
        ("DELETE", "/v1/schedules/other"),
        ("POST", "/v1/schedules/other/trigger"),
        ("POST", "/v1/schedules/other/pause"),
        ("POST", "/v1/schedules/other/resume"),
    ] {
        assert_eq!(as_reader(method, path).send().await.status, 403, "{method} {path}");
    }
    let own = server.request("GET", "/v1/schedules").header("authorization", &format!("Bearer {acme}"));
    let own = own.send().await.is(200);
    assert_eq!(own["items"].as_array().unwrap().len(), 1, "{own}");
}

#[tokio::test]
async fn workers_are_listed_by_what_they_claim() {
    let server = TestServer::start().await;
    assert_eq!(server.get("/v1/workers").await.is(200)["items"], json!([]));
    server.enqueue("q", json!({})).await;
    let claim = json!({ "queues": ["q", "r"], "worker": "w-1", "max": 5 });
    let jobs = server.post("/v1/jobs/claim", claim).await.is(200);
    server.post("/v1/jobs/claim", json!({ "queues": ["r"], "worker": "idle" })).await.is(200);
    let list = server.get("/v1/workers").await.is(200);
    assert_eq!((&list["items"][0]["name"], &list["items"][0]["running"]), (&json!("idle"), &json!(0)));
    let worker = &list["items"][1];
    assert_eq!(
        (&worker["name"], &worker["queues"], &worker["running"]),
        (&json!("w-1"), &json!(["q", "r"]), &json!(1))
    );
    assert!(worker["last_seen"].is_string());
    let (id, lease) = (jobs["jobs"][0]["id"].as_str().unwrap(), &jobs["jobs"][0]["lease"]);
    server.post(&format!("/v1/jobs/{id}/complete"), json!({ "lease": lease })).await.is(200);
    assert_eq!(server.get("/v1/workers").await.is(200)["items"][1]["running"], 0);
    let totals = &server.get("/v1/queues/q").await.is(200)["totals"];
    assert_eq!((&totals["enqueued"], &totals["completed"]), (&json!(1), &json!(1)));
}

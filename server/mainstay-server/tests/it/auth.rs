//! Who may do what.

use serde_json::{Value, json};

use crate::client::Request;
use crate::server::{Setup, TestServer};

/// Makes a token; the first one without one, the others with `by`.
async fn token(server: &TestServer, by: Option<&str>, name: &str, scopes: &[&str]) -> String {
    let request = server.on_admin("POST", "/admin/tokens").json(json!({ "name": name, "scopes": scopes }));
    let request = by.iter().fold(request, |request, by| bearer(request, by));
    request.send().await.is(201)["token"].as_str().unwrap().to_owned()
}

fn bearer(request: Request, token: &str) -> Request {
    request.header("authorization", &format!("Bearer {token}"))
}

#[tokio::test]
async fn a_token_is_needed_as_soon_as_one_exists_and_no_longer_when_none_does() {
    let server = TestServer::start().await;
    server.get("/v1/store").await.is(200);
    let admin = token(&server, None, "root", &["admin"]).await;
    let reply = server.get("/v1/store").await;
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    reply.problem(401, "unauthenticated");
    for wrong in ["Bearer nonsense", "Basic cm9vdDp4", "Bearer", &format!("Token {admin}")] {
        let request = server.request("GET", "/v1/store").header("authorization", wrong);
        request.send().await.problem(401, "unauthenticated");
    }
    bearer(server.request("GET", "/v1/store"), &admin).send().await.is(200);
    for path in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(server.get(path).await.status, 200, "probes need none");
        assert_eq!(server.on_admin("GET", path).send().await.status, 200);
    }
    for (method, path) in
        [("GET", "/metrics"), ("GET", "/admin/config"), ("POST", "/admin/drain"), ("GET", "/admin/x")]
    {
        server.on_admin(method, path).send().await.problem(401, "unauthenticated");
    }
    assert_eq!(bearer(server.on_admin("GET", "/metrics"), &admin).send().await.status, 200);
    assert_eq!(bearer(server.on_admin("DELETE", "/admin/tokens/root"), &admin).send().await.status, 204);
    server.get("/v1/store").await.is(200);
}

#[tokio::test]
async fn without_the_last_token_nobody_gets_in_where_other_machines_can_reach() {
    for listener in ["listen", "admin_listen"] {
        let dir = tempfile::tempdir().unwrap();
        let store = format!("sqlite:{}", dir.path().join("m.db").display());
        let server = Setup::default().set("store", &store).start().await;
        let admin = token(&server, None, "admin", &["admin"]).await;
        server.stop().await;

        let mut server = Setup::default().set("store", &store).set(listener, "0.0.0.0:0").start().await;
        for address in [&mut server.api, &mut server.admin] {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        server.get("/v1/store").await.problem(401, "unauthenticated");
        let revoke = bearer(server.on_admin("DELETE", "/admin/tokens/admin"), &admin);
        assert_eq!(revoke.send().await.status, 204);
        for request in [server.request("GET", "/v1/store"), server.on_admin("GET", "/admin/tokens")] {
            let problem = request.send().await.problem(401, "unauthenticated");
            assert!(problem.to_string().contains("mainstay token create"), "{listener}: {problem}");
        }
        assert_eq!(server.get("/readyz").await.status, 200, "probes need none");
        server.stop().await;
    }
}

#[tokio::test]
async fn scopes_and_prefixes_decide() {
    let server = TestServer::start().await;
    let root = token(&server, None, "root", &["admin"]).await;
    let mut tokens = vec![("admin", root.clone())];
    for scope in [
        "jobs:produce",
        "jobs:work",
        "locks:use",
        "read",
        "jobs:produce=mail",
        "jobs:work=mail",
        "locks:use=mail",
        "read=mail",
        "admin=mail",
    ] {
        let name = scope.replace(['=', ':'], ".");
        tokens.push((scope, token(&server, Some(&root), &name, &[scope]).await));
    }
    let make = |queue: &str| {
        let path = format!("/v1/queues/{queue}/jobs");
        bearer(server.request("POST", &path), &root).json(json!({ "kind": "k" }))
    };
    let mail = make("mail.x").send().await.is(201)["id"].as_str().unwrap().to_owned();
    let report = make("report").send().await.is(201)["id"].as_str().unwrap().to_owned();
    let lost = json!({ "lease": "x" });
    let all_of = |kind: &str| vec!["admin".to_owned(), kind.to_owned()];
    let on_mail =
        |kind: &str| vec!["admin".into(), "admin=mail".into(), kind.to_owned(), format!("{kind}=mail")];
    let rows: Vec<(&str, String, Value, Vec<String>)> = vec![
        ("POST", "/v1/queues/mail.x/jobs".into(), json!({ "kind": "k" }), on_mail("jobs:produce")),
        ("POST", "/v1/queues/report/jobs".into(), json!({ "kind": "k" }), all_of("jobs:produce")),
        (
            "POST",
            "/v1/queues/report/jobs/bulk".into(),
            json!({ "jobs": [{"kind": "k"}] }),
            all_of("jobs:produce"),
        ),
        ("POST", "/v1/jobs/claim".into(), json!({ "queues": ["mail.none"] }), on_mail("jobs:work")),
        ("POST", "/v1/jobs/claim".into(), json!({ "queues": ["mail.none", "none"] }), all_of("jobs:work")),
        ("POST", format!("/v1/jobs/{mail}/complete"), lost.clone(), on_mail("jobs:work")),
        ("POST", format!("/v1/jobs/{report}/extend"), lost.clone(), all_of("jobs:work")),
        ("POST", format!("/v1/jobs/{mail}/retry"), json!({}), on_mail("jobs:produce")),
        ("POST", format!("/v1/jobs/{report}/retry"), json!({}), all_of("jobs:produce")),
        ("POST", "/v1/locks/mail.x/acquire".into(), json!({ "owner": "o" }), on_mail("locks:use")),
        ("POST", "/v1/locks/report/acquire".into(), json!({ "owner": "o" }), all_of("locks:use")),
        ("POST", "/v1/locks/mail.x/renew".into(), lost.clone(), on_mail("locks:use")),
        ("POST", "/v1/locks/report/release".into(), lost.clone(), all_of("locks:use")),
        ("POST", "/v1/locks/mail.x/check".into(), json!({ "token": 1 }), on_mail("locks:use")),
        ("GET", "/v1/locks/report".into(), Value::Null, all_of("read")),
        ("GET", "/v1/locks".into(), Value::Null, on_mail("read")),
        ("DELETE", "/v1/locks/mail.none".into(), Value::Null, vec!["admin".into(), "admin=mail".into()]),
        (
            "POST",
            "/v1/commit".into(),
            json!({ "require": [{"lock": "mail.x", "token": 1}],
                "ops": [{"op": "release_lock", "name": "mail.x", "lease": "x"}] }),
            on_mail("locks:use"),
        ),
        ("GET", format!("/v1/jobs/{mail}"), Value::Null, on_mail("read")),
        ("GET", format!("/v1/jobs/{report}/result"), Value::Null, all_of("read")),
        ("GET", "/v1/jobs?queue=mail.x".into(), Value::Null, on_mail("read")),
        ("GET", "/v1/jobs?queue=report".into(), Value::Null, all_of("read")),
        ("GET", "/v1/jobs".into(), Value::Null, on_mail("read")),
        ("GET", "/v1/queues/report".into(), Value::Null, all_of("read")),
        ("GET", "/v1/queues/mail.x/dead".into(), Value::Null, on_mail("read")),
        ("GET", "/v1/store".into(), Value::Null, on_mail("read")),
        ("PUT", "/v1/queues/mail.x".into(), json!({}), vec!["admin".into(), "admin=mail".into()]),
        ("POST", "/v1/queues/report/pause".into(), json!({}), vec!["admin".into()]),
        (
            "POST",
            "/v1/queues/mail.x/dead/requeue".into(),
            json!({}),
            vec!["admin".into(), "admin=mail".into()],
        ),
        (
            "POST",
            "/v1/commit".into(),
            json!({ "ops": [{"op": "enqueue", "queue": "mail.x", "kind": "k"}] }),
            on_mail("jobs:produce"),
        ),
        (
            "POST",
            "/v1/commit".into(),
            json!({ "ops": [{"op": "enqueue", "queue": "mail.x", "kind": "k"}, {"op": "complete", "id": mail, "lease": "x"}] }),
            vec!["admin".into(), "admin=mail".into()],
        ),
    ];
    for (method, path, body, allowed) in rows {
        for (scope, token) in &tokens {
            let request = bearer(server.request(method, &path), token);
            let request = if body.is_null() { request } else { request.json(body.clone()) };
            let reply = request.send().await;
            let may = allowed.iter().any(|allowed| allowed == scope);
            assert_eq!(reply.status != 403, may, "{method} {path} with {scope}: {reply:?}");
            if !may {
                reply.problem(403, "forbidden");
            }
        }
    }
    // The whole server is nobody's prefix.
    let scoped = |scope: &str| tokens.iter().find(|(known, _)| *known == scope).unwrap().1.clone();
    let admin = |path: &str, token: &str| bearer(server.on_admin("GET", path), token).send();
    admin("/admin/tokens", &scoped("admin=mail")).await.problem(403, "forbidden");
    admin("/admin/config", &scoped("read")).await.problem(403, "forbidden");
    assert_eq!(admin("/metrics", &scoped("read")).await.status, 200);
    admin("/metrics", &scoped("jobs:work")).await.problem(403, "forbidden");
}

#[tokio::test]
async fn lists_show_what_a_prefix_may_see() {
    let server = TestServer::start().await;
    server.enqueue("mail.x", json!({})).await;
    server.enqueue("report", json!({})).await;
    let root = token(&server, None, "root", &["admin"]).await;
    let mail = token(&server, Some(&root), "mail", &["read=mail"]).await;
    let names = |list: &Value, field: &str| -> Vec<String> {
        let items = list["items"].as_array().unwrap();
        items.iter().map(|item| item[field].as_str().unwrap().to_owned()).collect()
    };
    for lock in ["mail.x", "report"] {
        let acquire = server.request("POST", &format!("/v1/locks/{lock}/acquire"));
        bearer(acquire, &root).json(json!({ "owner": "o" })).send().await.is(200);
    }
    let locks = bearer(server.request("GET", "/v1/locks"), &mail).send().await.is(200);
    assert_eq!(names(&locks, "name"), ["mail.x"]);
    let queues = bearer(server.request("GET", "/v1/queues"), &mail).send().await.is(200);
    assert_eq!(names(&queues, "name"), ["mail.x"]);
    let jobs = bearer(server.request("GET", "/v1/jobs"), &mail).send().await.is(200);
    assert_eq!(names(&jobs, "queue"), ["mail.x"]);
}

#[tokio::test]
async fn an_item_on_a_foreign_queue_does_not_spoil_the_others() {
    let server = TestServer::start().await;
    let (mut items, mut leases) = (Vec::new(), Vec::new());
    for queue in ["mail", "report"] {
        server.enqueue(queue, json!({})).await;
        let (id, lease) = server.claim_one(queue).await;
        items.push(json!({ "id": id, "lease": lease, "outcome": "complete" }));
        leases.push(lease);
    }
    let root = token(&server, None, "root", &["admin"]).await;
    let mail = token(&server, Some(&root), "mail", &["jobs:work=mail"]).await;
    let settle = bearer(server.request("POST", "/v1/jobs/settle"), &mail).json(json!({ "items": items }));
    let settled = settle.send().await.is(200);
    assert_eq!(settled["results"][0]["state"], "completed");
    assert_eq!(settled["results"][1]["error"]["code"], "forbidden");
    let leases = json!([{"name": "report", "lease": "x"}, {"name": "mail", "lease": "x"}]);
    let uses = token(&server, Some(&root), "uses", &["locks:use=mail"]).await;
    let renew = bearer(server.request("POST", "/v1/locks/renew"), &uses).json(json!({ "leases": leases }));
    let renewed = renew.send().await.is(200);
    assert_eq!(renewed["results"][0]["error"]["code"], "forbidden");
    assert_eq!(renewed["results"][1]["error"]["code"], "lock-lost");
}

#[tokio::test]
async fn pages_of_foreign_origins_may_not_call() {
    let server = Setup::default().set("allowed_origins", "https://ops.example.org").start().await;
    let from = |origin: &str| {
        server.request("POST", "/v1/queues/q/jobs").header("origin", origin).json(json!({ "kind": "k" }))
    };
    for foreign in ["null", "http://evil.example", &format!("https://{}", server.api)] {
        from(foreign).send().await.problem(403, "forbidden");
    }
    from(&format!("http://{}", server.api)).send().await.is(201);
    let reply = from("https://ops.example.org").send().await;
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://ops.example.org"));
    reply.is(201);
    let preflight =
        server.request("OPTIONS", "/v1/queues/q/jobs").header("origin", "https://ops.example.org");
    assert!(preflight.send().await.header("access-control-allow-headers").unwrap().contains("authorization"));
    let foreign = server.request("OPTIONS", "/v1/queues/q/jobs").header("origin", "http://evil.example");
    assert_eq!(foreign.send().await.header("access-control-allow-origin"), None);
    for path in ["/livez", "/readyz", "/openapi.json", "/docs", "/ui/"] {
        let from = |origin: &str| server.request("GET", path).header("origin", origin).send();
        from("http://evil.example").await.problem(403, "forbidden");
        assert_eq!(from(&format!("http://{}", server.api)).await.status, 200, "{path}");
    }
    let admin = server.on_admin("POST", "/admin/drain").header("origin", "http://evil.example");
    admin.send().await.problem(403, "forbidden");
}

#[tokio::test]
async fn tokens_of_the_configuration_are_known_by_their_hash() {
    let hash: String =
        mainstay_server::auth::hash("s3cret").iter().map(|byte| format!("{byte:02x}")).collect();
    let tokens = format!("[{{ name = \"ci\", hash = \"{hash}\", scopes = [\"jobs:produce=ci.\"] }}]");
    let server = Setup::default().set("tokens", tokens).start().await;
    let make = |queue: &str| {
        let request =
            server.request("POST", &format!("/v1/queues/{queue}/jobs")).json(json!({ "kind": "k" }));
        bearer(request, "s3cret").send()
    };
    make("ci.build").await.is(201);
    make("mail").await.problem(403, "forbidden");
    server.get("/v1/store").await.problem(401, "unauthenticated");
}

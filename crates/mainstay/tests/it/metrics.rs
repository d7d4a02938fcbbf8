//! What `/metrics` shows of a running app, and in which words.

use axum::Router;
use axum::routing::get as route;
use mainstay::Weight;

use crate::harness::{Raw, get, with_boot, with_router};

#[tokio::test]
async fn process_runtime_build_health_and_store_are_there_without_a_line_of_code() {
    with_boot(
        &[("lame_duck_ms", "0")],
        async |b| {
            let store = b.store("memory:").await.unwrap();
            store.pause("q".parse().unwrap()).await.unwrap();
            b.check("well", Weight::Degraded, || async { Ok::<_, mainstay::Error>(()) });
            b.observe(|| metrics::gauge!("shop.carts").set(7.0));
            b.http("127.0.0.1:0", Router::new())
        },
        async |running| {
            let text = get(running.admin, "/metrics").await.body;
            for start in [
                "process_cpu_seconds_total ",
                "process_resident_memory_bytes ",
                "process_open_fds ",
                "process_start_time_seconds ",
                "mainstay_runtime_workers ",
                "mainstay_runtime_tasks ",
                "mainstay_runtime_queue_depth ",
                "mainstay_runtime_busy_seconds_total ",
                "mainstay_build_info{name=\"test\",rust_version=\"1.",
                "mainstay_health_ready 1",
                "mainstay_health_live 1",
                "mainstay_health_up{check=\"well\"} 1",
                "mainstay_health_loop_age_seconds{loop=\"runtime\"} ",
                "mainstay_store_commit_duration_seconds_count{outcome=\"ok\"} ",
                "shop_carts 7",
            ] {
                assert!(text.lines().any(|line| line.starts_with(start)), "{start}: {text}");
            }
        },
    )
    .await;
}

#[tokio::test]
async fn an_observer_that_panics_costs_its_own_figures_only() {
    with_boot(
        &[("lame_duck_ms", "0")],
        async |b| {
            b.observe(|| panic!("no pool"));
            b.observe(|| metrics::gauge!("shop.after_the_panic").increment(1.0));
            b.http("127.0.0.1:0", Router::new())
        },
        async |running| {
            for time in 1..=2 {
                let answer = get(running.admin, "/metrics").await;
                assert_eq!(answer.status, 200, "{}", answer.body);
                let line = format!("shop_after_the_panic {time}");
                assert!(answer.body.lines().any(|known| known == line), "{}", answer.body);
            }
        },
    )
    .await;
}

#[tokio::test]
async fn every_metric_of_the_chassis_says_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.db");
    let boot = async |b: &mut mainstay::Boot<()>| {
        let store =
            if cfg!(feature = "sqlite") { format!("sqlite:{}", path.display()) } else { "memory:".into() };
        b.store(&store).await.unwrap();
        b.http("127.0.0.1:0", Router::new())
    };
    with_boot(&[("lame_duck_ms", "0")], boot, async |running| {
        get(running.api, "/").await;
        let text = get(running.admin, "/metrics").await.body;
        assert!(cfg!(not(feature = "sqlite")) || text.contains("\nmainstay_store_syncs_total "), "{text}");
        let mut described = 0;
        for family in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
            if ["mainstay_", "http_", "process_"].iter().any(|prefix| family.starts_with(prefix)) {
                assert!(text.contains(&format!("# HELP {family} ")), "{family} has no description");
                described += 1;
            }
        }
        assert!(described > 20, "{text}");
    })
    .await;
}

#[tokio::test]
async fn a_scraper_that_asks_for_openmetrics_gets_it() {
    with_router(&[("lame_duck_ms", "0")], Router::new(), async |running| {
        let mut client = Raw::open(running.admin).await;
        let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2";
        client.send(&format!("GET /metrics HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\n\r\n")).await;
        let open = client.answer().await.unwrap();
        assert_eq!(
            open.header("content-type"),
            Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
        );
        assert!(open.body.ends_with("# EOF\n"), "{}", open.body);
        let plain = get(running.admin, "/metrics").await;
        assert_eq!(plain.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        assert!(!plain.body.contains("# EOF"));
    })
    .await;
}

#[tokio::test]
async fn requests_are_labelled_by_the_conventions() {
    let router = Router::new()
        .route("/measured/{id}", route(|| async { "fine" }))
        .route("/measured/fails", route(|| async { axum::http::StatusCode::BAD_GATEWAY }))
        .route(
            "/measured/panics",
            route(async || {
                if true {
                    panic!("no luck")
                }
            }),
        );
    with_router(&[("lame_duck_ms", "0")], router, async |running| {
        for request in ["GET /measured/7", "GET /measured/fails", "GET /measured/panics", "BREW /measured/7"] {
            let mut client = Raw::open(running.api).await;
            client.send(&format!("{request} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
            client.answer().await.unwrap();
        }
        let text = get(running.admin, "/metrics").await.body;
        let has = |labels: &str| {
            let line = format!("http_server_request_duration_seconds_count{{{labels}}} 1");
            assert!(text.lines().any(|is| is == line), "{line}: {text}");
        };
        has(r#"http_request_method="GET",http_response_status_code="200",http_route="/measured/{id}",outcome="ok",url_scheme="http""#);
        has(r#"error_type="502",http_request_method="GET",http_response_status_code="502",http_route="/measured/fails",outcome="server_error",url_scheme="http""#);
        has(r#"error_type="panicked",http_request_method="GET",http_response_status_code="500",http_route="/measured/panics",outcome="panicked",url_scheme="http""#);
        has(r#"http_request_method="_OTHER",http_response_status_code="405",http_route="/measured/{id}",outcome="client_error",url_scheme="http""#);
        let bounds: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("http_server_request_duration_seconds_bucket{error_type=\"502\""))
            .filter(|line| line.contains("http_route=\"/measured/fails\""))
            .filter_map(|line| line.split("le=\"").nth(1)?.split('"').next())
            .collect();
        let fixed = ["0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75", "1.0", "2.5", "5.0", "7.5", "10.0", "+Inf"];
        assert_eq!(bounds, fixed);
    })
    .await;
}

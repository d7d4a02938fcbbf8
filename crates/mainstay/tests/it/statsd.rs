//! StatsD over real sockets, from real processes.

use std::collections::BTreeSet;

use rustix::process::Signal;
use tokio::net::{UdpSocket, UnixDatagram};
use tokio::time::timeout;

use crate::harness::{PATIENCE, get};
use crate::process::{Exit, Service};

const QUICK: [(&str, &str); 3] =
    [("SERVICE_LAME_DUCK_MS", "0"), ("SERVICE_GRACE_MS", "8000"), ("SERVICE_STATSD_INTERVAL_MS", "100")];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    QUICK.iter().copied().chain(more.iter().copied()).collect()
}

/// Everything that has been received, until `wanted` holds of it.
async fn lines(mut receive: impl AsyncFnMut() -> Vec<u8>, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
    let mut all = Vec::new();
    let reading = async {
        while !wanted(&all) {
            let packet = String::from_utf8(receive().await).expect("text");
            assert!(!packet.ends_with('\n') && !packet.is_empty(), "{packet:?}");
            all.extend(packet.lines().map(str::to_owned));
        }
    };
    timeout(PATIENCE, reading).await.expect("it comes in time");
    all
}

fn drained(exit: &Exit) {
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(exit.stderr.contains("everything drained"), "{}", exit.stderr);
}

#[tokio::test]
async fn dogstatsd_over_udp_has_tags_shares_packets_and_ends_with_the_last_figures() {
    let sink = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let to = format!("udp://{}", sink.local_addr().unwrap());
    let mut service = Service::spawn(&with(&[
        ("SERVICE_STATSD", &to),
        ("SERVICE_STATSD_PREFIX", "shop"),
        ("SERVICE_STATSD_TAGS", "env:test"),
        // So that what is asked for below can only come at the end.
        ("SERVICE_STATSD_INTERVAL_MS", "600000"),
    ]));
    let (api, _) = service.up().await;
    for _ in 0..3 {
        get(api, "/").await;
    }
    service.signal(Signal::TERM);
    let mut sizes = Vec::new();
    let receive = async || {
        let mut packet = vec![0; 65_536];
        let length = sink.recv(&mut packet).await.unwrap();
        packet.truncate(length);
        sizes.push(length);
        packet
    };
    let ended = |all: &[String]| all.iter().any(|line| line.starts_with("shop.process.threads:"));
    let all = lines(receive, ended).await;
    drained(&service.exit().await);
    let tags = "env:test,http.request.method:GET,http.response.status_code:200,http.route:/,outcome:ok,url.scheme:http";
    let requests: Vec<_> = all
        .iter()
        .filter(|line| line.starts_with("shop.http.server.request.duration:") && line.contains(tags))
        .collect();
    let counted: f64 = requests
        .iter()
        .map(|line| {
            assert!(line.contains("|h|"), "{line}");
            line.split("|@")
                .nth(1)
                .map_or(1.0, |rate| 1.0 / rate.split('|').next().unwrap().parse::<f64>().unwrap())
        })
        .sum();
    assert_eq!(counted.round(), 3.0, "{requests:?}");
    let live = "shop.mainstay.health.live:1|g|#env:test".to_owned();
    assert!(all.contains(&live), "{all:?}");
    assert!(sizes.iter().all(|size| *size <= 1432), "{sizes:?}");
    assert!(sizes.len() * 4 < all.len(), "{} lines in {} packets", all.len(), sizes.len());
}

#[tokio::test]
async fn plain_statsd_over_a_unix_socket_comes_again_and_again_and_survives_its_agent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("statsd.sock");
    let to = format!("unix://{}", path.display());
    let mut sink = UnixDatagram::bind(&path).unwrap();
    let mut service = Service::spawn(&with(&[("SERVICE_STATSD", &to), ("SERVICE_STATSD_FORMAT", "plain")]));
    let (api, _) = service.up().await;
    get(api, "/").await;
    let receive = async || {
        let mut packet = vec![0; 65_536];
        let length = sink.recv(&mut packet).await.unwrap();
        packet.truncate(length);
        packet
    };
    let name = "http.server.request.duration.http_request_method.GET.http_response_status_code.200.http_route._.outcome.ok.url_scheme.http:";
    let timed = |all: &[String]| all.iter().any(|line| line.starts_with(name) && line.ends_with("|ms"));
    let all = lines(receive, timed).await;
    assert!(!all.iter().any(|line| line.contains('#')), "plain has no tags");

    // The agent is restarted: the service says so once, and finds it again.
    drop(sink);
    std::fs::remove_file(&path).unwrap();
    service.logs("StatsD cannot be reached").await;
    get(api, "/").await;
    sink = UnixDatagram::bind(&path).unwrap();
    service.logs("StatsD can be reached again").await;
    let receive = async || {
        let mut packet = vec![0; 65_536];
        let length = sink.recv(&mut packet).await.unwrap();
        packet.truncate(length);
        packet
    };
    lines(receive, timed).await;
    service.signal(Signal::TERM);
    let exit = service.exit().await;
    drained(&exit);
    let warnings = exit.stderr.lines().filter(|line| line.contains("StatsD cannot be reached")).count();
    assert_eq!(warnings, 1, "{}", exit.stderr);
}

/// The row of the failure table: nobody listens, there is no such socket, the sink does not read, the name is none.
#[tokio::test]
async fn a_sink_that_cannot_be_reached_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let deaf = dir.path().join("deaf.sock");
    let _deaf = UnixDatagram::bind(&deaf).unwrap();
    let refused = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for to in [
        format!("udp://{refused}"),
        format!("unix://{}", dir.path().join("gone.sock").display()),
        format!("unix://{}", deaf.display()),
        "udp://no-such-host.invalid:8125".to_owned(),
    ] {
        let mut service = Service::spawn(&with(&[("SERVICE_STATSD", &to), ("SERVICE_LOG_LEVEL", "info")]));
        let (api, admin) = service.up().await;
        service.logs("StatsD cannot be reached").await;
        assert_eq!(get(api, "/").await.status, 200, "{to}");
        for probe in ["/livez", "/readyz"] {
            assert_eq!(get(admin, probe).await.status, 200, "{to}");
        }
        assert!(get(admin, "/metrics").await.body.contains("http_server_request_duration_seconds_count"));
        service.signal(Signal::TERM);
        let exit = service.exit().await;
        drained(&exit);
        assert_eq!(exit.stderr.matches("StatsD cannot be reached").count(), 1, "{to}: {}", exit.stderr);
    }
}

#[tokio::test]
async fn what_is_lost_is_counted() {
    let refused = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let to = format!("udp://{refused}");
    let mut service = Service::spawn(&with(&[("SERVICE_STATSD", &to)]));
    let (_, admin) = service.up().await;
    service.logs("StatsD cannot be reached").await;
    let counters: BTreeSet<String> = loop {
        let text = get(admin, "/metrics").await.body;
        let lines = text.lines().filter(|line| line.starts_with("mainstay_statsd_"));
        let counters: BTreeSet<_> = lines.map(str::to_owned).collect();
        if counters
            .iter()
            .any(|line| line.starts_with("mainstay_statsd_dropped_total ") && !line.ends_with(" 0"))
        {
            break counters;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(counters.len(), 2, "{counters:?}");
    service.signal(Signal::TERM);
    drained(&service.exit().await);
}

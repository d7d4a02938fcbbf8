//! The server's own configuration keys; the chassis' stand in [`mainstay::config::Settings`].

use std::net::IpAddr;

use mainstay::config::{Loader, Problems, Settings};
use mainstay::core::engine::MAX_COMMIT_OPS;
use serde::{Deserialize, Serialize};

use crate::auth::ConfiguredToken;

/// What can be configured, beside the chassis' keys (`admin_listen`, `grace_ms`, `log_level`, …).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where everything is kept: `memory:`, `sqlite:PATH` or `postgres://…`. Defaults to `sqlite:./mainstay.db`.
    pub store: String,
    /// Address of the API. Defaults to `127.0.0.1:6246`; another than a loopback address needs a token.
    pub listen: String,
    /// Whether to end, in good order, when the process that started the server has gone: for tests, whose own end may
    /// come without a word. Defaults to false.
    pub with_parent: bool,
    /// A file that receives the bound addresses, written whole. Defaults to none.
    pub addr_file: Option<String>,
    /// Web origins that may call from a browser, such as `https://ops.example.org`. Defaults to none: a page may only
    /// call the server it came from.
    pub allowed_origins: Vec<String>,
    /// How many requests a second one caller (a token; without one, an address) may make. Defaults to no limit.
    pub caller_rate_per_second: Option<f64>,
    /// How many requests a caller that was quiet may make at once. Defaults to twice the rate, at least 1.
    pub caller_burst: Option<u64>,
    /// Access tokens beside those of the store; what a `memory:` store has no other way to get. Defaults to none.
    pub tokens: Vec<ConfiguredToken>,
    /// How large requests may be.
    pub limits: LimitsConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            store: "sqlite:./mainstay.db".to_owned(),
            listen: "127.0.0.1:6246".to_owned(),
            with_parent: false,
            addr_file: None,
            allowed_origins: Vec::new(),
            caller_rate_per_second: None,
            caller_burst: None,
            tokens: Vec::new(),
            limits: LimitsConfig::default(),
        }
    }
}

/// How large requests may be; the defaults are the wire contract's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// A job's payload, in bytes. Defaults to 1 MiB.
    pub payload_bytes: usize,
    /// A job's result, in bytes. Defaults to 1 MiB.
    pub result_bytes: usize,
    /// The data of an event, in bytes. Defaults to 1 MiB.
    pub event_bytes: usize,
    /// A job's `meta`, in bytes. Defaults to 4 KiB.
    pub meta_bytes: usize,
    /// A backtrace, in bytes. Defaults to 16 KiB.
    pub backtrace_bytes: usize,
    /// Tags of one job. Defaults to 16.
    pub tags: usize,
    /// One tag, in bytes. Defaults to 64.
    pub tag_bytes: usize,
    /// Jobs of one bulk enqueue. Defaults to 10,000, the most that there can be.
    pub bulk: usize,
    /// Items of one settle. Defaults to 1,000.
    pub batch: usize,
    /// Operations of one commit. Defaults to 1,000; at most 10,000.
    pub commit: usize,
    /// Jobs of one claim. Defaults to 1,000.
    pub claim: u32,
    /// Bytes of the jobs of one claim. Defaults to 16 MiB.
    pub claim_bytes: u64,
    /// The shortest lease (`lease_ms`, `ack_wait_ms`), in milliseconds. Defaults to 1 s.
    pub lease_min_ms: u64,
    /// The longest lease, in milliseconds. Defaults to 24 h, the most that there can be.
    pub lease_max_ms: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let wire = mainstay_api::Limits::default();
        Self {
            payload_bytes: wire.payload_bytes,
            result_bytes: wire.result_bytes,
            event_bytes: wire.event_bytes,
            meta_bytes: wire.meta_bytes,
            backtrace_bytes: wire.backtrace_bytes,
            tags: wire.tags,
            tag_bytes: wire.tag_bytes,
            bulk: wire.bulk,
            batch: wire.batch,
            commit: wire.commit,
            claim: wire.claim,
            claim_bytes: 16 << 20,
            lease_min_ms: wire.lease_min_ms,
            lease_max_ms: wire.lease_max_ms,
        }
    }
}

impl LimitsConfig {
    /// As the readers of requests take them.
    pub fn for_reading(&self) -> mainstay_api::Limits {
        mainstay_api::Limits {
            payload_bytes: self.payload_bytes,
            result_bytes: self.result_bytes,
            event_bytes: self.event_bytes,
            meta_bytes: self.meta_bytes,
            backtrace_bytes: self.backtrace_bytes,
            tags: self.tags,
            tag_bytes: self.tag_bytes,
            bulk: self.bulk,
            batch: self.batch,
            commit: self.commit,
            claim: self.claim,
            lease_min_ms: self.lease_min_ms,
            lease_max_ms: self.lease_max_ms,
            ..mainstay_api::Limits::default()
        }
    }
}

/// A loader that knows the server's defaults and rules.
pub fn loader() -> Loader<Config> {
    let foreign = ["MAINSTAY_AUTH_TOKEN", "MAINSTAY_URL", "MAINSTAY_ADMIN_URL"];
    // A line for each claim of each worker says less than it costs.
    let loader = Loader::new("mainstay")
        .default_value("admin_listen", "127.0.0.1:6247")
        .default_value("access_log", "errors")
        .rule(check);
    foreign.into_iter().fold(loader, |loader, name| loader.foreign_variable(name))
}

/// A server keeps things itself: a store that is a server is for services.
fn check_store(url: &str) -> Result<(), String> {
    const FORMS: &str = "memory:, sqlite:PATH and postgres://…";
    match url.split_once(':').map_or("", |(scheme, _)| scheme) {
        "http" | "https" => Err(format!(
            "a server cannot keep its things at another server; the forms are {FORMS} (a service reaches a server by \
             `b.store(\"http://HOST:PORT\")`, the command line by --server)"
        )),
        "redis" | "rediss" | "nats" => mainstay::store::check_url(url),
        _ => mainstay::store::check_url(url)
            .map_err(|_| format!("`{url}` is not a store URL; the forms are {FORMS}")),
    }
}

fn check(config: &Config, settings: &Settings, problems: &mut Problems) {
    if let Err(detail) = check_store(&config.store) {
        problems.add("store", detail);
    }
    if !config.listen.contains(':') {
        problems.add("listen", "must be HOST:PORT or fd:NAME");
    }
    if is_taken_by(&config.listen, &settings.admin_listen) {
        let detail = |other| format!("has the address of {other}: each needs one of its own");
        problems.add("listen", detail("admin_listen"));
        problems.add("admin_listen", detail("listen"));
    }
    for (index, origin) in config.allowed_origins.iter().enumerate() {
        if !crate::auth::is_origin(origin) {
            problems
                .add("allowed_origins", format!("entry {index} must be an origin such as https://host:1"));
        }
    }
    match config.caller_rate_per_second {
        Some(rate) if !(rate > 0.0 && rate <= 1e9) => {
            problems.add("caller_rate_per_second", "must be more than 0 and at most 1000000000");
        }
        None if config.caller_burst.is_some() => {
            problems.add("caller_burst", "means nothing without caller_rate_per_second");
        }
        _ if config.caller_burst == Some(0) => problems.add("caller_burst", "must be at least 1"),
        _ => {}
    }
    for (index, token) in config.tokens.iter().enumerate() {
        token.check(|detail| problems.add("tokens", format!("entry {index}: {detail}")));
        if config.tokens[..index].iter().any(|other| other.name == token.name) {
            problems.add("tokens", format!("entry {index}: the name `{}` is there twice", token.name));
        }
    }
    let limits = &config.limits;
    let counts = [
        ("limits.bulk", limits.bulk as u64),
        ("limits.batch", limits.batch as u64),
        ("limits.commit", limits.commit as u64),
        ("limits.claim", u64::from(limits.claim)),
        ("limits.claim_bytes", limits.claim_bytes),
        ("limits.payload_bytes", limits.payload_bytes as u64),
        ("limits.event_bytes", limits.event_bytes as u64),
        ("limits.lease_min_ms", limits.lease_min_ms),
    ];
    for (key, value) in counts {
        if value == 0 {
            problems.add(key, "must be at least 1");
        }
    }
    // What no store takes.
    for (key, value) in [("limits.bulk", limits.bulk), ("limits.commit", limits.commit)] {
        if value > MAX_COMMIT_OPS as usize {
            problems.add(key, format!("must be at most {MAX_COMMIT_OPS}"));
        }
    }
    let longest = mainstay_api::Limits::default().lease_max_ms;
    if !(limits.lease_min_ms..=longest).contains(&limits.lease_max_ms) {
        problems.add("limits.lease_max_ms", format!("must be from limits.lease_min_ms to {longest}"));
    }
}

/// Whether somebody who listens at one address keeps the other from being listened at.
fn is_taken_by(one: &str, other: &str) -> bool {
    let parts = |address: &str| {
        let (host, port) = address.rsplit_once(':')?;
        let port: u16 = port.parse().ok()?;
        let host = match host.trim_start_matches('[').trim_end_matches(']') {
            "localhost" => "127.0.0.1",
            host => host,
        };
        Some((host.to_ascii_lowercase(), host.parse::<IpAddr>().ok(), port))
    };
    let (Some((one, one_ip, port)), Some((other, other_ip, other_port))) = (parts(one), parts(other)) else {
        return false; // off, or the socket of somebody else
    };
    let all = |ip: Option<IpAddr>| ip.is_some_and(|ip| ip.is_unspecified());
    let same_family = one_ip.zip(other_ip).is_some_and(|(one, other)| one.is_ipv4() == other.is_ipv4());
    port == other_port && port != 0 && (one == other || same_family && (all(one_ip) || all(other_ip)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(variables: &[(&str, &str)]) -> String {
        let loaded = loader().variables(variables.iter().copied()).load();
        loaded.map_or_else(|problems| problems.to_string(), |_| String::new())
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let none: [(&str, &str); 0] = [];
        let loaded = loader().variables(none).load().unwrap();
        assert_eq!(loaded.config.listen, "127.0.0.1:6246");
        assert_eq!(loaded.config.store, "sqlite:./mainstay.db");
        assert_eq!(loaded.settings.admin_listen, "127.0.0.1:6247");
        assert_eq!(loaded.settings.max_body_bytes, 16 << 20);
        // Shown are also those that follow from others.
        let shown = loaded.to_toml();
        for line in ["lame_duck_ms = 5000", "drain_ms = 15000", "stop_ms = 2000", "event_bytes = 1048576"] {
            assert!(shown.contains(line), "{line} is missing in {shown}");
        }
    }

    #[test]
    fn two_listeners_at_one_address_contradict_each_other() {
        let both = |listen, admin| problems(&[("MAINSTAY_LISTEN", listen), ("MAINSTAY_ADMIN_LISTEN", admin)]);
        let same = [
            ("127.0.0.1:7000", "127.0.0.1:7000"),
            ("0.0.0.0:7000", "127.0.0.1:7000"),
            ("localhost:7000", "127.0.0.1:7000"),
            ("[::1]:7000", "[::]:7000"),
            ("here.example:7000", "HERE.example:7000"),
        ];
        for (listen, admin) in same {
            let text = both(listen, admin);
            assert!(text.contains("listen: has the address of admin_listen"), "{listen} {admin}: {text}");
            assert!(text.contains("admin_listen: has the address of listen"), "{listen} {admin}: {text}");
        }
        let apart = [
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("127.0.0.1:7000", "127.0.0.1:7001"),
            ("127.0.0.1:7000", "127.0.0.2:7000"),
            ("127.0.0.1:7000", "off"),
            ("0.0.0.0:7000", "[::1]:7000"),
        ];
        for (listen, admin) in apart {
            assert_eq!(both(listen, admin), "", "{listen} {admin}");
        }
    }

    #[test]
    fn limits_that_no_store_keeps_are_refused() {
        let text = problems(&[
            ("MAINSTAY_LIMITS__BULK", "10001"),
            ("MAINSTAY_LIMITS__COMMIT", "20000"),
            ("MAINSTAY_LIMITS__EVENT_BYTES", "0"),
            ("MAINSTAY_LIMITS__LEASE_MIN_MS", "5000"),
            ("MAINSTAY_LIMITS__LEASE_MAX_MS", "4000"),
        ]);
        for key in ["bulk", "commit", "event_bytes", "lease_max_ms"] {
            assert!(text.contains(&format!("limits.{key}:")), "{key} is missing in {text}");
        }
        let fine = [("MAINSTAY_LIMITS__BULK", "10000"), ("MAINSTAY_LIMITS_LEASE_MIN_MS", "100")];
        assert_eq!(problems(&fine), "");
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let text = problems(&[
            ("MAINSTAY_STORE", "mysql://x"),
            ("MAINSTAY_LISTEN", "nowhere"),
            ("MAINSTAY_CALLER_BURST", "3"),
            ("MAINSTAY_ALLOWED_ORIGINS", "example.org"),
            ("MAINSTAY_TOKENS", "[{ name = \"a b\", hash = \"12\", scopes = [\"fly\"] }]"),
        ]);
        for part in ["store:", "listen:", "caller_burst:", "allowed_origins:", "name", "hash", "fly"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn an_unusable_store_url_says_which_forms_exist() {
        let text = problems(&[("MAINSTAY_STORE", "mysql://x")]);
        assert!(text.contains("memory:") && text.contains("sqlite:PATH"), "{text}");
        let text = problems(&[("MAINSTAY_STORE", "redis://localhost/x")]);
        assert!(text.contains("`redis:` cannot be opened by this version yet"), "{text}");
        assert!(text.contains("postgres"), "{text}");
        for elsewhere in ["http://127.0.0.1:6246", "https://ops.example.org", "http:"] {
            let text = problems(&[("MAINSTAY_STORE", elsewhere)]);
            assert!(text.contains("another server") && text.contains("sqlite:PATH"), "{text}");
        }
        for wrong in ["mysql://x", "sqlite:", "memory:x", "nats://x", "redis://x"] {
            let text = problems(&[("MAINSTAY_STORE", wrong)]);
            let offered = ["http", "redis://…", "nats://…"].into_iter().find(|form| text.contains(form));
            assert_eq!(offered, None, "{text}");
        }
    }
}

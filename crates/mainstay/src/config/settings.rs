//! The chassis' own keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Problems, Secret};
use crate::app::Budget;
use crate::log::{AccessLog, Format, Levels, Options, Output};
use crate::policy::Policy;
use crate::telemetry::{self, statsd, statsd::Dialect};

/// The keys every service has, whatever its own configuration is.
///
/// A key that the service's configuration has too goes to both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Settings {
    /// What the platform gives us between the first signal and its SIGKILL (Kubernetes:
    /// `terminationGracePeriodSeconds`). Defaults to 30,000. The process is gone one second before.
    pub grace_ms: u64,
    /// How long to go on accepting after SIGTERM, until balancers have noticed. Only a second signal ends it early;
    /// Ctrl-C has none. Defaults to 5,000. 0 if a preStop hook sleeps.
    pub lame_duck_ms: Option<u64>,
    /// How long work in flight may go on after that. Defaults to 15,000; ends early when nothing is in flight.
    pub drain_ms: Option<u64>,
    /// How long cancelled work may take to notice. Defaults to 2,000.
    pub cancel_ms: Option<u64>,
    /// How long stopping all components may take. Defaults to 2,000.
    pub stop_ms: Option<u64>,
    /// How long writing out metrics, spans and logs may take. Defaults to 3,000.
    pub flush_ms: Option<u64>,
    /// Address of probes, metrics and administration, `HOST:PORT` or `fd:NAME`; `off` for none. Defaults to `127.0.0.1:6248`.
    pub admin_listen: String,
    /// `json`, `logfmt`, `plain`, `pretty`, or `auto`: `pretty` on a terminal, else `json`. Defaults to `auto`.
    pub log_format: Format,
    /// A level, or `level,target=level,…`. Defaults to `info`. Changeable at run time.
    pub log_level: String,
    /// Where the log goes: `stderr`, `stdout`, or the path of a file, which is opened anew on SIGHUP. Defaults to
    /// `stderr`.
    pub log_output: Output,
    /// Names of fields that the log hides, separated by commas, beside those that it always hides
    /// ([`Options::redact`]). Defaults to none.
    pub log_redact: String,
    /// How many lines one place in the source may write in a second; 0 for no limit. Defaults to 1,000.
    pub log_lines_per_second: u32,
    /// Which requests get a line when they have ended: `off`, `errors` (our errors, and clients that left) or `all`.
    /// Defaults to `all`.
    pub access_log: AccessLog,
    /// Where a collector takes traces, as OTLP over HTTP: `http://HOST[:4318]`. Defaults to nothing: none are sent.
    /// Needs the feature `otlp`.
    pub otlp_endpoint: String,
    /// Worker threads. Defaults to the number of cores.
    pub threads: Option<usize>,
    /// Open connections of a listener; beyond, they wait in the backlog. Defaults to 10,000.
    pub max_connections: usize,
    /// How long a client may take over a request's head, and an idle connection lives. Defaults to 30,000.
    pub header_timeout_ms: u64,
    /// How long a client may take over a request's body, and may take nothing of an answer that waits for it: then the
    /// connection is cut. Defaults to 60,000.
    pub body_timeout_ms: u64,
    /// The longest request body. Defaults to 16 MiB.
    pub max_body_bytes: usize,
    /// The access token for a store that is a mainstay server (`http://…`). Defaults to none.
    pub store_token: Option<Secret<String>>,
    /// How calls to others are protected, by the name of the target; `default` is for those without their own. See
    /// [`Policy`].
    pub policies: BTreeMap<String, Policy>,
    /// Series a metric may have; beyond, they are counted as one. Defaults to 2,000.
    pub max_series: usize,
    /// Where StatsD listens: `udp://HOST:PORT` or `unix:///PATH` (a datagram socket). Defaults to none.
    pub statsd: String,
    /// `dogstatsd` (labels are tags) or `plain` (labels become part of the name). Defaults to `dogstatsd`.
    pub statsd_format: Dialect,
    /// Put before every name, with a dot. Defaults to nothing.
    pub statsd_prefix: String,
    /// Put on every line: `key:value,key:value`; only for `dogstatsd`. Defaults to nothing.
    pub statsd_tags: String,
    /// How often metrics are sent to StatsD. Defaults to 10,000.
    pub statsd_interval_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            grace_ms: 30_000,
            lame_duck_ms: None,
            drain_ms: None,
            cancel_ms: None,
            stop_ms: None,
            flush_ms: None,
            admin_listen: "127.0.0.1:6248".to_owned(),
            log_format: Format::Auto,
            log_level: "info".to_owned(),
            log_output: Output::default(),
            log_redact: String::new(),
            log_lines_per_second: 1000,
            access_log: AccessLog::default(),
            otlp_endpoint: String::new(),
            threads: None,
            max_connections: 10_000,
            header_timeout_ms: 30_000,
            body_timeout_ms: 60_000,
            max_body_bytes: 16 << 20,
            store_token: None,
            policies: BTreeMap::new(),
            max_series: telemetry::MAX_SERIES,
            statsd: String::new(),
            statsd_format: Dialect::default(),
            statsd_prefix: String::new(),
            statsd_tags: String::new(),
            statsd_interval_ms: 10_000,
        }
    }
}

impl Settings {
    /// The same keys as the struct's fields.
    pub(super) fn knows(key: &str) -> bool {
        const KEYS: &[&str] = &[
            "grace_ms",
            "lame_duck_ms",
            "drain_ms",
            "cancel_ms",
            "stop_ms",
            "flush_ms",
            "admin_listen",
            "log_format",
            "log_level",
            "log_output",
            "log_redact",
            "log_lines_per_second",
            "access_log",
            "otlp_endpoint",
            "threads",
            "max_connections",
            "header_timeout_ms",
            "body_timeout_ms",
            "max_body_bytes",
            "store_token",
            "policies",
            "max_series",
            "statsd",
            "statsd_format",
            "statsd_prefix",
            "statsd_tags",
            "statsd_interval_ms",
        ];
        KEYS.contains(&key)
    }

    /// Where the admin listener is, if there is one.
    pub(crate) fn admin_address(&self) -> Option<&str> {
        Some(self.admin_listen.trim()).filter(|address| !address.is_empty() && *address != "off")
    }

    /// How the log is set up.
    pub(crate) fn log_options(&self) -> Options {
        let options = Options::new()
            .format(self.log_format)
            .level(&self.log_level)
            .output(self.log_output.clone())
            .lines_per_second(self.log_lines_per_second);
        self.log_redact.split(',').fold(options, |options, name| options.redact(name.trim()))
    }

    pub(super) fn validate(&self, problems: &mut Problems) {
        if let Err((key, detail)) = Budget::plan(self) {
            problems.add(key, detail);
        }
        if let Err(detail) = Levels::parse(&self.log_level) {
            problems.add("log_level", detail);
        }
        if let Err(detail) = crate::otlp::check(&self.otlp_endpoint) {
            problems.add("otlp_endpoint", detail);
        }
        if self.threads == Some(0) {
            problems.add("threads", "must be at least 1");
        }
        for (key, value) in [
            ("max_connections", self.max_connections as u64),
            ("header_timeout_ms", self.header_timeout_ms),
            ("body_timeout_ms", self.body_timeout_ms),
            ("max_body_bytes", self.max_body_bytes as u64),
            ("max_series", self.max_series as u64),
        ] {
            if value == 0 {
                problems.add(key, "must be at least 1");
            }
        }
        for (name, policy) in &self.policies {
            policy.validate(&format!("policies.{name}."), problems);
        }
        statsd::check(self, |key, detail| problems.add(key, detail));
        if self.admin_address().is_some_and(|address| !address.contains(':')) {
            problems.add("admin_listen", "must be HOST:PORT, fd:NAME or `off`");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_a_known_key() {
        let tree = serde_json::to_value(Settings::default()).unwrap();
        for key in tree.as_object().unwrap().keys() {
            assert!(Settings::knows(key), "{key}");
        }
    }

    #[test]
    fn the_defaults_are_valid() {
        let mut problems = Problems::default();
        Settings::default().validate(&mut problems);
        assert!(problems.is_empty(), "{problems}");
    }
}

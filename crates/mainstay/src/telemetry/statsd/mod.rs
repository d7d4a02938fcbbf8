//! StatsD: what has changed since the last time, sent every few seconds in few packets, plain or with DogStatsD's tags.
//!
//! It reads the same series as Prometheus does, so recording costs nothing more. It runs on the control thread and
//! waits for nobody: a sink that cannot be reached or does not read costs a packet's loss, which is counted, and one
//! warning. While there is no connection at all nothing is taken out, so counters lose nothing.

mod lines;
mod packets;
mod sink;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use self::lines::{Lines, Style};
use self::packets::Packets;
use self::sink::{Sink, Target};
use super::registry::Registry;
use crate::app::Core;
use crate::config::Settings;
use crate::{millis, secs};

/// What a line looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Dialect {
    /// Labels are tags: `name:1|c|#method:GET`.
    #[default]
    DogStatsD,
    /// Labels become part of the name, which is all that the first StatsD knows: `name.method.GET:1|c`.
    Plain,
}

/// How long one flush may take to get its packets out.
const FLUSH_LIMIT: Duration = secs(1);
/// After trouble, so many flushes without make it good: a datagram's loss is told by a later one, if at all.
const CLEAN: u32 = 3;

/// The exporter of one app.
pub(crate) struct Statsd {
    registry: &'static Registry,
    interval: Duration,
    sender: Mutex<Sender>,
}

struct Sender {
    lines: Lines,
    sink: Sink,
    /// Flushes to go until a sink that was in trouble counts as well again.
    ailing: u32,
}

impl Statsd {
    /// `None` if there is none to be, or the settings are wrong, which has been told before.
    pub fn from_settings(registry: &'static Registry, settings: &Settings) -> Option<Self> {
        let target = Target::parse(settings.statsd.trim()).ok()??;
        let style = Style::new(settings.statsd_format, &settings.statsd_prefix, &settings.statsd_tags);
        let sender = Sender { lines: Lines::new(style), sink: Sink::new(target), ailing: 0 };
        Some(Self { registry, interval: millis(settings.statsd_interval_ms), sender: Mutex::new(sender) })
    }

    /// Sends what has changed. Takes `limit` at most.
    async fn flush(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let Ok(mut sender) = timeout_at(deadline, self.sender.lock()).await else { return };
        let (sent, dropped, trouble) = sender.flush(self.registry, deadline).await;
        metrics::counter!("mainstay.statsd.packets").increment(sent);
        metrics::counter!("mainstay.statsd.dropped").increment(dropped);
        match trouble {
            Some(error) => {
                if sender.ailing == 0 {
                    let sink = sender.sink.target().to_string();
                    tracing::warn!(
                        sink,
                        dropped,
                        error,
                        "StatsD cannot be reached; metrics go on being counted"
                    );
                }
                sender.ailing = CLEAN;
            }
            None if sender.ailing > 0 => {
                sender.ailing -= 1;
                if sender.ailing == 0 {
                    tracing::info!(sink = %sender.sink.target(), "StatsD can be reached again");
                }
            }
            None => {}
        }
    }
}

impl Sender {
    /// Packets sent, packets lost, and why.
    async fn flush(&mut self, registry: &Registry, deadline: Instant) -> (u64, u64, Option<String>) {
        match timeout_at(deadline, self.sink.connect()).await {
            Ok(Ok(())) => {}
            // Nothing has been taken out yet: it is all sent when somebody listens.
            Ok(Err(error)) => return (0, 0, Some(error.to_string())),
            Err(_) => return (0, 0, Some("its name was not resolved in time".to_owned())),
        }
        let mut packets = Packets::new(self.sink.packet_bytes());
        registry.observe_bounds();
        self.lines.changed(registry, |line| packets.add(line));
        let (packets, too_long) = packets.finish();
        let mut trouble = (too_long > 0).then(|| "a line is longer than a packet".to_owned());
        let (mut sent, mut dropped, mut left) = (0, too_long, packets.len() as u64);
        for packet in &packets {
            match timeout_at(deadline, self.sink.send(packet)).await {
                Ok(Ok(lost_before)) => {
                    sent += 1;
                    if lost_before {
                        dropped += 1;
                        trouble = Some("nobody listens there".to_owned());
                    }
                }
                Ok(Err(error)) => {
                    dropped += 1;
                    trouble = Some(error.to_string());
                }
                Err(_) => {
                    dropped += left;
                    trouble = Some("it does not read".to_owned());
                    break;
                }
            }
            left -= 1;
        }
        (sent, dropped, trouble)
    }
}

/// Begins to send, if the app has a sink.
pub(crate) fn start(core: &Arc<Core>) {
    let Some(interval) = core.statsd.as_ref().map(|statsd| statsd.interval) else { return };
    let weak = Arc::downgrade(core);
    core.control.spawn("statsd", async move {
        loop {
            tokio::time::sleep(interval).await;
            let Some(core) = weak.upgrade() else { return };
            flush(&core, FLUSH_LIMIT.min(interval)).await;
        }
    });
}

/// The last figures.
pub(crate) async fn finish(core: &Core, limit: Duration) {
    flush(core, limit).await;
}

async fn flush(core: &Core, limit: Duration) {
    if let Some(statsd) = &core.statsd {
        core.collector.collect();
        statsd.flush(limit).await;
    }
}

/// What is wrong with the settings, by key.
pub(crate) fn check(settings: &Settings, mut problem: impl FnMut(&'static str, String)) {
    if let Err(detail) = Target::parse(settings.statsd.trim()) {
        problem("statsd", detail);
    }
    if settings.statsd_interval_ms < 100 {
        problem("statsd_interval_ms", "must be at least 100".to_owned());
    }
    if settings.statsd_tags.contains(['|', '\n', '#']) {
        problem("statsd_tags", "must be `key:value,key:value`, without `|` and `#`".to_owned());
    }
    if settings.statsd_prefix.contains([':', '|', '@', '\n', '#']) {
        problem("statsd_prefix", "must be without `:`, `|`, `@` and `#`".to_owned());
    }
    if settings.statsd_format == Dialect::Plain && !settings.statsd_tags.is_empty() {
        let detail = "plain StatsD has no tags: use statsd_prefix, or statsd_format = \"dogstatsd\"";
        problem("statsd_tags", detail.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(change: impl FnOnce(&mut Settings)) -> Vec<&'static str> {
        let mut settings = Settings::default();
        change(&mut settings);
        let mut found = Vec::new();
        check(&settings, |key, _| found.push(key));
        found
    }

    #[test]
    fn wrong_settings_are_named() {
        assert_eq!(problems(|_| ()), Vec::<&str>::new());
        let good =
            ["udp://127.0.0.1:8125", "udp://[::1]:8125", "udp://statsd.local:8125", "unix:///run/s.sock"];
        for good in good {
            assert_eq!(problems(|s| s.statsd = good.to_owned()), Vec::<&str>::new(), "{good}");
        }
        for bad in ["127.0.0.1:8125", "tcp://x:1", "udp://x", "udp://x:y", "unix://", "unix://relative"] {
            assert_eq!(problems(|s| s.statsd = bad.to_owned()), ["statsd"], "{bad}");
        }
        assert_eq!(problems(|s| s.statsd_interval_ms = 1), ["statsd_interval_ms"]);
        assert_eq!(problems(|s| s.statsd_tags = "a|b".to_owned()), ["statsd_tags"]);
        assert_eq!(problems(|s| s.statsd_prefix = "a:b".to_owned()), ["statsd_prefix"]);
        let plain = |s: &mut Settings| (s.statsd_format, s.statsd_tags) = (Dialect::Plain, "a:b".to_owned());
        assert_eq!(problems(plain), ["statsd_tags"]);
    }
}

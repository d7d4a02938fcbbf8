//! What has changed since the last time, as lines.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use metrics::Unit;

use super::Dialect;
use crate::telemetry::registry::{Description, Family, Registry};
use crate::telemetry::series::{Cell, Kind, Series};

/// How lines are written.
pub(super) struct Style {
    dialect: Dialect,
    /// With its dot.
    prefix: String,
    /// `a:b,c:d`.
    tags: String,
}

impl Style {
    pub fn new(dialect: Dialect, prefix: &str, tags: &str) -> Self {
        let prefix = prefix.trim().trim_end_matches('.');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}.") };
        let tags: Vec<_> = tags.split(',').map(str::trim).filter(|tag| !tag.is_empty()).collect();
        Self { dialect, prefix, tags: tags.join(",") }
    }
}

/// The lines, and what was said in them so far.
pub(super) struct Lines {
    style: Style,
    /// By the address of the series, which never goes away.
    said: HashMap<usize, Said>,
}

#[derive(Default)]
struct Said {
    total: f64,
    buckets: Vec<(u64, f64)>,
}

impl Lines {
    pub fn new(style: Style) -> Self {
        Self { style, said: HashMap::new() }
    }

    /// Gives every line to `add`, and takes its figures as said.
    ///
    /// Counters say what was added, gauges what they are. A histogram says of each bucket how many values came and
    /// their mean, as one value sampled at 1/n: counts and sums are exact, quantiles as good as the buckets.
    pub fn changed(&mut self, registry: &Registry, mut add: impl FnMut(&str)) {
        registry.each(|family, described, all| {
            for series in all {
                self.series(family, described, series, &mut add);
            }
        });
    }

    fn series(
        &mut self,
        family: &Family,
        described: Option<&Description>,
        series: &Arc<Series>,
        add: &mut impl FnMut(&str),
    ) {
        let line = Line { style: &self.style, family, series };
        let said = self.said.entry(Arc::as_ptr(series).addr()).or_default();
        let now = match &series.cell {
            Cell::Count(count) => count.load(Relaxed) as f64,
            Cell::Value(bits) => f64::from_bits(bits.load(Relaxed)),
            Cell::Buckets(buckets) => {
                said.buckets.resize(buckets.bounds.len() + 1, (0, 0.0));
                for (before, now) in said.buckets.iter_mut().zip(buckets.read()) {
                    let (count, sum) = (now.0 - before.0, now.1 - before.1);
                    if count > 0 {
                        *before = now;
                        line.values(described, sum / count as f64, count, add);
                    }
                }
                return;
            }
        };
        if !now.is_finite() {
            return;
        }
        if family.kind == Kind::Counter {
            let more = now - said.total;
            said.total = now;
            if more > 0.0 {
                add(&line.text(more, "c", None));
            }
        } else {
            if now < 0.0 && self.style.dialect == Dialect::Plain {
                // A sign means "by how much" there: the way down goes over zero.
                add(&line.text(0.0, "g", None));
            }
            add(&line.text(now, "g", None));
        }
    }
}

struct Line<'a> {
    style: &'a Style,
    family: &'a Family,
    series: &'a Series,
}

impl Line<'_> {
    /// `count` values of a histogram whose mean this is.
    fn values(&self, described: Option<&Description>, mean: f64, count: u64, add: &mut impl FnMut(&str)) {
        let seconds = described.and_then(|described| described.unit) == Some(Unit::Seconds);
        // A timer is the only histogram of plain StatsD, and its unit is the millisecond.
        let (value, letter) = match self.style.dialect {
            Dialect::DogStatsD => (mean, "h"),
            Dialect::Plain if seconds => (mean * 1000.0, "ms"),
            Dialect::Plain => (mean, "ms"),
        };
        add(&self.text(value, letter, (count > 1).then_some(1.0 / count as f64)));
    }

    fn text(&self, value: f64, letter: &str, rate: Option<f64>) -> String {
        let mut line = String::with_capacity(96);
        line.push_str(&self.style.prefix);
        push_clean(&mut line, &self.family.name, |c| c.is_ascii_alphanumeric() || "._-".contains(c));
        let labels = &self.series.labels;
        if self.style.dialect == Dialect::Plain {
            for part in labels.iter().flat_map(|(name, value)| [name, value]) {
                line.push('.');
                push_clean(&mut line, part, |c| c.is_ascii_alphanumeric() || "_-".contains(c));
            }
        }
        let _ = write!(line, ":{value}|{letter}");
        if let Some(rate) = rate {
            let _ = write!(line, "|@{rate}");
        }
        if self.style.dialect == Dialect::DogStatsD && !(self.style.tags.is_empty() && labels.is_empty()) {
            line.push_str("|#");
            line.push_str(&self.style.tags);
            for (n, (name, value)) in labels.iter().enumerate() {
                if n > 0 || !self.style.tags.is_empty() {
                    line.push(',');
                }
                push_clean(&mut line, name, |c| !":,|#\n".contains(c));
                line.push(':');
                push_clean(&mut line, value, |c| !",|#\n".contains(c));
            }
        }
        line
    }
}

fn push_clean(line: &mut String, text: &str, legal: impl Fn(char) -> bool) {
    line.extend(text.chars().map(|c| if legal(c) { c } else { '_' }));
}

#[cfg(test)]
mod tests {
    use metrics::with_local_recorder;

    use super::*;

    fn lines(lines: &mut Lines, registry: &Registry) -> Vec<String> {
        let mut all = Vec::new();
        lines.changed(registry, |line| all.push(line.to_owned()));
        all
    }

    fn record(registry: &Registry) {
        with_local_recorder(registry, || {
            metrics::describe_histogram!("took", Unit::Seconds, "");
            metrics::counter!("hits", "http.route" => "/a/{id}", "odd" => "a,b|c#d").increment(2);
            metrics::gauge!("depth").set(-1.5);
            for value in [0.001, 0.002, 0.003, 9.0] {
                metrics::histogram!("took").record(value);
            }
        });
    }

    #[test]
    fn tags_are_dogstatsds_and_only_changes_are_said() {
        let registry = Registry::new(10);
        let mut dog = Lines::new(Style::new(Dialect::DogStatsD, "shop.", "env:test, zone:a"));
        record(&registry);
        let hits = "shop.hits:2|c|#env:test,zone:a,http.route:/a/{id},odd:a_b_c_d";
        let depth = "shop.depth:-1.5|g|#env:test,zone:a";
        assert_eq!(
            lines(&mut dog, &registry),
            [
                depth,
                hits,
                "shop.took:0.002|h|@0.3333333333333333|#env:test,zone:a",
                "shop.took:9|h|#env:test,zone:a",
            ]
        );
        assert_eq!(lines(&mut dog, &registry), [depth], "gauges are said every time");
        record(&registry);
        assert!(lines(&mut dog, &registry).contains(&hits.to_owned()));
    }

    #[test]
    fn plain_has_labels_in_the_name_timers_in_milliseconds_and_gauges_that_can_go_below_zero() {
        let registry = Registry::new(10);
        record(&registry);
        assert_eq!(
            lines(&mut Lines::new(Style::new(Dialect::Plain, "", "")), &registry),
            [
                "depth:0|g",
                "depth:-1.5|g",
                "hits.http_route._a__id_.odd.a_b_c_d:2|c",
                "took:2|ms|@0.3333333333333333",
                "took:9000|ms",
            ]
        );
    }

    #[test]
    fn what_a_process_reads_elsewhere_is_a_counter_with_fractions() {
        let registry = Registry::new(10);
        let mut dog = Lines::new(Style::new(Dialect::DogStatsD, "", ""));
        registry.observe(Kind::Counter, "cpu", &[], 0.25);
        assert_eq!(lines(&mut dog, &registry), ["cpu:0.25|c"]);
        registry.observe(Kind::Counter, "cpu", &[], 0.75);
        registry.observe(Kind::Gauge, "unlimited", &[], f64::INFINITY);
        assert_eq!(lines(&mut dog, &registry), ["cpu:0.5|c"]);
    }
}

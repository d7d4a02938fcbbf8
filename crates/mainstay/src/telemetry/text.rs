//! Metrics as text: Prometheus 0.0.4 and OpenMetrics 1.0.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use metrics::Unit;

use super::registry::{Description, Family, Registry};
use super::series::{Cell, Kind, Series};

/// Which text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Prometheus,
    OpenMetrics,
}

impl Format {
    /// What a scraper prefers by its `Accept`; Prometheus' own text unless it asks for OpenMetrics.
    #[cfg(feature = "http")]
    pub fn accepted(accept: &str) -> Self {
        let (mut open, mut plain) = (0.0f32, 0.0f32);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse);
            let quality = quality.unwrap_or(0.0);
            match media.as_str() {
                "application/openmetrics-text" => open = open.max(quality),
                "text/plain" | "text/*" | "*/*" => plain = plain.max(quality),
                _ => {}
            }
        }
        if open > 0.0 && open >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }

    #[cfg(feature = "http")]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

pub(crate) fn render(registry: &Registry, format: Format) -> String {
    registry.observe_bounds();
    let mut out = String::with_capacity(16 << 10);
    let mut taken = BTreeSet::new();
    registry.each(|family, described, series| {
        let name = exposed_name(family, described);
        // Two names may differ in the program and not here (`a` in seconds, `a.seconds`): the text may say it once.
        if !series.is_empty() && taken.insert(name.clone()) {
            write_family(&mut out, format, &name, family, described, series);
        }
    });
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

/// The name without `_total`, but with its unit.
fn exposed_name(family: &Family, described: Option<&Description>) -> String {
    let mut name = sanitize(&family.name).into_owned();
    if family.kind == Kind::Counter && name.ends_with("_total") {
        name.truncate(name.len() - "_total".len());
    }
    let unit = match described.and_then(|described| described.unit) {
        None | Some(Unit::Count) => return name,
        Some(unit) => unit.as_str(),
    };
    // `wal_bytes`, `write_seconds_max`: said already.
    if !format!("_{name}_").contains(&format!("_{unit}_")) {
        name.push('_');
        name.push_str(unit);
    }
    name
}

fn write_family(
    out: &mut String,
    format: Format,
    name: &str,
    family: &Family,
    described: Option<&Description>,
    all: &[Arc<Series>],
) {
    let total = if family.kind == Kind::Counter { "_total" } else { "" };
    // OpenMetrics names the family, the older text names the samples.
    let titled = if format == Format::OpenMetrics { "" } else { total };
    if let Some(described) = described {
        let _ = write!(out, "# HELP {name}{titled} ");
        escape(out, &described.help, format == Format::OpenMetrics);
        out.push('\n');
    }
    let _ = writeln!(out, "# TYPE {name}{titled} {}", family.kind.as_str());
    for series in all {
        match &series.cell {
            Cell::Count(count) => {
                sample(out, name, total, &series.text, "");
                let _ = writeln!(out, "{}", count.load(Relaxed));
            }
            Cell::Value(bits) => {
                sample(out, name, total, &series.text, "");
                number(out, f64::from_bits(bits.load(Relaxed)));
                out.push('\n');
            }
            Cell::Buckets(buckets) => {
                let (mut count, mut sum) = (0, 0.0);
                for (n, (in_bucket, of_bucket)) in buckets.read().enumerate() {
                    (count, sum) = (count + in_bucket, sum + of_bucket);
                    // A whole bound is written `1.0`, as OpenMetrics asks and all parsers take.
                    let bound = buckets.bounds.get(n).map_or("+Inf".to_owned(), |bound| format!("{bound:?}"));
                    sample(out, name, "_bucket", &series.text, &format!("le=\"{bound}\""));
                    let _ = writeln!(out, "{count}");
                }
                sample(out, name, "_sum", &series.text, "");
                number(out, sum);
                out.push('\n');
                sample(out, name, "_count", &series.text, "");
                let _ = writeln!(out, "{count}");
            }
        }
    }
}

/// Everything up to the value.
fn sample(out: &mut String, name: &str, suffix: &str, labels: &str, more: &str) {
    let comma = if labels.is_empty() || more.is_empty() { "" } else { "," };
    let _ = match (labels, more) {
        ("", "") => write!(out, "{name}{suffix} "),
        _ => write!(out, "{name}{suffix}{{{labels}{comma}{more}}} "),
    };
}

fn number(out: &mut String, value: f64) {
    let _ = match value {
        f64::INFINITY => write!(out, "+Inf"),
        f64::NEG_INFINITY => write!(out, "-Inf"),
        value => write!(out, "{value}"),
    };
}

/// Labels in the order of their names, without empty ones (which are none, to Prometheus), and as text. Of two that
/// are the same here the last counts.
pub(super) fn label_text<'a>(
    labels: impl Iterator<Item = (&'a str, &'a str)>,
) -> (Vec<(String, String)>, String) {
    let mut sorted: Vec<(Cow<'_, str>, &str, &str)> = Vec::new();
    for (name, value) in labels.filter(|(_, value)| !value.is_empty()) {
        let exposed = sanitize(name);
        let exposed = if exposed.contains(':') { Cow::Owned(exposed.replace(':', "_")) } else { exposed };
        match sorted.binary_search_by(|(known, ..)| known.as_ref().cmp(exposed.as_ref())) {
            Ok(at) => sorted[at] = (exposed, name, value),
            Err(at) => sorted.insert(at, (exposed, name, value)),
        }
    }
    let mut text = String::new();
    for (n, (exposed, _, value)) in sorted.iter().enumerate() {
        let comma = if n > 0 { "," } else { "" };
        let _ = write!(text, "{comma}{exposed}=\"");
        escape(&mut text, value, true);
        text.push('"');
    }
    (sorted.into_iter().map(|(_, name, value)| (name.to_owned(), value.to_owned())).collect(), text)
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`, as Prometheus names are.
pub(super) fn sanitize(name: &str) -> Cow<'_, str> {
    let legal = |(n, c): (usize, char)| {
        c.is_ascii_alphabetic() || c == '_' || c == ':' || (n > 0 && c.is_ascii_digit())
    };
    if !name.is_empty() && name.chars().enumerate().all(legal) {
        return Cow::Borrowed(name);
    }
    let mut clean: String = name.chars().enumerate().map(|at| if legal(at) { at.1 } else { '_' }).collect();
    if clean.is_empty() {
        clean.push('_');
    }
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use metrics::{Unit, with_local_recorder};

    use super::*;

    fn registry() -> Registry {
        let registry = Registry::new(10);
        with_local_recorder(&registry, || {
            metrics::describe_histogram!("took", Unit::Seconds, "How \"long\"\nit took \\");
            metrics::describe_counter!("jobs.done", "Jobs");
            metrics::counter!("jobs.done", "kind" => "a\"b\\c\nd", "1st" => "x").increment(3);
            metrics::histogram!("took").record(0.005);
            metrics::histogram!("took").record(0.02);
            metrics::histogram!("took").record(100.0);
            metrics::histogram!("took").record(f64::NAN);
            metrics::gauge!("room").set(f64::INFINITY);
        });
        registry
    }

    #[test]
    fn prometheus_text_is_as_its_format_says() {
        let text = render(&registry(), Format::Prometheus);
        for line in [
            "# HELP jobs_done_total Jobs",
            "# TYPE jobs_done_total counter",
            r#"jobs_done_total{_st="x",kind="a\"b\\c\nd"} 3"#,
            "# HELP took_seconds How \"long\"\\nit took \\\\",
            "# TYPE took_seconds histogram",
            r#"took_seconds_bucket{le="0.005"} 1"#,
            r#"took_seconds_bucket{le="0.025"} 2"#,
            r#"took_seconds_bucket{le="10.0"} 2"#,
            r#"took_seconds_bucket{le="+Inf"} 3"#,
            "took_seconds_sum 100.025",
            "took_seconds_count 3",
            "room +Inf",
        ] {
            assert!(text.lines().any(|is| is == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("EOF"));
    }

    #[test]
    fn openmetrics_names_families_without_total_and_ends() {
        let text = render(&registry(), Format::OpenMetrics);
        assert!(text.contains("# TYPE jobs_done counter\njobs_done_total{"), "{text}");
        assert!(text.contains("# HELP took_seconds How \\\"long\\\""), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[cfg(feature = "http")]
    #[test]
    fn a_scraper_gets_what_it_prefers() {
        use Format::*;
        for (accept, format) in [
            ("", Prometheus),
            ("*/*", Prometheus),
            ("text/plain", Prometheus),
            ("application/openmetrics-text", OpenMetrics),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                OpenMetrics,
            ),
            ("application/openmetrics-text;q=0.1, text/plain;q=0.9", Prometheus),
            ("application/openmetrics-text;q=0", Prometheus),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }
}

//! A span in words, for reports.

use std::fmt::Write as _;

use tracing::{Span, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::format::{Fields, Value};

/// `request{request_id=7f3a method=GET}:import{file=a.csv}`: the span with those around it, the outermost first, with
/// their fields as they are now. `None` for no span, or where nobody wants it.
///
/// Under a subscriber that is not ours only the span's own name is known.
pub(crate) fn describe(span: &Span) -> Option<String> {
    let name = span.metadata()?.name();
    let known = span.with_subscriber(|(id, dispatch)| {
        let registry = dispatch.downcast_ref::<Registry>()?;
        let spans: Vec<_> = registry.span(id)?.scope().from_root().map(|span| one(&span)).collect();
        Some(spans.join(":"))
    });
    Some(known.flatten().unwrap_or_else(|| name.to_owned()))
}

fn one<'a, R: Subscriber + LookupSpan<'a>>(span: &SpanRef<'a, R>) -> String {
    let mut out = span.name().to_owned();
    let extensions = span.extensions();
    let Some(fields) = extensions.get::<Fields>().filter(|fields| !fields.is_empty()) else { return out };
    for (n, (name, value)) in fields.iter().enumerate() {
        let _ = write!(out, "{}{name}=", if n == 0 { '{' } else { ' ' });
        match value {
            Value::Text(text) => super::format::word(&mut out, text),
            other => other.push(&mut out),
        }
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::log::{Format, Levels, LogLevel, layer::Lines};

    #[test]
    fn a_span_is_told_with_those_around_it_and_late_fields() {
        let level = LogLevel::new(Levels::parse("info").unwrap());
        let layer = Lines::new(Format::Plain, false, level, |_| ());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let outer = tracing::info_span!("request", id = "7f 3a", late = tracing::field::Empty);
            let inner = outer.in_scope(|| tracing::info_span!("import"));
            outer.record("late", 3);
            assert_eq!(describe(&inner).as_deref(), Some(r#"request{id="7f 3a" late=3}:import"#));
            assert_eq!(describe(&tracing::debug_span!("unwanted")), None);
        });
        assert_eq!(describe(&Span::none()), None);
    }
}

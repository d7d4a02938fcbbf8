//! Where something runs, in words: for reports.

use std::fmt::Write as _;

use tracing::{Span, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::fields::Fields;
use super::format::pair;
use super::redact::Redact;
use crate::context::Context;

/// `request_id=7f3a user=7, import{file=a.csv}:parse`: the context's fields, then the span with those around it, the
/// outermost first, with their fields as they are now. `None` for neither, or where nobody wants the span.
pub(crate) fn describe(context: &Context, span: &Span) -> Option<String> {
    let (redact, mut fields) = (Redact::new(&[]), Fields::default());
    context.each_line_field(&mut |name, value| fields.put(&redact, name, value));
    let mut out = pairs(&fields);
    if let Some(spans) = spans(span) {
        let _ = write!(out, "{}{spans}", if out.is_empty() { "" } else { ", " });
    }
    (!out.is_empty()).then_some(out)
}

/// Under a subscriber that is not ours only the span's own name is known.
fn spans(span: &Span) -> Option<String> {
    let name = span.metadata()?.name();
    let known = span.with_subscriber(|(id, dispatch)| {
        let registry = dispatch.downcast_ref::<Registry>()?;
        let spans: Vec<_> = registry.span(id)?.scope().from_root().map(|span| one(&span)).collect();
        Some(spans.join(":"))
    });
    Some(known.flatten().unwrap_or_else(|| name.to_owned()))
}

fn one<'a, R: Subscriber + LookupSpan<'a>>(span: &SpanRef<'a, R>) -> String {
    let extensions = span.extensions();
    match extensions.get::<Fields>().map(pairs) {
        Some(fields) if !fields.is_empty() => format!("{}{{{fields}}}", span.name()),
        _ => span.name().to_owned(),
    }
}

fn pairs(fields: &Fields) -> String {
    let mut out = String::new();
    for (name, value, kind) in fields.iter() {
        if !out.is_empty() {
            out.push(' ');
        }
        pair(&mut out, name, value, kind);
    }
    out
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::context::RequestId;
    use crate::log::{Levels, LogLevel, format::Record, layer::Lines};

    #[test]
    fn a_span_is_told_with_those_around_it_and_late_fields() {
        let layer = Lines::new(LogLevel::new(Levels::parse("info").unwrap()), |_: &Record<'_>| ());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let outer = tracing::info_span!("request", id = "7f 3a", late = tracing::field::Empty);
            let inner = outer.in_scope(|| tracing::info_span!("import"));
            outer.record("late", 3);
            let (none, unwanted) = (Context::default(), tracing::debug_span!("unwanted"));
            assert_eq!(describe(&none, &inner).as_deref(), Some(r#"request{id="7f 3a" late=3}:import"#));
            assert_eq!(describe(&none, &unwanted), None);
            let context = none.with_request_id(RequestId::parse("r-1").unwrap()).with_field("user", 7);
            assert_eq!(describe(&context, &unwanted).as_deref(), Some("request_id=r-1 user=7"));
            let all = describe(&context, &inner).unwrap();
            assert_eq!(all, r#"request_id=r-1 user=7, request{id="7f 3a" late=3}:import"#);
        });
        assert_eq!(describe(&Context::default(), &Span::none()), None);
    }
}

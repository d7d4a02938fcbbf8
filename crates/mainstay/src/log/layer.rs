//! The `tracing` layer that turns events into lines.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::Layer;
use tracing_subscriber::layer;
use tracing_subscriber::registry::LookupSpan;

use super::fields::{Fields, Reader};
use super::format::Record;
use super::levels::LogLevel;
use super::limit::{Limiter, Verdict};
use super::redact::Redact;
use crate::context::Context;
use crate::time::{monotonic_ms, wall};

/// One line a request: bounded by the requests, and truthful only as a whole.
pub(crate) const ACCESS: &str = "mainstay::access";

/// Makes every wanted event a record.
pub(crate) struct Lines<T> {
    level: LogLevel,
    redact: Redact,
    limiter: Arc<Limiter>,
    to: T,
    clock: fn() -> Duration,
}

/// What takes records.
pub(crate) trait Sink: Send + Sync + 'static {
    fn take(&self, record: &Record<'_>);

    /// There is something to confess by and by.
    fn owing(&self) {}
}

impl<F: Fn(&Record<'_>) + Send + Sync + 'static> Sink for F {
    fn take(&self, record: &Record<'_>) {
        self(record);
    }
}

thread_local! {
    /// Used again for every record of a thread.
    static SCRATCH: RefCell<Fields> = RefCell::default();
}

impl<T: Sink> Lines<T> {
    pub fn new(level: LogLevel, to: T) -> Self {
        let (redact, limiter) = (Redact::new(&[]), Arc::new(Limiter::new(0)));
        Self { level, redact, limiter, to, clock: wall }
    }

    /// Hides these fields.
    pub(super) fn redact(self, redact: Redact) -> Self {
        Self { redact, ..self }
    }

    /// Asks this limiter.
    pub(super) fn limit(self, limiter: Arc<Limiter>) -> Self {
        Self { limiter, ..self }
    }

    fn write<S>(&self, event: &Event<'_>, cx: &layer::Context<'_, S>, fields: &mut Fields)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let normal = event.normalized_metadata();
        let meta = normal.as_ref().unwrap_or_else(|| event.metadata());
        if meta.target() != ACCESS {
            match self.limiter.admit(meta, normal.is_some(), monotonic_ms()) {
                Verdict::Write => {}
                Verdict::Suppress => return,
                Verdict::SuppressFirst => return self.to.owing(),
            }
        }
        fields.clear();
        // Outermost first: what an inner span or the event says about the same name replaces it.
        Context::peek(|context| {
            context.each_line_field(&mut |name, value| fields.put(&self.redact, name, value));
        });
        for span in cx.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(others) = span.extensions().get::<Fields>() {
                fields.put_all(&self.redact, others);
            }
        }
        event.record(&mut Reader { fields, redact: &self.redact });
        self.to.take(&Record { at: (self.clock)(), level: *meta.level(), target: meta.target(), fields });
    }
}

impl<S, T> Layer<S> for Lines<T>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    T: Sink,
{
    fn register_callsite(&self, meta: &'static Metadata<'static>) -> Interest {
        if self.level.now().wants(meta) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, meta: &Metadata<'_>, _: layer::Context<'_, S>) -> bool {
        self.level.now().wants(meta)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level.now().highest())
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, cx: layer::Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut Reader { fields: &mut fields, redact: &self.redact });
        if let Some(span) = cx.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &SpanRecord<'_>, cx: layer::Context<'_, S>) {
        let Some(span) = cx.span(id) else { return };
        // Taken out meanwhile: a value's `Debug` may log, and look at this span.
        let mut fields = span.extensions_mut().remove::<Fields>().unwrap_or_default();
        values.record(&mut Reader { fields: &mut fields, redact: &self.redact });
        span.extensions_mut().replace(fields);
    }

    fn on_event(&self, event: &Event<'_>, cx: layer::Context<'_, S>) {
        let written = SCRATCH.try_with(|scratch| {
            let Ok(mut fields) = scratch.try_borrow_mut() else { return false };
            self.write(event, &cx, &mut fields);
            true
        });
        // A value's `Debug` that logs, or a thread on its way out.
        if !written.unwrap_or(false) {
            self.write(event, &cx, &mut Fields::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::super::writer::{Captured, Formatted, Writer};
    use super::*;
    use crate::Secret;
    use crate::context::RequestId;
    use crate::log::{Format, Levels};

    fn lines(level: &str, per_second: u32) -> (Lines<Formatted>, Captured) {
        let limiter = Arc::new(Limiter::new(per_second));
        let (writer, captured) = Writer::captured(Format::Plain, limiter.clone());
        let level = LogLevel::new(Levels::parse(level).unwrap());
        let lines = Lines::new(level, writer.lines(Format::Plain, false));
        (lines.redact(Redact::new(&["ssn".to_owned()])).limit(limiter), captured)
    }

    fn captured(level: &str, log: impl FnOnce(&LogLevel)) -> String {
        let (layer, lines) = lines(level, 0);
        let level = layer.level.clone();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || log(&level));
        lines.text()
    }

    #[test]
    fn fields_of_enclosing_spans_stand_on_the_line_also_late_ones() {
        let text = captured("info", |_| {
            let outer = tracing::info_span!("outer", a = 1, late = tracing::field::Empty);
            let _outer = outer.enter();
            let inner = tracing::info_span!("inner", a = 2);
            let _inner = inner.enter();
            outer.record("late", "yes");
            tracing::info!(b = true, "hi");
        });
        assert_eq!(text, "INFO hi a=2 late=yes b=true\n");
    }

    #[test]
    fn the_context_comes_first_and_the_inner_word_counts() {
        let text = captured("info", |_| {
            let context = Context::default().with_request_id(RequestId::parse("req-001").unwrap());
            let _in = context.enter();
            let _span = tracing::info_span!("span", x = 1).entered();
            context.set("user_id", 42);
            tracing::info!(action = "login", duration_ms = 10.0);
            tracing::info!(user_id = 7, x = 2);
        });
        let expected = "INFO request_id=req-001 user_id=42 x=1 action=login duration_ms=10.0\n\
                        INFO request_id=req-001 user_id=7 x=2\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_level_can_be_changed_while_running() {
        let text = captured("info,mainstay::log=warn", |level| {
            tracing::info!("unwanted");
            level.set("info").unwrap();
            tracing::info!("wanted");
            tracing::debug!("too deep");
        });
        assert_eq!(text, "INFO wanted\n");
    }

    #[test]
    fn secrets_are_hidden_by_name_and_type_and_fencing_tokens_are_not() {
        let text = captured("info", |_| {
            let key = Secret::new("hunter2");
            let _span = tracing::info_span!("span", db_password = "hunter2").entered();
            tracing::info!(password = "hunter2", pin.ssn = 1234, token = 7, %key, ?key, "hi");
        });
        let expected =
            "INFO hi db_password=[redacted] password=[redacted] pin.ssn=[redacted] token=7 key=[redacted]\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn an_error_is_told_with_its_causes() {
        let text = captured("info", |_| {
            let error = crate::Error::from(std::io::Error::other("disk")).context("cannot save");
            tracing::info!(error = &error as &dyn std::error::Error);
        });
        assert_eq!(text, "INFO error=\"cannot save: disk\"\n");
    }

    #[test]
    fn a_value_that_logs_while_it_is_shown_does_no_harm() {
        struct Chatty;
        impl std::fmt::Debug for Chatty {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                tracing::info!("inside");
                f.write_str("chatty")
            }
        }
        let text = captured("info", |_| tracing::info!(value = ?Chatty, "outside"));
        // Whether the inner one is heard is up to `tracing`.
        assert!(text.ends_with("INFO outside value=chatty\n"), "{text}");
    }

    #[test]
    fn what_was_suppressed_is_confessed_and_the_access_log_is_exempt() {
        let (layer, lines) = lines("info", 3);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for _ in 0..500 {
                tracing::warn!(target: "noisy", "again");
                tracing::info!(target: ACCESS, "request");
            }
        });
        let text = lines.text();
        assert_eq!(text.matches("INFO request").count(), 500);
        // A second may have begun meanwhile.
        let shown = text.matches("WARN again").count();
        let told = |line: &str| line.split("suppressed=").nth(1)?.split(' ').next()?.parse::<usize>().ok();
        let suppressed: usize = text.lines().filter_map(told).sum();
        assert_eq!(shown + suppressed, 500, "{text}");
        assert!(shown < 100 && text.contains("similar lines suppressed"), "{text}");
    }
}

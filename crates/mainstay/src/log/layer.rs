//! The `tracing` layer that turns events into lines.

use std::borrow::Cow;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer;
use tracing_subscriber::registry::LookupSpan;

use super::format::{Fields, Record};
use super::levels::LogLevel;
use crate::config::REDACTED;
use crate::context::{Context, FieldValue};
use crate::time::wall;

/// Makes every wanted event a record for `sink`.
pub(crate) struct Lines<F> {
    level: LogLevel,
    sink: F,
    clock: fn() -> Duration,
}

impl<F: Fn(&Record<'_>) + Send + Sync + 'static> Lines<F> {
    pub fn new(level: LogLevel, sink: F) -> Self {
        Self { level, sink, clock: wall }
    }
}

impl<S, F> Layer<S> for Lines<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    F: Fn(&Record<'_>) + Send + Sync + 'static,
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
        let mut collect = Collect::default();
        attributes.record(&mut collect);
        if let Some(span) = cx.span(id) {
            span.extensions_mut().insert(collect.fields);
        }
    }

    fn on_record(&self, id: &Id, values: &SpanRecord<'_>, cx: layer::Context<'_, S>) {
        let Some(span) = cx.span(id) else { return };
        let mut extensions = span.extensions_mut();
        let fields = extensions.remove::<Fields>().unwrap_or_default();
        let mut collect = Collect { fields, ..Collect::default() };
        values.record(&mut collect);
        extensions.insert(collect.fields);
    }

    fn on_event(&self, event: &Event<'_>, cx: layer::Context<'_, S>) {
        let mut collect = Collect::default();
        // Outermost first: what an inner span or the event says about the same name replaces it.
        Context::peek(|context| context.each_line_field(&mut |name, value| collect.put(name, value)));
        for span in cx.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<Fields>() {
                fields.iter().for_each(|(name, value)| collect.put(name.clone(), value.clone()));
            }
        }
        event.record(&mut collect);
        let meta = event.metadata();
        let record = Record {
            at: (self.clock)(),
            level: *meta.level(),
            target: meta.target(),
            message: &collect.message,
            fields: &collect.fields,
        };
        (self.sink)(&record);
    }
}

/// A field of this name is hidden. (`token` is not one of them: a fencing token is a number, and no secret.)
const SECRET: [&str; 8] =
    ["password", "passwd", "secret", "authorization", "api_key", "auth_token", "bearer", "cookie"];

#[derive(Default)]
struct Collect {
    message: String,
    fields: Fields,
}

impl Collect {
    fn put(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<FieldValue>) {
        let (name, mut value) = (name.into(), value.into());
        if SECRET.contains(&&*name) {
            value = REDACTED.into();
        }
        match self.fields.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.fields.push((name, value)),
        }
    }
}

impl Visit for Collect {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.put(field.name(), format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.put(field.name(), value);
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::log::{Format, Levels};

    fn captured(level: &str, log: impl FnOnce(&LogLevel)) -> String {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let to = lines.clone();
        let level = LogLevel::new(Levels::parse(level).unwrap());
        let layer = Lines::new(level.clone(), move |record| {
            to.lock().unwrap().extend(Format::Plain.line(record, false))
        });
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || log(&level));
        let bytes = lines.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
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
    fn secrets_are_hidden_by_name_and_fencing_tokens_are_not() {
        let text = captured("info", |_| tracing::info!(password = "hunter2", token = 7, "hi"));
        assert_eq!(text, "INFO hi password=[redacted] token=7\n");
    }
}

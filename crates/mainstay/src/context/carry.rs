//! A context in a job, and in an event.
//!
//! The job's `traceparent` is the trace of whoever enqueued it; everything else that goes along stands in its `meta`,
//! under the one key `context`, so that it can neither meet nor hide what the author put there:
//!
//! ```json
//! {"context": {"request_id": "…", "tracestate": "…", "baggage": "…", "criticality": "sheddable", "fields": {"tenant": "acme"}}}
//! ```
//!
//! An event has extension attributes for it: `traceparent` and `tracestate` as CloudEvents says, `requestid`, and the
//! rest as the JSON text `mainstaycontext`.
//!
//! The deadline stays behind: a job is not late because its author has left. An attempt has the deadline of its time
//! limit, and the attempt's number.

use std::sync::{Arc, Mutex};

use mainstay_core::{
    event::Event,
    job::{JobBody, Json},
};
use serde_json::{Map, Value, json};

use super::{
    Baggage, Context, Criticality, FieldValue, Inner, Known, RequestId, Trace, TraceState, field::Fields,
};

/// `meta` may be this long on every store.
const META_BYTES: usize = 4096;
/// The extension attribute for what has no name of its own.
const REST: &str = "mainstaycontext";

impl Context {
    /// Writes itself into a job. Where `meta` has no room, fields are left out first, then baggage, then the trace
    /// state, the request id last.
    pub(crate) fn put_into(&self, body: &mut JobBody) {
        if self.is_empty() {
            return;
        }
        if body.traceparent.is_none() {
            body.traceparent = self.trace().map(|trace| trace.to_string().into());
        }
        let parsed = body.meta.as_deref().map_or(Some(Map::new()), |meta| serde_json::from_str(meta).ok());
        // Whatever is there that is not an object is the author's.
        let Some(mut meta) = parsed else { return };
        if meta.contains_key("context") {
            return;
        }
        let mut carried = self.carried();
        for least in ["fields", "baggage", "tracestate", ""] {
            if carried.is_empty() {
                return;
            }
            meta.insert("context".to_owned(), Value::Object(carried.clone()));
            let text = Value::Object(meta.clone()).to_string();
            if text.len() <= META_BYTES {
                body.meta = Some(text.into());
                return;
            }
            carried.remove(least);
        }
    }

    /// The context of an attempt: what the job carries, and new ids for what it does not.
    pub(crate) fn of_job(body: &JobBody) -> Self {
        let meta: Option<Value> = body.meta.as_deref().and_then(|meta| serde_json::from_str(meta).ok());
        let carried = meta.as_ref().and_then(|meta| meta.get("context")?.as_object());
        Self::continuing(body.traceparent.as_deref(), carried)
    }

    /// What it says to whoever gets an event, as extension attributes. Where there is much of it, fields are left out
    /// first, then baggage.
    pub(crate) fn extensions(&self) -> Vec<(Arc<str>, Json)> {
        let mut extensions = Vec::new();
        let mut put = |name: &str, value: Value| extensions.push((name.into(), value.to_string().into()));
        if let Some(trace) = self.trace() {
            put("traceparent", trace.to_string().into());
        }
        let mut carried = self.carried();
        for (key, name) in [("tracestate", "tracestate"), ("request_id", "requestid")] {
            if let Some(value) = carried.remove(key) {
                put(name, value);
            }
        }
        for least in ["fields", "baggage", "criticality"] {
            if carried.is_empty() {
                break;
            }
            let text = Value::Object(carried.clone()).to_string();
            if text.len() <= META_BYTES {
                put(REST, text.into());
                break;
            }
            carried.remove(least);
        }
        extensions
    }

    /// The context of a delivery: what the event carries, and new ids for what it does not.
    pub(crate) fn of_event(event: &Event) -> Self {
        let text =
            |name: &str| event.extension(name).and_then(|json| serde_json::from_str::<String>(json).ok());
        let rest = text(REST).and_then(|rest| serde_json::from_str::<Map<String, Value>>(&rest).ok());
        let mut carried = rest.unwrap_or_default();
        for (key, name) in [("tracestate", "tracestate"), ("request_id", "requestid")] {
            if let Some(value) = text(name) {
                carried.insert(key.to_owned(), value.into());
            }
        }
        Self::continuing(text("traceparent").as_deref(), Some(&carried))
    }

    fn continuing(traceparent: Option<&str>, carried: Option<&Map<String, Value>>) -> Self {
        let text = |key| carried.and_then(|carried| carried.get(key)?.as_str());
        let continued = traceparent.and_then(Trace::continuing);
        let mut context = Context::default()
            .with_request_id(text("request_id").and_then(RequestId::parse).unwrap_or_else(RequestId::new))
            .with_trace(continued.unwrap_or_else(Trace::root))
            .with_baggage(text("baggage").and_then(Baggage::parse).unwrap_or_default())
            .with_criticality(text("criticality").and_then(Criticality::parse).unwrap_or_default());
        if continued.is_some() {
            let state = text("tracestate").and_then(TraceState::parse);
            context = context.with_trace_state(state.unwrap_or_default());
        }
        let fields = carried.and_then(|carried| carried.get("fields")?.as_object());
        for (name, value) in fields.into_iter().flatten() {
            if let Some(value) = read(value) {
                context.set(name.clone(), value);
            }
        }
        context
    }

    /// What goes along with an event inside of the process: the same without the deadline and the attempt, as a
    /// context of its own. It holds on to nothing, so that events that follow from events make no chain.
    pub(crate) fn carried_on(&self) -> Self {
        let Some(known) = self.known() else { return Self::default() };
        let known = Known { deadline: None, attempt: 0, retries: 0, ..known.clone() };
        let mut fields = Fields::default();
        self.each_field(&mut |name, value| fields.put(name.to_owned().into(), value.clone()));
        Self(Some(Arc::new(Inner { known, fields: Mutex::new(fields), ..Inner::default() })))
    }

    fn carried(&self) -> Map<String, Value> {
        let mut carried = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                carried.insert(key.to_owned(), value);
            }
        };
        put("request_id", self.request_id().map(|id| id.as_str().into()));
        put("tracestate", self.trace_state().as_str().map(Into::into));
        put("baggage", (!self.baggage().is_empty()).then(|| self.baggage().to_string().into()));
        let criticality = self.criticality();
        put("criticality", (criticality != Criticality::default()).then(|| criticality.as_str().into()));
        let mut fields = Map::new();
        self.each_field(&mut |name, value| _ = fields.insert(name.to_owned(), write(value)));
        put("fields", (!fields.is_empty()).then_some(Value::Object(fields)));
        carried
    }
}

fn write(value: &FieldValue) -> Value {
    match value {
        FieldValue::Text(text) => Value::from(&**text),
        FieldValue::Signed(number) => json!(number),
        FieldValue::Unsigned(number) => json!(number),
        FieldValue::Float(number) => json!(number),
        FieldValue::Bool(flag) => json!(flag),
    }
}

fn read(value: &Value) -> Option<FieldValue> {
    match value {
        Value::String(text) => Some(FieldValue::Text(Arc::from(&**text))),
        Value::Bool(flag) => Some(FieldValue::Bool(*flag)),
        Value::Number(number) => (number.as_u64().map(FieldValue::Unsigned))
            .or_else(|| number.as_i64().map(FieldValue::Signed))
            .or_else(|| number.as_f64().map(FieldValue::Float)),
        _ => None,
    }
}

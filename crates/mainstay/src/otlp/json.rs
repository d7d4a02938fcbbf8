//! Spans as OTLP's JSON: ids in hexadecimal, 64-bit numbers as text.

use serde_json::{Value, json};

use super::Span;
use crate::context::FieldValue;

/// An `ExportTraceServiceRequest`.
pub(super) fn request(service: &str, spans: &[Span]) -> String {
    let spans: Vec<_> = spans.iter().filter_map(span).collect();
    let scope = json!({ "name": "mainstay", "version": env!("CARGO_PKG_VERSION") });
    json!({
        "resourceSpans": [{
            "resource": { "attributes": [attribute("service.name", &service.into())] },
            "scopeSpans": [{ "scope": scope, "spans": spans }],
        }]
    })
    .to_string()
}

fn span(span: &Span) -> Option<Value> {
    let trace = span.context.trace()?;
    let mut attributes: Vec<_> = span.attributes.iter().map(|(name, value)| attribute(name, value)).collect();
    if let Some(id) = span.context.request_id() {
        attributes.push(attribute("mainstay.request_id", &id.as_str().into()));
    }
    let mut out = json!({
        "traceId": trace.trace_id_text(),
        "spanId": format!("{:016x}", trace.span_id),
        "parentSpanId": trace.parent_id.map(|id| format!("{id:016x}")).unwrap_or_default(),
        "name": span.name,
        "kind": span.kind as u8,
        "startTimeUnixNano": span.began.as_nanos().to_string(),
        "endTimeUnixNano": span.ended.as_nanos().to_string(),
        "attributes": attributes,
        // 2: error. What did not fail says nothing, as the conventions ask.
        "status": if span.failed { json!({ "code": 2 }) } else { json!({}) },
    });
    if let Some(state) = span.context.trace_state().as_str() {
        out["traceState"] = state.into();
    }
    Some(out)
}

fn attribute(name: &str, value: &FieldValue) -> Value {
    let value = match value {
        FieldValue::Text(text) => json!({ "stringValue": &**text }),
        FieldValue::Signed(number) => json!({ "intValue": number.to_string() }),
        FieldValue::Unsigned(number) => json!({ "intValue": number.to_string() }),
        FieldValue::Float(number) => json!({ "doubleValue": number }),
        FieldValue::Bool(flag) => json!({ "boolValue": flag }),
    };
    json!({ "key": name, "value": value })
}

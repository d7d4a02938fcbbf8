//! An event in binary mode: its attributes in headers, its data the body.

use std::borrow::Cow;

use bytes::Bytes;

use super::{ATTRIBUTE, CloudEvent, EXTENSIONS, EventData, wrong_name, wrong_text};
use crate::query::percent_decode_segment;
use crate::strict::{self, Cx, Path, Strict, Value};
use crate::{Code, FieldError, Limits, Place, Problem, RawJson};

/// The headers of a request that are about its event, and its content type.
#[derive(Debug, Clone, Default)]
pub struct Headers<'h> {
    /// `content-type`. Nothing means JSON.
    pub content_type: Option<&'h [u8]>,
    /// Name and value of those that begin with `ce-`, in lower case.
    pub attributes: Vec<(&'h str, &'h [u8])>,
}

impl CloudEvent {
    /// Reads an event in binary mode.
    ///
    /// # Errors
    /// `malformed-body` when the body is declared as JSON and is none, else `validation-failed` with every wrong
    /// header, or `payload-too-large`.
    pub fn from_binary(headers: &Headers<'_>, body: Bytes, limits: &Limits) -> Result<Self, Problem> {
        let mut wrong = Vec::new();
        let mut event = CloudEvent::default();
        for (header, value) in &headers.attributes {
            if let Err(detail) = event.header(&header["ce-".len()..], value) {
                wrong.push(FieldError::outside(Place::Header, header, detail));
            }
        }
        match headers.content_type.map(std::str::from_utf8) {
            None => {}
            Some(Ok(text)) if text.len() <= ATTRIBUTE => event.content_type = Some(text.to_owned()),
            Some(_) => wrong.push(FieldError::outside(Place::Header, "content-type", "must be short text")),
        }
        if body.len() > limits.event_bytes {
            let detail = format!("the data is longer than {} bytes", limits.event_bytes);
            return Err(Problem::new(Code::PayloadTooLarge, detail));
        }
        let read = data(event.content_type.as_deref(), body, limits);
        match read {
            Ok(data) => event.data = data,
            Err(problem) if problem.code == Code::ValidationFailed => {
                wrong.extend(problem.errors.iter().cloned());
            }
            Err(problem) => return Err(problem),
        }
        if wrong.is_empty() { Ok(event) } else { Err(Problem::invalid(wrong)) }
    }

    fn header(&mut self, name: &str, value: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(value).map(unquoted).ok();
        let text = text.as_deref().and_then(percent_decode_segment);
        let text = text.ok_or("must be percent-encoded UTF-8")?;
        if name == "specversion" {
            return if text == "1.0" { Ok(()) } else { Err("must be 1.0".into()) };
        }
        if name == "datacontenttype" {
            return Err("is said by `content-type` in binary mode".into());
        }
        if text.is_empty() || text.len() > ATTRIBUTE {
            return Err(format!("must have 1 to {ATTRIBUTE} bytes"));
        }
        if let Some(wrong) = wrong_text(name, &text) {
            return Err(wrong);
        }
        if let Some(slot) = self.named(name) {
            // One that comes twice has two answers to one question.
            return match slot.replace(text.into_owned()) {
                None => Ok(()),
                Some(_) => Err("is there twice".into()),
            };
        }
        if let Some(wrong) = wrong_name(name) {
            return Err(wrong.into());
        }
        if matches!(name, "data" | "database64") {
            return Err("is said by the body in binary mode".into());
        }
        if self.extensions.iter().any(|(known, _)| known == name) {
            return Err("is there twice".into());
        }
        if self.extensions.len() == EXTENSIONS {
            return Err(format!("is one extension attribute too many: there can be {EXTENSIONS}"));
        }
        let value = RawJson::of(&*text).map_err(|error| error.to_string())?;
        self.extensions.push((name.to_owned(), value));
        Ok(())
    }
}

/// A value in double quotes without them, and what is escaped inside as it is meant: some senders quote what has
/// spaces (CloudEvents 1.0, HTTP binding, 3.1.3.2).
fn unquoted(value: &str) -> Cow<'_, str> {
    let inside = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let Some(inside) = inside else { return value.into() };
    let mut out = String::with_capacity(inside.len());
    let mut escaped = false;
    for char in inside.chars() {
        escaped = char == '\\' && !escaped;
        if !escaped {
            out.push(char);
        }
    }
    out.into()
}

/// What the body is. Text that is not JSON is kept as a JSON string, which is how structured mode has it.
fn data(content_type: Option<&str>, body: Bytes, limits: &Limits) -> Result<EventData, Problem> {
    if body.is_empty() {
        return Ok(EventData::None);
    }
    match kind(content_type) {
        Kind::Json => {
            strict::parse::<Anything>(&body, limits)?;
            Ok(EventData::Json(RawJson::from_trusted(body)))
        }
        Kind::Text => match std::str::from_utf8(&body).map(RawJson::of) {
            Ok(Ok(text)) => Ok(EventData::Json(text)),
            _ => Ok(EventData::Binary(body)),
        },
        Kind::Binary => Ok(EventData::Binary(body)),
    }
}

enum Kind {
    Json,
    Text,
    Binary,
}

fn kind(content_type: Option<&str>) -> Kind {
    let Some(content_type) = content_type else { return Kind::Json };
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let is_utf8 = |parameter: &str| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            let value = value.trim().trim_matches('"');
            value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("us-ascii")
        }
        _ => true,
    };
    let utf8 = parts.all(is_utf8);
    if utf8 && (essence == "application/json" || essence == "text/json" || essence.ends_with("+json")) {
        Kind::Json
    } else if utf8 && essence.starts_with("text/") {
        Kind::Text
    } else {
        Kind::Binary
    }
}

/// Any JSON that everybody reads alike.
struct Anything;

impl Strict for Anything {
    fn read(_: &mut Cx<'_>, _: &Path<'_>, _: Value<'_>) -> Option<Self> {
        Some(Anything)
    }
}

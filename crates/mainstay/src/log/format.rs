//! How a line looks.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::Level;

use crate::context::FieldValue;
use crate::time::rfc3339;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Format {
    /// `pretty` on a terminal, `plain` under systemd (which adds the time), else `json`.
    Auto,
    /// One flat JSON object a line.
    Json,
    /// `ts=… level=… msg=… key=value`.
    Logfmt,
    /// `LEVEL message key=value`, without the time.
    Plain,
    /// For people: time of day, colours on a terminal.
    Pretty,
}

pub(crate) type Fields = Vec<(Cow<'static, str>, FieldValue)>;

/// What a line is made from.
pub(crate) struct Record<'a> {
    pub at: Duration,
    pub level: Level,
    pub target: &'a str,
    pub message: &'a str,
    pub fields: &'a Fields,
}

impl Format {
    pub(super) fn resolve(self, terminal: bool) -> Self {
        match self {
            Format::Auto if terminal => Format::Pretty,
            Format::Auto if std::env::var_os("JOURNAL_STREAM").is_some() => Format::Plain,
            Format::Auto => Format::Json,
            chosen => chosen,
        }
    }

    /// One line, with its line end.
    pub(crate) fn line(self, record: &Record<'_>, colours: bool) -> Vec<u8> {
        let mut out = String::with_capacity(192);
        match self {
            Format::Json | Format::Auto => json(&mut out, record),
            Format::Logfmt => {
                let _ = write!(out, "ts={} level={} ", rfc3339(record.at), lower(record.level));
                let _ = write!(out, "target={} msg=", record.target);
                word(&mut out, record.message);
                pairs(&mut out, record.fields);
            }
            Format::Plain => {
                out.push_str(record.level.as_str());
                if !record.message.is_empty() {
                    let _ = write!(out, " {}", one_line(record.message));
                }
                pairs(&mut out, record.fields);
            }
            Format::Pretty => {
                let stamp = rfc3339(record.at);
                let (dim, paint, plain) =
                    if colours { ("\x1b[2m", colour(record.level), "\x1b[0m") } else { ("", "", "") };
                let _ =
                    write!(out, "{dim}{}{plain} {paint}{:>5}{plain} ", &stamp[11..23], record.level.as_str());
                out.push_str(&one_line(record.message));
                out.push_str(dim);
                pairs(&mut out, record.fields);
                out.push_str(plain);
            }
        }
        out.push('\n');
        out.into_bytes()
    }
}

fn json(out: &mut String, record: &Record<'_>) {
    let _ = write!(out, r#"{{"ts":"{}","level":"{}","target":"#, rfc3339(record.at), lower(record.level));
    quoted(out, record.target);
    out.push_str(r#","msg":"#);
    quoted(out, record.message);
    for (name, value) in record.fields {
        out.push(',');
        // A field may not overwrite what every line has.
        let taken = matches!(&**name, "ts" | "level" | "target" | "msg");
        quoted(out, &if taken { format!("field_{name}") } else { name.to_string() });
        out.push(':');
        match value {
            FieldValue::Text(text) => quoted(out, text),
            FieldValue::Float(number) if !number.is_finite() => quoted(out, &number.to_string()),
            other => push(out, other),
        }
    }
    out.push('}');
}

fn pairs(out: &mut String, fields: &Fields) {
    for (name, value) in fields {
        let _ = write!(out, " {name}=");
        match value {
            FieldValue::Text(text) => word(out, text),
            other => push(out, other),
        }
    }
}

pub(crate) fn push(out: &mut String, value: &FieldValue) {
    let _ = match value {
        FieldValue::Text(text) => write!(out, "{text}"),
        FieldValue::Signed(number) => write!(out, "{number}"),
        FieldValue::Unsigned(number) => write!(out, "{number}"),
        // With its point, so that a reader sees that it is one: `10.0`.
        FieldValue::Float(number) => write!(out, "{number:?}"),
        FieldValue::Bool(flag) => write!(out, "{flag}"),
    };
}

fn quoted(out: &mut String, text: &str) {
    // Writing a string as JSON cannot fail.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// Bare if it is one word, else quoted.
pub(super) fn word(out: &mut String, text: &str) {
    let bare = !text.is_empty()
        && text.chars().all(|c| !c.is_whitespace() && !c.is_control() && c != '"' && c != '=');
    if bare { out.push_str(text) } else { quoted(out, text) }
}

/// Control characters would let a message forge a line, or worse on a terminal.
fn one_line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

fn lower(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[2m",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: Format, message: &str, fields: Fields) -> String {
        let record = Record { at: Duration::ZERO, level: Level::INFO, target: "t", message, fields: &fields };
        String::from_utf8(format.line(&record, false)).unwrap()
    }

    #[test]
    fn each_format_writes_one_line() {
        let fields = || vec![("n".into(), FieldValue::Unsigned(7)), ("s".into(), FieldValue::from("a b"))];
        for (format, expected) in [
            (
                Format::Json,
                r#"{"ts":"1970-01-01T00:00:00.000Z","level":"info","target":"t","msg":"hi","n":7,"s":"a b"}"#,
            ),
            (Format::Logfmt, r#"ts=1970-01-01T00:00:00.000Z level=info target=t msg=hi n=7 s="a b""#),
            (Format::Plain, r#"INFO hi n=7 s="a b""#),
            (Format::Pretty, r#"00:00:00.000  INFO hi n=7 s="a b""#),
        ] {
            assert_eq!(line(format, "hi", fields()).trim_end(), expected);
        }
    }

    #[test]
    fn a_message_cannot_forge_a_line() {
        for format in [Format::Json, Format::Logfmt, Format::Plain, Format::Pretty] {
            let text = line(format, "a\nERROR b", vec![("k".into(), "c\nd".into())]);
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        }
    }

    #[test]
    fn a_field_cannot_replace_what_every_line_has() {
        let text = line(Format::Json, "hi", vec![("level".into(), "fake".into())]);
        assert!(text.contains(r#""level":"info""#) && text.contains(r#""field_level":"fake""#), "{text}");
    }
}

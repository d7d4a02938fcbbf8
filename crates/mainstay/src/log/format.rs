//! How a line looks.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::Level;

use super::fields::{Fields, Kind};
use super::stamp;

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

/// What a line is made from.
pub(crate) struct Record<'a> {
    pub at: Duration,
    pub level: Level,
    pub target: &'a str,
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

    /// Appends one line, with its line end.
    pub(crate) fn line(self, out: &mut String, record: &Record<'_>, colours: bool) {
        match self {
            Format::Json | Format::Auto => json(out, record),
            Format::Logfmt => {
                out.push_str("ts=");
                stamp::push(out, record.at);
                let _ = write!(out, " level={} target={} msg=", lower(record.level), record.target);
                word(out, record.fields.message());
                pairs(out, record.fields);
            }
            Format::Plain => {
                out.push_str(record.level.as_str());
                message(out, record.fields.message());
                pairs(out, record.fields);
            }
            Format::Pretty => {
                let (dim, paint, plain) =
                    if colours { ("\x1b[2m", colour(record.level), "\x1b[0m") } else { ("", "", "") };
                out.push_str(dim);
                let from = out.len();
                stamp::push(out, record.at);
                // The time of day only.
                out.replace_range(from..from + 11, "");
                out.pop();
                let _ = write!(out, "{plain} {paint}{:>5}{plain}", record.level.as_str());
                message(out, record.fields.message());
                out.push_str(dim);
                pairs(out, record.fields);
                out.push_str(plain);
            }
        }
        out.push('\n');
    }
}

fn json(out: &mut String, record: &Record<'_>) {
    out.push_str(r#"{"ts":""#);
    stamp::push(out, record.at);
    out.push_str(r#"","level":""#);
    out.push_str(lower(record.level));
    out.push_str(r#"","target":"#);
    quoted(out, record.target);
    out.push_str(r#","msg":"#);
    // One look at all of it costs a quarter of one at each piece, and finds nothing on most lines.
    let text = if is_plain(record.fields.text()) { String::push_str } else { escaped };
    let quoted = |out: &mut String, value: &str| {
        out.push('"');
        text(out, value);
        out.push('"');
    };
    quoted(out, record.fields.message());
    for (name, value, kind) in record.fields.iter() {
        // A field may not overwrite what every line has.
        out.push_str(if matches!(name, "ts" | "level" | "target" | "msg") { r#","field_"# } else { r#",""# });
        text(out, name);
        out.push_str(r#"":"#);
        match kind {
            Kind::Text => quoted(out, value),
            _ => out.push_str(value),
        }
    }
    out.push('}');
}

fn pairs(out: &mut String, fields: &Fields) {
    for (name, value, kind) in fields.iter() {
        out.push(' ');
        pair(out, name, value, kind);
    }
}

/// `name=value`.
pub(super) fn pair(out: &mut String, name: &str, value: &str, kind: Kind) {
    out.push_str(name);
    out.push('=');
    match kind {
        Kind::Text => word(out, value),
        _ => out.push_str(value),
    }
}

fn quoted(out: &mut String, text: &str) {
    out.push('"');
    escaped(out, text);
    out.push('"');
}

/// As in a JSON string.
fn escaped(out: &mut String, text: &str) {
    // Nearly all are.
    if is_plain(text.as_bytes()) {
        return out.push_str(text);
    }
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|b| b < 0x20 || b == b'"' || b == b'\\' || b == 0x7f) {
        let (fine, special) = rest.split_at(at);
        out.push_str(fine);
        let byte = special.as_bytes()[0];
        let _ = match byte {
            b'"' => out.write_str("\\\""),
            b'\\' => out.write_str("\\\\"),
            b'\n' => out.write_str("\\n"),
            b'\r' => out.write_str("\\r"),
            b'\t' => out.write_str("\\t"),
            other => write!(out, "\\u{other:04x}"),
        };
        rest = &special[1..];
    }
    out.push_str(rest);
}

/// Whether nothing in it needs escaping, eight bytes at a time. Where one does, the top bit of a byte is left standing
/// ("Bit Twiddling Hacks", Sean Eron Anderson: "Determine if a word has a byte less than n").
fn is_plain(bytes: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let below = |word: u64, n: u8| word.wrapping_sub(ONES * u64::from(n)) & !word;
    let found = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let special = |word: [u8; 8]| {
        let word = u64::from_ne_bytes(word);
        below(word, 0x20) | found(word, b'"') | found(word, b'\\') | found(word, 0x7f)
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    let seen = words.iter().fold(special(last), |seen, word| seen | special(*word));
    seen & (ONES << 7) == 0
}

/// Bare if it is one word, else quoted.
pub(super) fn word(out: &mut String, text: &str) {
    let bare = |c: char| !c.is_whitespace() && !c.is_control() && c != '"' && c != '=';
    if !text.is_empty() && text.chars().all(bare) { out.push_str(text) } else { quoted(out, text) }
}

/// On one line: control characters would let a message forge another, or worse on a terminal.
fn message(out: &mut String, text: &str) {
    if text.is_empty() {
        return;
    }
    out.push(' ');
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
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
    use super::super::redact::Redact;
    use super::*;
    use crate::context::ValueRef;

    fn line(format: Format, message: &str, fields: &[(&str, ValueRef<'_>)]) -> String {
        let (redact, mut all) = (Redact::new(&[]), Fields::default());
        all.set_message(message);
        fields.iter().for_each(|(name, value)| all.put(&redact, name, *value));
        let record = Record { at: Duration::ZERO, level: Level::INFO, target: "t", fields: &all };
        let mut out = String::new();
        format.line(&mut out, &record, false);
        out
    }

    #[test]
    fn each_format_writes_one_line() {
        let fields =
            [("n", ValueRef::Unsigned(7)), ("s", ValueRef::Text("a b")), ("f", ValueRef::Float(10.0))];
        for (format, expected) in [
            (
                Format::Json,
                r#"{"ts":"1970-01-01T00:00:00.000Z","level":"info","target":"t","msg":"hi","n":7,"s":"a b","f":10.0}"#,
            ),
            (Format::Logfmt, r#"ts=1970-01-01T00:00:00.000Z level=info target=t msg=hi n=7 s="a b" f=10.0"#),
            (Format::Plain, r#"INFO hi n=7 s="a b" f=10.0"#),
            (Format::Pretty, r#"00:00:00.000  INFO hi n=7 s="a b" f=10.0"#),
        ] {
            assert_eq!(line(format, "hi", &fields).trim_end(), expected);
        }
    }

    #[test]
    fn a_line_without_a_message_is_its_fields() {
        assert_eq!(line(Format::Plain, "", &[("a", ValueRef::Bool(true))]), "INFO a=true\n");
    }

    #[test]
    fn a_message_cannot_forge_a_line() {
        for format in [Format::Json, Format::Logfmt, Format::Plain, Format::Pretty] {
            let text = line(format, "a\nERROR b", &[("k", ValueRef::Text("c\nd\u{1b}[31m"))]);
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            assert!(!text.contains('\u{1b}'), "{text:?}");
        }
    }

    #[test]
    fn every_byte_that_needs_escaping_is_found_wherever_it_stands() {
        for byte in 0..=0x7fu8 {
            for at in 0..20 {
                let mut text = [b'~'; 20];
                text[at] = byte;
                let special = byte < 0x20 || matches!(byte, b'"' | b'\\' | 0x7f);
                assert_eq!(is_plain(&text), !special, "{byte:#x} at {at}");
            }
        }
        assert!(is_plain(b"") && is_plain("h\u{e4}\u{10ffff}".as_bytes()));
    }

    #[test]
    fn a_field_cannot_replace_what_every_line_has() {
        let text = line(Format::Json, "hi", &[("level", ValueRef::Text("fake"))]);
        assert!(text.contains(r#""level":"info""#) && text.contains(r#""field_level":"fake""#), "{text}");
    }

    proptest::proptest! {
        #[test]
        fn json_reads_back_as_logged(message in ".{0,40}", text in ".{0,40}", float: f64, number: i64) {
            let fields = [
                ("text", ValueRef::Text(&text)), ("float", ValueRef::Float(float)), ("number", ValueRef::Signed(number)),
            ];
            let line = line(Format::Json, &message, &fields);
            let read: serde_json::Value = serde_json::from_str(&line).unwrap();
            proptest::prop_assert_eq!(read["msg"].as_str(), Some(&*message));
            proptest::prop_assert_eq!(read["text"].as_str(), Some(&*text));
            proptest::prop_assert_eq!(read["number"].as_i64(), Some(number));
            if float.is_finite() {
                // To the bit, by a reader that is exact: serde_json is not, for the very small ones.
                let rest = line.split(r#""float":"#).nth(1).unwrap();
                let written = rest.split([',', '}']).next().unwrap();
                proptest::prop_assert_eq!(written.parse::<f64>(), Ok(float));
            }
        }
    }
}

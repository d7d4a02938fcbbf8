//! The strict reader of query strings.

use std::borrow::Cow;

use crate::names::{NAME_RULE, is_name};
use crate::strict::unknown;
use crate::types::JobState;
use crate::{FieldError, Limits, Place, Problem};

/// How many items a page has when the query does not say.
pub const DEFAULT_PAGE: u32 = 50;
/// How many items a page can have.
pub const MAX_PAGE: u32 = 1_000;
/// How many parameters are looked at; more than any route knows.
const MAX_PARAMETERS: usize = 64;

/// The parameters of a query; reports everything that is wrong at once.
#[derive(Debug)]
pub struct Query<'q> {
    parameters: Vec<(Cow<'q, str>, Cow<'q, str>)>,
    errors: Vec<FieldError>,
}

impl<'q> Query<'q> {
    /// Splits and decodes a query string (without its `?`); names other than these are reported.
    pub fn new(query: &'q str, names: &[&str]) -> Self {
        let mut this = Self { parameters: Vec::new(), errors: Vec::new() };
        for pair in query.split('&').filter(|pair| !pair.is_empty()).take(MAX_PARAMETERS) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = percent_decode(name) else {
                this.wrong("", "has a parameter name that is not percent-encoded UTF-8");
                continue;
            };
            if !names.contains(&&*name) {
                let detail = if names.is_empty() {
                    "unknown parameter: there are none here".to_owned()
                } else {
                    unknown("parameter", &name, names)
                };
                this.wrong(&name, detail);
            } else if this.parameters.iter().any(|(known, _)| *known == name) {
                this.wrong(&name, "is there twice");
            } else if let Some(value) = percent_decode(value) {
                this.parameters.push((name, value));
            } else {
                this.wrong(&name, "is not percent-encoded UTF-8");
            }
        }
        this
    }

    /// The parameter as it stands.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// Reads a parameter that may be absent; an error is in words that follow the parameter's name.
    pub fn optional<T, E: ToString>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match read(self.get(name)?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.wrong(name, error.to_string());
                None
            }
        }
    }

    /// A whole number in the range.
    pub fn int(&mut self, name: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        self.optional(name, |text| {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse()
                .ok()
                .filter(|number| plain && range.contains(number))
                .ok_or_else(|| format!("must be a whole number from {} to {}", range.start(), range.end()))
        })
    }

    /// A name of a queue, worker, …
    pub fn name(&mut self, name: &str) -> Option<String> {
        self.optional(name, |text| if is_name(text) { Ok(text.to_owned()) } else { Err(NAME_RULE) })
    }

    /// Free text of 1 to `max` bytes.
    pub fn text(&mut self, name: &str, max: usize) -> Option<String> {
        self.optional(name, |text| {
            if (1..=max).contains(&text.len()) {
                Ok(text.to_owned())
            } else {
                Err(format!("must have 1 to {max} bytes"))
            }
        })
    }

    /// A flag: `?name`, `?name=true` or `?name=false`.
    pub fn flag(&mut self, name: &str) -> bool {
        self.optional(name, |text| match text {
            "" | "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err("must be true or false"),
        })
        .unwrap_or(false)
    }

    /// The page a list is to start with.
    pub fn page(&mut self) -> PageQuery {
        let limit = self.int("limit", 1..=u64::from(MAX_PAGE)).and_then(|limit| u32::try_from(limit).ok());
        let cursor = self.text("cursor", 1_024);
        PageQuery { limit: limit.unwrap_or(DEFAULT_PAGE), cursor }
    }

    /// Reports a wrong parameter.
    pub fn wrong(&mut self, name: &str, detail: impl Into<String>) {
        self.errors.push(FieldError::outside(Place::Query, name, detail));
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// `validation-failed` with everything that was wrong.
    pub fn finish<T>(self, value: T) -> Result<T, Problem> {
        if self.errors.is_empty() { Ok(value) } else { Err(Problem::invalid(self.errors)) }
    }
}

/// Where in a list, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageQuery {
    /// How many items at most, 1 to 1000. Defaults to 50.
    pub limit: u32,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl Default for PageQuery {
    fn default() -> Self {
        Self { limit: DEFAULT_PAGE, cursor: None }
    }
}

impl PageQuery {
    /// Reads the query of a list without filters.
    ///
    /// # Errors
    /// `validation-failed` with everything that is wrong.
    pub fn parse(query: &str) -> Result<Self, Problem> {
        let mut query = Query::new(query, &["limit", "cursor"]);
        let page = query.page();
        query.finish(page)
    }

    pub(crate) fn write(&self, out: &mut QueryWriter) {
        if self.limit != DEFAULT_PAGE {
            out.pair("limit", &self.limit.to_string());
        }
        out.optional("cursor", self.cursor.as_deref());
    }

    /// The query string, with its `?` unless it is empty.
    pub fn to_query(&self) -> String {
        let mut out = QueryWriter::default();
        self.write(&mut out);
        out.0
    }
}

/// Which jobs: `GET /v1/jobs`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobsQuery {
    /// Of this queue.
    pub queue: Option<String>,
    /// In this state.
    pub state: Option<JobState>,
    /// Of this kind.
    pub kind: Option<String>,
    /// With this tag.
    pub tag: Option<String>,
    /// Where in the list.
    pub page: PageQuery,
}

impl JobsQuery {
    /// Reads the query.
    ///
    /// # Errors
    /// `validation-failed` with everything that is wrong.
    pub fn parse(query: &str) -> Result<Self, Problem> {
        let mut query = Query::new(query, &["queue", "state", "kind", "tag", "limit", "cursor"]);
        let jobs = Self {
            queue: query.name("queue"),
            state: query.optional("state", str::parse),
            kind: query.text("kind", 256),
            tag: query.text("tag", 256),
            page: query.page(),
        };
        query.finish(jobs)
    }

    /// The query string, with its `?` unless it is empty.
    pub fn to_query(&self) -> String {
        let mut out = QueryWriter::default();
        out.optional("queue", self.queue.as_deref());
        out.optional("state", self.state.map(JobState::as_str));
        out.optional("kind", self.kind.as_deref());
        out.optional("tag", self.tag.as_deref());
        self.page.write(&mut out);
        out.0
    }
}

/// Which locks: `GET /v1/locks`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocksQuery {
    /// Whose name begins with this.
    pub prefix: Option<String>,
    /// Where in the list.
    pub page: PageQuery,
}

impl LocksQuery {
    /// Reads the query.
    ///
    /// # Errors
    /// `validation-failed` with everything that is wrong.
    pub fn parse(query: &str) -> Result<Self, Problem> {
        let mut query = Query::new(query, &["prefix", "limit", "cursor"]);
        let prefix = query.optional("prefix", |text| match text {
            "" => Ok(None),
            text if is_name(text) => Ok(Some(text.to_owned())),
            _ => Err("must be the beginning of a name"),
        });
        let locks = Self { prefix: prefix.flatten(), page: query.page() };
        query.finish(locks)
    }

    /// The query string, with its `?` unless it is empty.
    pub fn to_query(&self) -> String {
        let mut out = QueryWriter::default();
        out.optional("prefix", self.prefix.as_deref());
        self.page.write(&mut out);
        out.0
    }
}

/// Reads the query of `DELETE /v1/locks/{name}`: why it is taken away, 1 to 1,024 bytes.
///
/// # Errors
/// `validation-failed` with everything that is wrong.
pub fn parse_reason(query: &str) -> Result<Option<String>, Problem> {
    let mut query = Query::new(query, &["reason"]);
    let reason = query.text("reason", 1_024);
    query.finish(reason)
}

/// Writes the query that [`parse_reason`] reads.
pub fn reason_query(reason: Option<&str>) -> String {
    let mut out = QueryWriter::default();
    out.optional("reason", reason);
    out.0
}

/// Reads the query of `GET /v1/jobs/{id}/result`: how long to wait, in milliseconds. Defaults to 0.
///
/// # Errors
/// `validation-failed` with everything that is wrong.
pub fn parse_wait(query: &str, limits: &Limits) -> Result<u64, Problem> {
    let mut query = Query::new(query, &["wait_ms"]);
    let wait = query.int("wait_ms", 0..=limits.wait_max_ms).unwrap_or(0);
    query.finish(wait)
}

/// Decodes `%XX` and `+`; `None` when that is not UTF-8 or the escapes are broken.
pub fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    decode(text, true)
}

/// As [`percent_decode`], for a segment of a path, where `+` is a plus sign.
pub fn percent_decode_segment(text: &str) -> Option<Cow<'_, str>> {
    decode(text, false)
}

fn decode(text: &str, plus: bool) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|byte| byte == b'%' || (plus && byte == b'+')) {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            b'+' if plus => b' ',
            other => other,
        });
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

/// Encodes all but the unreserved characters of RFC 3986.
pub fn percent_encode(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

/// A query string under construction.
#[derive(Default)]
pub(crate) struct QueryWriter(String);

impl QueryWriter {
    fn pair(&mut self, name: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(name);
        self.0.push('=');
        self.0.push_str(&percent_encode(value));
    }

    /// The query, with its `?` unless it is empty.
    #[cfg(any(feature = "client", test))]
    pub fn text(&self) -> &str {
        &self.0
    }

    pub fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.pair(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_wrong_parameter_is_reported_in_query() {
        let problem =
            JobsQuery::parse("queue=.x&state=done&limit=0&nope=1&kind=a&kind=b&tag=%ff&limit").unwrap_err();
        let mut pointers: Vec<_> = problem.errors.iter().map(|error| error.pointer.as_str()).collect();
        pointers.sort_unstable();
        assert_eq!(pointers, ["/kind", "/limit", "/limit", "/nope", "/queue", "/state", "/tag"]);
        assert!(problem.errors.iter().all(|error| error.place == Some(Place::Query)));
    }

    #[test]
    fn the_nearest_parameter_is_named() {
        let problem = JobsQuery::parse("stat=dead").unwrap_err();
        assert!(problem.errors[0].detail.contains("state"), "{problem}");
    }

    #[test]
    fn pages_have_bounds() {
        assert_eq!(PageQuery::parse("").unwrap(), PageQuery { limit: 50, cursor: None });
        assert_eq!(PageQuery::parse("limit=1000&cursor=a%2Bb").unwrap().cursor.as_deref(), Some("a+b"));
        for query in [
            "limit=1001",
            "limit=-1",
            "limit=+1",
            "limit=",
            "limit=1e1",
            "cursor=",
            "limit=99999999999999999999",
        ] {
            assert_eq!(PageQuery::parse(query).unwrap_err().status, 422, "{query}");
        }
    }

    #[test]
    fn broken_escapes_are_refused() {
        for text in ["%", "%1", "%zz", "%+1", "%ff"] {
            assert_eq!(percent_decode(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_survives_encoding(text in "\\PC{0,40}") {
            let encoded = percent_encode(&text);
            prop_assert_eq!(percent_decode(&encoded), Some(Cow::Borrowed(text.as_str())));
        }

        #[test]
        fn queries_come_back(kind in "\\PC{1,20}", tag in "\\PC{1,20}", limit in 1..=1000_u32) {
            let query = JobsQuery {
                queue: Some("a:b".into()),
                state: Some(JobState::Dead),
                kind: Some(kind),
                tag: Some(tag),
                page: PageQuery { limit, cursor: Some("x=&y".into()) },
            };
            prop_assert_eq!(JobsQuery::parse(&query.to_query()[1..]).unwrap(), query);
        }

        #[test]
        fn no_query_panics(query in "\\PC{0,40}") {
            let _ = JobsQuery::parse(&query);
        }
    }
}

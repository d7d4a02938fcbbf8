//! What a request asks for, with everything that is wrong about it at once.

use http::{HeaderMap, header};
use mainstay::core::id::JobId;
use mainstay::core::name::{Name, QueueName};
use mainstay_api::query::Query;
use mainstay_api::strict::{self, Parsed, Strict, Unsupported};
use mainstay_api::types::{BulkEnqueue, NewJob};
use mainstay_api::{Code, FieldError, Place, Problem, idempotency_key, path_job_id, path_name};

use super::call::{Call, check_timeout, undecodable};
use super::key::{Fingerprinted, Keyed, fingerprint_of_lines};
use super::{convert, error};

/// Reads a request part by part, and goes on after every mistake. [`finish`](Input::finish) tells of them.
pub(crate) struct Input<'c> {
    call: &'c Call,
    wrong: Vec<FieldError>,
    /// How much more is wrong than is told.
    unlisted: usize,
    unsupported: Vec<Unsupported>,
    key: Option<String>,
    fingerprint: Option<[u8; 32]>,
    query_was_read: bool,
    /// The path of the call that the key was made for, if that is another one.
    path: Option<Box<str>>,
}

/// The job a path names. One that cannot exist is only told as not found when all else is right.
pub(crate) struct NamedJob(Option<JobId>);

impl NamedJob {
    /// Its id.
    pub fn id(&self) -> Result<JobId, Problem> {
        self.0.ok_or_else(|| error::not_found("job"))
    }
}

impl<'c> Input<'c> {
    pub fn new(call: &'c Call) -> Self {
        Self {
            call,
            wrong: check_timeout(call.headers()).into_iter().collect(),
            unlisted: 0,
            unsupported: Vec::new(),
            key: None,
            fingerprint: None,
            query_was_read: false,
            path: None,
        }
    }

    /// The name in the path.
    pub fn name(&mut self, what: &'static str) -> Option<Name> {
        let Some(text) = self.call.param(what) else {
            self.wrong.push(undecodable(what));
            return None;
        };
        match path_name(what, text).map(Name::new) {
            Ok(Ok(name)) => Some(name),
            Ok(Err(error)) => {
                self.wrong.push(FieldError::outside(Place::Path, what, error.to_string()));
                None
            }
            Err(error) => {
                self.wrong.push(error);
                None
            }
        }
    }

    /// The queue in the path.
    pub fn queue(&mut self) -> Option<QueueName> {
        self.name("queue")
    }

    /// The job in the path.
    pub fn job(&mut self) -> Option<NamedJob> {
        let Some(text) = self.call.param("id") else {
            self.wrong.push(undecodable("id"));
            return None;
        };
        match path_job_id(text) {
            Ok(id) => Some(NamedJob(convert::job_id(id))),
            Err(error) => {
                self.wrong.push(error);
                None
            }
        }
    }

    /// A segment of the path; `None`, and noted, if it cannot be decoded.
    pub fn segment(&mut self, what: &'static str) -> Option<&'c str> {
        let text = self.call.param(what);
        if text.is_none() {
            self.wrong.push(undecodable(what));
        }
        text
    }

    /// Something else is wrong.
    pub fn is_wrong(&mut self, error: FieldError) {
        self.wrong.push(error);
    }

    /// The query, read by `read`.
    pub fn query<T>(&mut self, read: impl FnOnce(&str) -> Result<T, Problem>) -> Option<T> {
        self.query_was_read = true;
        match read(self.call.parts.uri.query().unwrap_or_default()) {
            Ok(query) => Some(query),
            Err(problem) => {
                self.wrong.extend(problem.errors.iter().cloned());
                None
            }
        }
    }

    /// Notes one more mistake, unless the field is called wrong already.
    pub fn wrong(&mut self, mistake: FieldError) {
        let is_known =
            |known: &FieldError| (&known.pointer, known.place) == (&mistake.pointer, mistake.place);
        if !self.wrong.iter().any(is_known) {
            self.wrong.push(mistake);
        }
    }

    /// Notes the `Idempotency-Key`, if there is one. Before the body, which is fingerprinted for it.
    pub fn keyed(&mut self) {
        let mut values = self.call.headers().get_all("idempotency-key").iter();
        let Some(value) = values.next() else { return };
        if values.any(|other| other != value) {
            let detail = "is there twice, with different keys: a call has one";
            return self.wrong.push(FieldError::outside(Place::Header, "idempotency-key", detail));
        }
        match idempotency_key(value.as_bytes()) {
            Ok(key) => self.key = Some(key.to_owned()),
            Err(error) => self.wrong.push(error),
        }
    }

    /// The key of another call, which differs from this one in the end of its path alone. Has to be there.
    pub fn keyed_like(&mut self, end: &'static str, other: &'static str) {
        self.keyed();
        if self.key.is_none() && self.call.headers().get("idempotency-key").is_none() {
            let detail = format!("is missing: say under which key `{other}` was called");
            self.wrong.push(FieldError::outside(Place::Header, "Idempotency-Key", detail));
        }
        let path = self.call.parts.uri.path();
        self.path = path.strip_suffix(end).map(|start| format!("{start}{other}").into());
    }

    /// The body, as JSON.
    ///
    /// # Errors
    /// What makes reading on pointless: another content type, or no JSON at all.
    pub fn body<T: Strict>(&mut self) -> Result<Option<T>, Problem> {
        let body = &self.call.body;
        if !body.trim_ascii().is_empty() && content(self.call.headers()) != Content::Json {
            return Err(unsupported_type("application/json"));
        }
        self.document()
    }

    /// The body, whatever JSON it is declared as.
    ///
    /// # Errors
    /// What is no JSON at all.
    pub fn document<T: Strict>(&mut self) -> Result<Option<T>, Problem> {
        let (body, limits) = (&self.call.body, &self.call.api.limits);
        if self.key.is_some() {
            let read = self.merge(strict::parse::<Fingerprinted<T>>(body, limits))?;
            self.fingerprint = read.as_ref().map(|read| read.fingerprint);
            Ok(read.map(|read| read.value))
        } else {
            self.merge(strict::parse::<T>(body, limits))
        }
    }

    /// What was read elsewhere, with everything that was wrong about it noted.
    ///
    /// # Errors
    /// What makes reading on pointless.
    pub fn elsewhere<T>(
        &mut self,
        read: Result<T, Problem>,
        fingerprint: [u8; 32],
    ) -> Result<Option<T>, Problem> {
        self.fingerprint = Some(fingerprint);
        match read {
            Err(problem) if problem.code == Code::PayloadTooLarge => Err(problem),
            read => self.merge(read.map(|value| Parsed { value, unsupported: Vec::new() })),
        }
    }

    /// The body of a bulk enqueue: JSON, or a job a line.
    ///
    /// # Errors
    /// As [`body`](Input::body).
    pub fn bulk(&mut self) -> Result<Option<BulkEnqueue>, Problem> {
        let (body, limits) = (&self.call.body, &self.call.api.limits);
        match content(self.call.headers()) {
            Content::Lines if self.key.is_some() => {
                let lines = strict::parse_lines::<Fingerprinted<NewJob>>(body, "jobs", limits.bulk, limits);
                let lines = self.merge(lines)?;
                self.fingerprint = lines.as_deref().map(fingerprint_of_lines);
                let jobs = lines.map(|lines| lines.into_iter().map(|line| line.value).collect());
                Ok(jobs.map(|jobs| BulkEnqueue { jobs }))
            }
            Content::Lines => self.merge(BulkEnqueue::parse_lines(body, limits)),
            Content::Other if !body.trim_ascii().is_empty() => {
                Err(unsupported_type("application/json or application/x-ndjson"))
            }
            _ => self.body(),
        }
    }

    /// Ends the reading: what was asked for, and the key it was asked under.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<(T, Option<Keyed>), Problem> {
        if !self.query_was_read {
            let query = self.call.parts.uri.query().unwrap_or_default();
            if let Err(problem) = Query::new(query, &[]).finish(()) {
                self.wrong.extend(problem.errors.iter().cloned());
            }
        }
        let value = match value {
            Some(value) if self.wrong.is_empty() => value,
            _ => return Err(Problem::invalid(self.wrong).and_unlisted(self.unlisted)),
        };
        let value = Parsed { value, unsupported: self.unsupported }.supported()?;
        let keyed = self.key.map(|key| {
            let path = self.path.as_deref().unwrap_or_else(|| self.call.parts.uri.path());
            let method = self.call.parts.method.as_str();
            Keyed::new(
                self.call.caller.name().map_or("", Name::as_str),
                method,
                path,
                &key,
                self.fingerprint.unwrap_or_default(),
            )
        });
        Ok((value, keyed))
    }

    fn merge<T>(&mut self, read: Result<Parsed<T>, Problem>) -> Result<Option<T>, Problem> {
        match read {
            Ok(parsed) => {
                self.unsupported.extend(parsed.unsupported);
                Ok(Some(parsed.value))
            }
            Err(problem) if problem.code == Code::MalformedBody => Err(problem),
            Err(problem) => {
                self.wrong.extend(problem.errors.iter().cloned());
                self.unlisted += problem.unlisted;
                Ok(None)
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Json,
    Lines,
    Other,
}

/// What the body is declared as. Nothing means JSON.
fn content(headers: &HeaderMap) -> Content {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Content::Json };
    let mut parts = value.to_str().unwrap_or("?").split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let is_utf8 = |parameter: &str| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    };
    if !parts.all(is_utf8) {
        return Content::Other;
    }
    match essence.as_str() {
        "application/json" => Content::Json,
        "application/x-ndjson" => Content::Lines,
        _ => Content::Other,
    }
}

fn unsupported_type(expected: &str) -> Problem {
    let detail = format!("the body must be {expected}, in UTF-8: say so in `content-type`");
    Problem::new(Code::UnsupportedMediaType, detail)
}

/// The body of a call that says everything in its path: nothing, or `{}`.
pub(crate) struct Nothing;

impl Strict for Nothing {
    fn read(cx: &mut strict::Cx<'_>, at: &strict::Path<'_>, value: strict::Value<'_>) -> Option<Self> {
        strict::Fields::open(cx, at, value, &[]).map(|_| Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_content_type_is_json_and_parameters_are_understood() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            content(&headers)
        };
        assert_eq!(content(&HeaderMap::new()), Content::Json);
        assert_eq!(of("application/JSON; charset=\"UTF-8\""), Content::Json);
        assert_eq!(of("application/x-ndjson"), Content::Lines);
        for other in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1"] {
            assert_eq!(of(other), Content::Other, "{other}");
        }
    }
}

//! Errors on the wire: RFC 9457 problems with a fixed catalogue of codes.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Timestamp;

/// The content type of every error answer.
pub const PROBLEM_JSON: &str = "application/problem+json";

const TYPE_BASE: &str = "https://mainstay.dev/errors/";

/// An error answer (RFC 9457). Boxed, because it is the rare end of many small results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Problem(Box<ProblemBody>);

impl Deref for Problem {
    type Target = ProblemBody;

    fn deref(&self) -> &ProblemBody {
        &self.0
    }
}

impl DerefMut for Problem {
    fn deref_mut(&mut self) -> &mut ProblemBody {
        &mut self.0
    }
}

/// The members of a [`Problem`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProblemBody {
    /// A URI that names the kind of error and leads to its explanation.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "openapi", schema(format = "uri"))]
    pub kind: String,
    /// The kind of error in a few words; the same for every occurrence.
    pub title: String,
    /// The HTTP status of the answer.
    pub status: u16,
    /// What went wrong this time, for people.
    #[serde(default, deserialize_with = "null_is_nothing")]
    pub detail: String,
    /// The path of the request.
    #[serde(default, deserialize_with = "null_is_nothing")]
    pub instance: String,
    /// The code programs decide by.
    pub code: Code,
    /// The request's id, as in the logs.
    #[serde(default, deserialize_with = "null_is_nothing")]
    pub request_id: String,
    /// Whether the same request may succeed later.
    #[serde(default)]
    pub retryable: bool,
    /// What is known about the effect of the request.
    #[serde(default)]
    pub outcome: Outcome,
    /// Every wrong field; empty when no field is to blame.
    #[serde(default)]
    pub errors: Vec<FieldError>,
    /// `lock-held`: who holds the lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// `lock-held`: when the holder's lease ends unless it is renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// `lock-held`: how many wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiters: Option<u64>,
    /// `history-gone`: the oldest sequence number that can still be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seq: Option<u64>,
    /// Whole seconds for the header `Retry-After`, where the server knows better than the code's usual one. Not in the
    /// body.
    #[serde(skip)]
    pub retry_after: Option<u64>,
    /// How many mistakes are known that `errors` has no room for. Not in the body but in words, and there may be more:
    /// what is wrong twice is counted twice, and not everything is read once there are so many.
    #[serde(skip)]
    pub unlisted: usize,
}

/// RFC 9457 leaves members out that say nothing; what stands between us and the server may write them as `null`.
fn null_is_nothing<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Problem {
    /// A problem with the code's status, title and defaults, and nothing wrong with any one field.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(ProblemBody {
            kind: code.type_uri(),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            instance: String::new(),
            code,
            request_id: String::new(),
            retryable: code.is_retryable(),
            outcome: code.outcome(),
            errors: Vec::new(),
            holder: None,
            expires_at: None,
            waiters: None,
            first_seq: None,
            retry_after: None,
            unlisted: 0,
        }))
    }

    /// The refusal of a request with these wrong fields.
    ///
    /// `payload-too-large` when size is all that is wrong, else `validation-failed`.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let only_size =
            !errors.is_empty() && errors.iter().all(|error| error.code == Some(Code::PayloadTooLarge));
        let code = if only_size { Code::PayloadTooLarge } else { Code::ValidationFailed };
        let detail = match errors.as_slice() {
            [one] => format!("{}: {}", one.label(), one.detail),
            more => format!("{} fields are wrong", more.len()),
        };
        Self::new(code, detail).with_errors(errors)
    }

    /// Says that so many mistakes more were made than are listed.
    #[must_use]
    pub fn and_unlisted(mut self, unlisted: usize) -> Self {
        if unlisted > 0 {
            self.unlisted = unlisted;
            let listed = self.errors.len();
            self.detail = format!("more than {listed} fields are wrong; the first {listed} are listed");
        }
        self
    }

    /// Replaces the list of wrong fields.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// Says when to come back.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(u64::try_from(after.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX).max(1));
        self
    }

    /// Says what is known about the effect of the request.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// One wrong field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FieldError {
    /// An RFC 6901 pointer into the body, or `/name` for anything else.
    pub pointer: String,
    /// What is wrong with it, for people.
    pub detail: String,
    /// Where the field is when it is not in the body.
    #[serde(rename = "in", default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The code of this one, where it differs from the problem's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
}

impl FieldError {
    /// A wrong field of the body.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into(), place: None, code: None }
    }

    /// A wrong value outside the body.
    pub fn outside(place: Place, name: &str, detail: impl Into<String>) -> Self {
        let mut pointer = String::with_capacity(name.len() + 1);
        crate::strict::push_token(&mut pointer, name);
        Self { pointer, detail: detail.into(), place: Some(place), code: None }
    }

    /// Gives this error a code of its own.
    #[must_use]
    pub fn with_code(mut self, code: Code) -> Self {
        self.code = Some(code);
        self
    }

    fn label(&self) -> &str {
        if self.pointer.is_empty() { "body" } else { &self.pointer }
    }
}

/// Where a wrong value was, when it was not in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In the path.
    Path,
    /// In the query string.
    Query,
    /// In a header.
    Header,
}

/// What a failed request did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing, definitely.
    NotApplied,
    /// Perhaps everything, perhaps nothing.
    #[default]
    Unknown,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal, $title:literal, $retryable:literal;)*) => {
        /// Every error code of the contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// A code of a newer server that this version does not know.
            Other,
        }

        impl Code {
            /// All codes a server of this version answers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code as it stands on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* Self::Other => "other" }
            }

            /// The HTTP status it is answered with.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* Self::Other => 500 }
            }

            /// A short title, the same for every occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* Self::Other => "unknown error" }
            }

            /// Whether the same request may succeed later, unless the occurrence says otherwise.
            pub const fn is_retryable(self) -> bool {
                match self { $(Self::$name => $retryable,)* Self::Other => false }
            }
        }
    };
}

codes! {
    /// A field is wrong; every wrong field is listed.
    ValidationFailed = "validation-failed", 422, "The request has wrong fields", false;
    /// The body is not JSON.
    MalformedBody = "malformed-body", 400, "The body cannot be read", false;
    /// The body's content type is not one the route reads.
    UnsupportedMediaType = "unsupported-media-type", 415, "The content type is not supported", false;
    /// No token, or one that is not known.
    Unauthenticated = "unauthenticated", 401, "Authentication is needed", false;
    /// The token lacks the scope or the prefix, or the origin is foreign.
    Forbidden = "forbidden", 403, "Not allowed", false;
    /// No such thing, or no such route.
    NotFound = "not-found", 404, "Not found", false;
    /// The route exists, but not with this method.
    MethodNotAllowed = "method-not-allowed", 405, "The method is not allowed here", false;
    /// The claim expired or was taken over; nothing was changed.
    LeaseLost = "lease-lost", 409, "The lease is lost", false;
    /// Inside a commit: this lease was settled before.
    AlreadySettled = "already-settled", 409, "The lease was settled before", false;
    /// Someone else holds the lock.
    LockHeld = "lock-held", 409, "The lock is held", true;
    /// The lease on the lock is gone.
    LockLost = "lock-lost", 409, "The lock is lost", false;
    /// The operation does not fit the state, or a `require` does not hold.
    StateConflict = "state-conflict", 409, "The state does not allow this", false;
    /// The same idempotency key came with another body.
    IdempotencyMismatch = "idempotency-mismatch", 422, "The idempotency key was used for another request", false;
    /// The events asked for are older than retention.
    HistoryGone = "history-gone", 410, "The history is gone", false;
    /// The body or a value in it is larger than the limit.
    PayloadTooLarge = "payload-too-large", 413, "Too large", false;
    /// The bounded queue is full.
    QueueFull = "queue-full", 429, "The queue is full", true;
    /// The caller is over its rate.
    RateLimited = "rate-limited", 429, "Too many requests", true;
    /// This store cannot do that.
    NotSupported = "not-supported", 501, "Not supported by this store", false;
    /// Shed by the admission limiter.
    Overloaded = "overloaded", 503, "Overloaded", true;
    /// The server is not ready yet: its admin listener answers so until it has started.
    Initializing = "initializing", 503, "Still starting", true;
    /// The server is shutting down.
    Draining = "draining", 503, "Shutting down", true;
    /// The store refused or timed out; nothing was acknowledged.
    StorageUnavailable = "storage-unavailable", 503, "The store is unavailable", true;
    /// The caller's or the server's time limit passed.
    DeadlineExceeded = "deadline-exceeded", 504, "Out of time", true;
    /// A bug; the log says more.
    Internal = "internal", 500, "Internal error", false;
}

impl Code {
    /// The URI in a problem's `type`.
    pub fn type_uri(self) -> String {
        format!("{TYPE_BASE}{}", self.as_str())
    }

    /// What is known of the effect when the occurrence does not say.
    const fn outcome(self) -> Outcome {
        match self {
            Self::Internal | Self::StorageUnavailable | Self::DeadlineExceeded | Self::Other => {
                Outcome::Unknown
            }
            _ => Outcome::NotApplied,
        }
    }

    /// The code with this name; [`Code::Other`] when there is none.
    pub fn parse(text: &str) -> Self {
        Self::ALL.iter().copied().find(|code| code.as_str() == text).unwrap_or(Self::Other)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Ok(Self::parse(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_every_member_of_the_contract() {
        let problem = Problem::invalid(vec![FieldError::new("/jobs/3/priority", "must be 0 to 9")]);
        let json: serde_json::Value = serde_json::to_value(&problem).unwrap();
        for member in [
            "type",
            "title",
            "status",
            "detail",
            "instance",
            "code",
            "request_id",
            "retryable",
            "outcome",
            "errors",
        ] {
            assert!(json.get(member).is_some(), "{member} is missing");
        }
        assert_eq!(json["type"], "https://mainstay.dev/errors/validation-failed");
        assert_eq!(json["status"], 422);
        assert_eq!(json["outcome"], "not-applied");
        assert_eq!(
            json["errors"][0],
            serde_json::json!({"pointer": "/jobs/3/priority", "detail": "must be 0 to 9"})
        );
        assert_eq!(serde_json::from_value::<Problem>(json).unwrap(), problem);
    }

    #[test]
    fn errors_is_there_when_empty() {
        let json = serde_json::to_string(&Problem::new(Code::LeaseLost, "gone")).unwrap();
        assert!(json.contains(r#""errors":[]"#), "{json}");
    }

    #[test]
    fn a_code_of_a_newer_server_is_read_as_other() {
        let problem: Problem = serde_json::from_str(
            r#"{"type":"about:blank","title":"t","status":418,"code":"teapot","errors":[],"new_member":1}"#,
        )
        .unwrap();
        assert_eq!((problem.code, problem.status), (Code::Other, 418));
    }

    #[test]
    fn every_code_reads_back_and_has_an_error_status() {
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), *code);
            assert!((400..600).contains(&code.status()));
        }
        assert_eq!(Code::ALL.len(), 24);
    }

    #[test]
    fn size_alone_is_413_but_not_beside_other_mistakes() {
        let size = FieldError::new("/payload", "too large").with_code(Code::PayloadTooLarge);
        assert_eq!(Problem::invalid(vec![size.clone()]).status, 413);
        assert_eq!(Problem::invalid(vec![size, FieldError::new("/kind", "is missing")]).status, 422);
    }
}

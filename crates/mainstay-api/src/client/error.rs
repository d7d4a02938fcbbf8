use std::fmt;
use std::time::Duration;

use crate::{Code, Outcome, Problem};

/// Why a call failed.
#[derive(Debug)]
pub struct ApiError {
    kind: ErrorKind,
    detail: String,
    problem: Option<Box<Problem>>,
    retry_after: Option<Duration>,
    /// Whatever became of the call, it changes nothing.
    read: bool,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The kinds of [`ApiError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The address, token, key or body cannot be used; nothing was sent.
    Url,
    /// No connection could be opened; nothing was sent.
    Connect,
    /// The connection broke before the answer was complete.
    Broken,
    /// The call's time was over.
    Deadline,
    /// The answer is not one of a mainstay server.
    Answer,
    /// The server answered a problem.
    Problem,
}

impl ApiError {
    pub(super) fn unusable(detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Url, detail)
    }

    pub(super) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), problem: None, retry_after: None, read: false, source: None }
    }

    pub(super) fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(super) fn problem_answer(problem: Problem) -> Self {
        let mut error = Self::new(ErrorKind::Problem, problem.to_string());
        error.problem = Some(Box::new(problem));
        error
    }

    pub(super) fn with_retry_after(mut self, after: Option<Duration>) -> Self {
        self.retry_after = after;
        self
    }

    /// It is of a call that only reads.
    pub(super) fn of_read(mut self, read: bool) -> Self {
        self.read = read;
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The server's problem, if it answered one.
    pub fn problem(&self) -> Option<&Problem> {
        self.problem.as_deref()
    }

    /// The problem's code, if the server answered one.
    pub fn code(&self) -> Option<Code> {
        self.problem().map(|problem| problem.code)
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match (self.kind, &self.problem) {
            (_, Some(problem)) => problem.retryable,
            (kind, None) => matches!(kind, ErrorKind::Connect | ErrorKind::Broken | ErrorKind::Deadline),
        }
    }

    /// What is known about the effect of the call.
    pub fn outcome(&self) -> Outcome {
        match (self.kind, &self.problem) {
            (_, Some(problem)) => problem.outcome,
            (ErrorKind::Url | ErrorKind::Connect, None) => Outcome::NotApplied,
            _ if self.read => Outcome::NotApplied,
            _ => Outcome::Unknown,
        }
    }

    /// How long the server asked to stay away.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the client itself tries again: wider than [`is_retryable`](Self::is_retryable) by what proxies
    /// answer, and narrower by what waiting a moment does not change (a held lock, a full queue: how long a producer
    /// has patience is its own affair).
    pub(super) fn is_worth_another_try(&self) -> bool {
        match (self.kind, &self.problem) {
            (ErrorKind::Connect | ErrorKind::Broken, _) => true,
            (_, Some(problem)) => {
                matches!(problem.status, 429 | 502 | 503) && problem.code != Code::QueueFull
            }
            // Without a problem only a proxy's refusal carries this.
            (ErrorKind::Answer, None) => self.retry_after.is_some(),
            _ => false,
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for ApiError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

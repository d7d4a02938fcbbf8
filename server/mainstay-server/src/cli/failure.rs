//! What goes wrong, what to do about it, and the exit code.

use std::fmt::Write as _;
use std::process::ExitCode;

use mainstay_api::client::{ApiError, ErrorKind};
use mainstay_api::{Code, Outcome, Problem};
use serde::Serialize;

use super::session::{Session, note};
use super::words::clean;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
/// `EX_UNAVAILABLE`.
const UNAVAILABLE: u8 = 69;
/// `EX_CONFIG`.
const CONFIG: u8 = 78;

/// Why a command did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Failure {
    #[serde(skip)]
    code: u8,
    /// What is wrong, in one line.
    title: String,
    /// More lines about it: causes, wrong fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<String>,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    tip: Option<String>,
    /// What the server said.
    #[serde(skip)]
    problem: Option<Box<Problem>>,
}

impl Failure {
    /// Exit code 1.
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Self { code: FAILED, title: title.into(), details: Vec::new(), tip: None, problem: None }
    }

    /// Exit code 2: what was asked for makes no sense.
    pub(crate) fn usage(title: impl Into<String>) -> Self {
        Self { code: USAGE, ..Self::new(title) }
    }

    /// Exit code 69: what is needed is not there.
    pub(crate) fn unavailable(title: impl Into<String>) -> Self {
        Self { code: UNAVAILABLE, ..Self::new(title) }
    }

    /// Exit code 78: the configuration is wrong.
    pub(crate) fn config(title: impl Into<String>) -> Self {
        Self { code: CONFIG, ..Self::new(title) }
    }

    /// A failure that has been told already, or that nobody is there to hear.
    pub(crate) fn silent(code: u8) -> Self {
        Self { code, ..Self::new("") }
    }

    /// A call to the server at `url` that failed.
    pub(crate) fn of_call(error: &ApiError, url: &str) -> Self {
        if let Some(problem) = error.problem() {
            return Self::of_problem(problem);
        }
        let mut failure = Self::new(error.to_string());
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            source = cause.source();
            // The innermost says what happened; those above it only say where.
            failure.details = vec![clean(&cause.to_string())];
        }
        match error.kind() {
            ErrorKind::Connect => {
                failure.code = UNAVAILABLE;
                failure.title = format!("no server answers at {url}");
                failure.tip = Some(
                    "start one with `mainstay serve`, or name it with --server or MAINSTAY_SERVER".to_owned(),
                );
            }
            ErrorKind::Broken | ErrorKind::Deadline => {
                failure.code = UNAVAILABLE;
                failure.tip = Some(match error.outcome() {
                    Outcome::NotApplied => "nothing was changed: ask again".to_owned(),
                    Outcome::Unknown => {
                        "it may have been done all the same: look before you repeat it".to_owned()
                    }
                });
            }
            ErrorKind::Answer => {
                failure.tip = Some(format!("is {url} a mainstay server? name it with --server or --admin"));
            }
            ErrorKind::Url => failure.code = USAGE,
            _ => {}
        }
        failure
    }

    /// As [`of_call`](Self::of_call), for the admin listener.
    pub(crate) fn of_admin_call(error: &ApiError, url: &str) -> Self {
        let mut failure = Self::of_call(error, url);
        if error.kind() == ErrorKind::Connect {
            failure.title = format!("no admin listener answers at {url}");
            failure.tip = Some(
                "start a server with `mainstay serve`, or name it with --admin or MAINSTAY_ADMIN".to_owned(),
            );
        }
        failure
    }

    /// A problem: the server's, or one of its readers' that was asked here.
    pub(crate) fn of_problem(problem: &Problem) -> Self {
        let mut failure = Self::new(match problem.detail.as_str() {
            "" => format!("{} ({})", problem.title, problem.code),
            detail => format!("{} ({}): {}", problem.title, problem.code, clean(detail)),
        });
        // One field error is the detail already.
        if problem.errors.len() > 1 {
            failure.details = problem
                .errors
                .iter()
                .map(|error| clean(&format!("{}: {}", error.pointer, error.detail)))
                .collect();
        }
        failure.tip = tip(problem);
        failure.problem = Some(Box::new(problem.clone()));
        failure
    }

    /// Standard output that cannot be written to.
    pub(crate) fn of_output(error: &std::io::Error) -> Self {
        match error.kind() {
            // Whoever read it has seen enough.
            std::io::ErrorKind::BrokenPipe => Self::silent(FAILED),
            _ => Self::new(format!("cannot write the answer: {error}")),
        }
    }

    /// Adds a line about it.
    #[must_use]
    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.details.push(detail.into());
        self
    }

    /// Says what to do next.
    #[must_use]
    pub(crate) fn tip(mut self, tip: impl Into<String>) -> Self {
        self.tip = Some(tip.into());
        self
    }

    /// The same with another exit code.
    #[must_use]
    pub(crate) fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// What is wrong, in one line.
    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    /// What to do next.
    pub(crate) fn next_step(&self) -> Option<&str> {
        self.tip.as_deref()
    }

    /// The code the process ends with.
    pub(crate) fn exit_code(&self) -> u8 {
        self.code
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("error: {}", self.title);
        for detail in &self.details {
            let _ = write!(text, "\n  {detail}");
        }
        if let Some(tip) = &self.tip {
            let _ = write!(text, "\n  tip: {tip}");
        }
        text
    }

    /// Tells it, and is the exit code.
    pub(crate) fn report(&self, session: &Session) -> ExitCode {
        if !self.title.is_empty() {
            note(&if session.is_text() { self.text() } else { self.json() });
        }
        ExitCode::from(self.code)
    }

    /// The server's own document where there is one.
    pub(crate) fn json(&self) -> String {
        let text = match &self.problem {
            Some(problem) => serde_json::to_string(problem),
            None => serde_json::to_string(self),
        };
        text.unwrap_or_default()
    }
}

fn tip(problem: &Problem) -> Option<String> {
    let tip = match problem.code {
        Code::Unauthenticated => {
            "put a token into MAINSTAY_AUTH_TOKEN; `mainstay token create --name N --scope S` makes one"
        }
        Code::Forbidden => "`mainstay token list` shows what each token may do",
        Code::NotFound => {
            "`mainstay jobs list`, `mainstay schedules list` and so on show what is there; finished jobs are forgotten after a while"
        }
        Code::LockHeld => "`mainstay locks show NAME` says who has it and who waits",
        Code::LockLost => "somebody else may have the lock by now: stop what it protected",
        Code::QueueFull => {
            "run more workers, raise the queue's `max_depth` or `max_age_ms` with `mainstay queues set`, or wait for room \
             with --patience-ms"
        }
        Code::Initializing => {
            "the server is still starting (a large store takes a while): try again in a moment"
        }
        Code::Draining => "the server is shutting down: try again in a moment, or at another one",
        Code::Overloaded | Code::RateLimited | Code::StorageUnavailable => "try again in a moment",
        Code::PayloadTooLarge => "keep large data elsewhere, and put its address into the job",
        Code::StateConflict => "`mainstay jobs show ID` says what state a job is in",
        _ if problem.outcome == Outcome::Unknown => {
            let look = "it may have been done all the same: look before you repeat it";
            return Some(match problem.request_id.as_str() {
                "" => look.to_owned(),
                id => format!("{look}; the server's log says more about request {}", clean(id)),
            });
        }
        _ => return None,
    };
    Some(tip.to_owned())
}

#[cfg(test)]
mod tests {
    use mainstay_api::FieldError;
    use mainstay_api::client::{HttpClient, Options};

    use super::*;

    #[test]
    fn every_wrong_field_is_told() {
        let errors =
            vec![FieldError::new("/priority", "must be 0 to 9"), FieldError::new("/kind", "is missing")];
        let text = Failure::of_problem(&Problem::invalid(errors)).text();
        assert!(text.contains("validation-failed"), "{text}");
        assert!(text.contains("\n  /priority: must be 0 to 9\n  /kind: is missing"), "{text}");
    }

    #[test]
    fn a_refusal_says_what_to_do_next() {
        for (code, part) in [
            (Code::Unauthenticated, "MAINSTAY_AUTH_TOKEN"),
            (Code::QueueFull, "queues set"),
            (Code::Internal, "look before you repeat it"),
        ] {
            let failure = Failure::of_problem(&Problem::new(code, "x"));
            assert!(failure.next_step().unwrap().contains(part), "{code}");
            assert_eq!(failure.exit_code(), 1);
        }
    }

    #[test]
    fn what_the_server_says_cannot_steer_the_terminal() {
        let text = Failure::of_problem(&Problem::new(Code::NotFound, "no \u{1b}[2J job")).text();
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[tokio::test]
    async fn no_server_is_69_and_names_the_command_that_starts_one() {
        // Port 9 of this machine: nobody listens there, and nothing leaves the machine.
        let url = "http://127.0.0.1:9";
        let client = HttpClient::new(url, Options { retry: false, ..Options::default() }).unwrap();
        let failure = Failure::of_call(&client.store().await.unwrap_err(), url);
        assert_eq!(failure.exit_code(), 69);
        assert!(failure.text().contains("mainstay serve"), "{}", failure.text());
    }
}

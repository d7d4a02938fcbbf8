//! The one error type of the library.

use std::error::Error as StdError;
use std::fmt;

/// A `Result` with the library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Why something could not be done, and with which code the process ends if nobody handles it.
///
/// `Display` says this level only; causes are behind `source()`.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<BoxError>,
    exit_code: Option<u8>,
}

/// What kind of failure an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration is wrong. Exit code 78.
    Config,
    /// A store or another dependency cannot be reached now. Exit code 69.
    Unavailable,
    /// A store cannot be trusted any more, as after a failed sync. Exit code 74.
    Untrusted,
    /// A time limit passed. Exit code 1.
    TimedOut,
    /// A shutdown came first. Exit code 0, because stopping when told to is not a failure.
    Interrupted,
    /// Anything else. Exit code 1.
    Other,
}

impl Error {
    /// An error of this kind. The message is lower case and has no full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), source: None, exit_code: None }))
    }

    /// The configuration is wrong: the process ends with 78.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// A dependency cannot be reached: the process ends with 69.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// A store cannot be trusted any more: the process ends with 74.
    pub fn untrusted(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Untrusted, message)
    }

    /// Wraps any error. One of our own keeps its kind and exit code.
    pub fn from_any(error: impl Into<BoxError>) -> Self {
        match error.into().downcast::<Error>() {
            Ok(own) => *own,
            Err(foreign) => {
                let kind = foreign.downcast_ref::<std::io::Error>().map_or(ErrorKind::Other, io_kind);
                let message = foreign.to_string();
                // It speaks for itself: only what is behind it is a further cause.
                let source = foreign.source().map(|cause| BoxError::from(cause.to_string()));
                Self(Box::new(Inner { kind, message, source, exit_code: None }))
            }
        }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Ends the process with this code instead of the kind's, if nobody handles the error.
    #[must_use]
    pub fn with_exit_code(mut self, code: u8) -> Self {
        self.0.exit_code = Some(code);
        self
    }

    /// Says at which step it happened; kind and exit code stay, the old error becomes the cause.
    #[must_use]
    pub fn context(self, message: impl Into<String>) -> Self {
        let (kind, exit_code) = (self.0.kind, self.0.exit_code);
        Self(Box::new(Inner { kind, message: message.into(), source: Some(Box::new(self)), exit_code }))
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether doing the same again may work without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Unavailable | ErrorKind::TimedOut)
    }

    /// The process's exit code if this error ends it.
    pub fn exit_code(&self) -> u8 {
        self.0.exit_code.unwrap_or(match self.0.kind {
            ErrorKind::Config => 78,
            ErrorKind::Unavailable => 69,
            ErrorKind::Untrusted => 74,
            ErrorKind::Interrupted => 0,
            ErrorKind::TimedOut | ErrorKind::Other => 1,
        })
    }

    /// The whole chain on one line: this level, then every cause.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

fn io_kind(error: &std::io::Error) -> ErrorKind {
    use std::io::ErrorKind as Io;
    match error.kind() {
        Io::ConnectionRefused | Io::ConnectionReset | Io::ConnectionAborted | Io::NotConnected => {
            ErrorKind::Unavailable
        }
        Io::TimedOut => ErrorKind::TimedOut,
        _ => ErrorKind::Other,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.chain())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

// A blanket `From<E: Error>` would collide with `From<Error> for Error`; these are what `?` meets in a boot.
macro_rules! from_errors {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::from_any(error)
            }
        })*
    };
}

from_errors! {
    crate::tasks::TaskError, crate::lock::fence::NotAlone,
    std::io::Error, std::net::AddrParseError, std::num::ParseIntError, std::num::ParseFloatError,
    std::str::Utf8Error, std::string::FromUtf8Error, std::env::VarError, std::fmt::Error,
    serde_json::Error, tokio::time::error::Elapsed, String, &'static str, BoxError,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_the_kind_unless_said_otherwise() {
        assert_eq!(Error::config("x").exit_code(), 78);
        assert_eq!(Error::unavailable("x").exit_code(), 69);
        assert_eq!(Error::untrusted("x").exit_code(), 74);
        assert_eq!(Error::from("x").exit_code(), 1);
        assert_eq!(Error::config("x").with_exit_code(3).exit_code(), 3);
    }

    #[test]
    fn own_errors_keep_kind_and_code_when_boxed_or_given_context() {
        let boxed: BoxError = Box::new(Error::untrusted("sync failed"));
        let error = Error::from_any(boxed).context("cannot open store");
        assert_eq!(error.exit_code(), 74);
        assert_eq!(error.chain(), "cannot open store: sync failed");
    }

    #[test]
    fn foreign_errors_are_named_once() {
        assert_eq!(Error::from("boom").chain(), "boom");
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert!(Error::from(refused).is_retryable());
    }
}

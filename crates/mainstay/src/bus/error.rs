//! Why an event was not published, answered or heard.

use std::fmt;

use crate::policy::{Classified, Verdict};

/// Why an event is not with everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// A topic or a filter that is none. Nobody has the event.
    Invalid(String),
    /// The bus is closed: the service stops. Nobody has the event.
    Closed,
    /// A subscription had no room, and the publisher does not wait. The others have the event.
    #[non_exhaustive]
    Full {
        /// Whose queue it was.
        subscriber: String,
    },
    /// A subscription had no room for too long. The others have the event.
    #[non_exhaustive]
    TimedOut {
        /// Whose queue it was.
        subscriber: String,
    },
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AskError {
    /// It could not be published.
    Publish(PublishError),
    /// Nobody is subscribed, or nobody who is has an answer.
    NoAnswer,
    /// No answer came in time. One may be on its way.
    TimedOut,
    /// The handler gave up, after its last attempt.
    Failed(String),
    /// The answer is not what was asked for.
    Unreadable(String),
}

/// Why a listener has no event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenError {
    /// So many events were dropped because the listener was too slow. The next one is there.
    Lagged(u64),
    /// An event of another shape than the listener's. The next one is there.
    Unreadable(String),
    /// The bus is closed, and everything has been heard.
    Closed,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(what) => f.write_str(what),
            Self::Closed => f.write_str("the bus is closed"),
            Self::Full { subscriber } => write!(f, "subscriber {subscriber} has no room"),
            Self::TimedOut { subscriber } => write!(f, "subscriber {subscriber} had no room in time"),
        }
    }
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish(_) => f.write_str("the question could not be published"),
            Self::NoAnswer => f.write_str("nobody answers"),
            Self::TimedOut => f.write_str("nobody answered in time"),
            Self::Failed(why) => write!(f, "the handler failed: {why}"),
            Self::Unreadable(why) => write!(f, "the answer is of another shape: {why}"),
        }
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lagged(events) => {
                write!(f, "{events} events were dropped because the listener is too slow")
            }
            Self::Unreadable(why) => write!(f, "an event of another shape: {why}"),
            Self::Closed => f.write_str("the bus is closed"),
        }
    }
}

impl std::error::Error for PublishError {}

impl std::error::Error for AskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Publish(error) => Some(error),
            _ => None,
        }
    }
}

impl std::error::Error for ListenError {}

impl From<PublishError> for AskError {
    fn from(error: PublishError) -> Self {
        Self::Publish(error)
    }
}

impl Classified for PublishError {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Invalid(_) | Self::Closed => Verdict::Permanent,
            Self::Full { .. } | Self::TimedOut { .. } => Verdict::Overloaded,
        }
    }
}

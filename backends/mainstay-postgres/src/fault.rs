//! What an error of PostgreSQL means for the store.

use mainstay_core::{Error, ErrorKind};
use tokio_postgres::error::{DbError, SqlState};

/// Raised by the function `prove` of the schema.
pub(crate) const DEPOSED: &str = "MS001";
/// Raised by the function `prove_tables`.
const ELSEWHERE: &str = "MS002";

/// Something went wrong between here and the database.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The database has said no: the transaction did not happen.
    Refused(tokio_postgres::Error),
    /// The connection is gone or silent: what was under way may have happened.
    Lost(Error),
    /// It cannot be sent, and nothing was.
    NotSent(Error),
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(e: tokio_postgres::Error) -> Trouble {
        match e.as_db_error() {
            // A server that stops its sessions says so and hangs up: its last transaction may have happened.
            Some(db) if is_end_of_session(db) => Trouble::Lost(unreachable(&e)),
            Some(_) => Trouble::Refused(e),
            None => Trouble::Lost(unreachable(&e)),
        }
    }
}

impl Trouble {
    /// Another process leads the store now.
    pub(crate) fn is_deposed(&self) -> bool {
        matches!(self, Trouble::Refused(e) if e.code().is_some_and(|code| code.code() == DEPOSED))
    }

    /// Somebody else has what it waits for.
    pub(crate) fn is_locked(&self) -> bool {
        matches!(self, Trouble::Refused(e) if e.code() == Some(&SqlState::LOCK_NOT_AVAILABLE))
    }

    /// The tables are not where they were left.
    pub(crate) fn is_elsewhere(&self) -> bool {
        matches!(self, Trouble::Refused(e) if e.code().is_some_and(|code| code.code() == ELSEWHERE))
    }

    /// Of a read, or of a transaction that is known not to have happened.
    pub(crate) fn error(self) -> Error {
        match self {
            Trouble::Refused(e) => refused(e),
            Trouble::Lost(error) | Trouble::NotSent(error) => error,
        }
    }

    /// Trying the same again would end the same: rows are not as the engine knows them.
    pub(crate) fn is_damage(&self) -> bool {
        let Trouble::Refused(e) = self else { return false };
        let code = e.code().map(SqlState::code).unwrap_or_default();
        // Integrity constraints, and data or indexes that are corrupted.
        code.starts_with("23") || code.starts_with("XX")
    }
}

fn is_end_of_session(db: &DbError) -> bool {
    let ends = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::CONNECTION_EXCEPTION,
        SqlState::CONNECTION_DOES_NOT_EXIST,
        SqlState::CONNECTION_FAILURE,
        SqlState::PROTOCOL_VIOLATION,
    ];
    ends.contains(db.code())
}

/// The whole chain of causes: what `tokio_postgres` says by itself is often only "db error".
pub(crate) fn words(e: &(dyn std::error::Error + 'static)) -> String {
    let mut text = e.to_string();
    let mut cause = e.source();
    while let Some(e) = cause {
        let next = e.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = e.source();
    }
    text
}

fn unreachable(e: &tokio_postgres::Error) -> Error {
    let message = format!("the database cannot be reached: {}; it is tried again", words(e));
    Error::new(ErrorKind::Unavailable, message)
}

fn refused(e: tokio_postgres::Error) -> Error {
    let text = words(&e);
    let Some(code) = e.code().cloned() else { return unreachable(&e) };
    let class = code.code().get(..2).unwrap_or_default();
    let (kind, advice) = match (class, &code) {
        (_, &SqlState::READ_ONLY_SQL_TRANSACTION) => {
            (ErrorKind::Unavailable, "this server takes no writes (a standby?): name the primary in the URL")
        }
        (_, &SqlState::UNTRANSLATABLE_CHARACTER | &SqlState::CHARACTER_NOT_IN_REPERTOIRE) => {
            (ErrorKind::Invalid, "PostgreSQL keeps no NUL characters in text")
        }
        ("53", _) => (ErrorKind::Unavailable, "the server is out of disk, memory or connections"),
        ("54", _) => (ErrorKind::Invalid, "a value is larger than PostgreSQL can keep"),
        ("57", _) | ("55", _) | ("40", _) => (ErrorKind::Unavailable, "try again"),
        ("58", _) => (ErrorKind::Unavailable, "the server's disk has trouble"),
        ("42", _) | ("3F", _) => {
            (ErrorKind::Unavailable, "tables or privileges are not as they should be: see docs/postgres.md")
        }
        ("23", _) | ("XX", _) => {
            (ErrorKind::Untrusted, "rows are not as this process knows them; did something else write them?")
        }
        _ => (ErrorKind::Unavailable, "try again"),
    };
    Error::new(kind, format!("the database refused: {text} (SQLSTATE {}); {advice}", code.code())).because(e)
}

/// A row that makes no sense.
pub(crate) fn damaged(place: &str, what: &str) -> Error {
    let message = format!(
        "the tables of the store are damaged: {place}: {what}; stop everything that uses the schema and restore a backup"
    );
    Error::new(ErrorKind::Untrusted, message)
}

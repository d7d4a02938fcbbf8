//! `mainstay version`.

use super::{Outcome, Session};

pub(crate) fn run(session: &Session) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    session.answer(&serde_json::json!({ "version": version }), || format!("mainstay {version}"))
}

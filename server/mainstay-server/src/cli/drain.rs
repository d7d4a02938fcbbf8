//! `mainstay drain`.

use super::{Failure, Outcome, Session};

pub(crate) async fn run(session: &Session) -> Outcome {
    let admin = session.admin()?;
    admin.drain().await.map_err(|error| Failure::of_admin_call(&error, admin.url()))?;
    session.answer(&serde_json::json!({ "status": "draining" }), || "the server drains".to_owned())
}

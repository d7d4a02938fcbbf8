//! The server's part of the admin listener: access tokens, audit trail, backup; and who may on all of it.

mod audit;
mod backup;
mod guard;
mod tokens;

use axum::Router;
use axum::routing::{delete, get, post};

use crate::api::{Api, with};

/// Adds the server's routes to the chassis' (`/metrics`, `/admin/drain`, …) and puts all of them behind authentication.
pub fn extend(chassis: Router, api: Api) -> Router {
    let own = Router::new()
        .route("/admin/tokens", get(with(tokens::list)).post(with(tokens::create)))
        .route("/admin/tokens/{name}", delete(with(tokens::revoke)))
        .route("/admin/audit", get(with(audit::list)))
        .route("/admin/backup", post(with(backup::backup)))
        .with_state(api.clone());
    guard::guarded(chassis.merge(own), api)
}

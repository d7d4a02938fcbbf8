//! What this store can: `GET /v1/store`.

use http::StatusCode;
use mainstay::core::access::ScopeKind;
use mainstay::core::store::{CommitScope, TokenOrder};
use mainstay_api::types as wire;

use super::call::{Answer, Call};
use super::json;

/// What of the contract this version has, by name.
const FEATURES: &[&str] = &[
    "jobs",
    "queues",
    "dead",
    "bulk",
    "settle",
    "schedules",
    "workers",
    "locks",
    "events",
    "groups",
    "commit",
];

pub(crate) async fn info(call: Call) -> Answer {
    call.input().finish(Some(()))?;
    call.caller.must_sometimes(ScopeKind::Read)?;
    let can = call.api.store.capabilities();
    let info = wire::StoreInfo {
        store: can.store.to_owned(),
        durable: can.durable,
        commit_scope: match can.commit_scope {
            CommitScope::Store => wire::CommitScope::Store,
            CommitScope::Partition => wire::CommitScope::Partition,
            CommitScope::Single => wire::CommitScope::Single,
        },
        token_order: match can.token_order {
            TokenOrder::Store => wire::TokenOrder::Store,
            TokenOrder::Name => wire::TokenOrder::Name,
        },
        seq_at_commit: can.seq_at_commit,
        exact_depth: can.exact_depth,
        features: FEATURES.iter().map(|feature| (*feature).to_owned()).collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    json(StatusCode::OK, &info)
}

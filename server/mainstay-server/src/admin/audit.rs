//! What was done by whom: `GET /admin/audit`.

use http::StatusCode;
use mainstay::core::access::ScopeKind;
use mainstay::core::store::{Query, Record};
use mainstay_api::Timestamp;
use mainstay_api::query::PageQuery;
use mainstay_api::types::{AuditRecord, Page};

use crate::api::{Answer, Call, error, json, page, request_and_reason};

pub(super) async fn list(call: Call) -> Answer {
    let mut input = call.input();
    let query = input.query(PageQuery::parse);
    let (query, _) = input.finish(query)?;
    call.caller.must_always(ScopeKind::Admin)?;
    let slice = call.api.store.store().list(&Query::Audit, &page(&query)).await;
    let slice = slice.map_err(|error| error::failed(&error))?;
    let items = slice.items.iter().filter_map(|record| match record {
        Record::Audit(record) => {
            let (request_id, reason) = request_and_reason(record);
            Some(AuditRecord {
                at: Timestamp(record.at.0),
                principal: Some(record.actor.clone())
                    .filter(|actor| !actor.is_empty() && actor != "anonymous"),
                action: record.action.clone(),
                target: record.subject.clone(),
                reason: reason.map(str::to_owned),
                request_id: request_id.map(str::to_owned),
            })
        }
        _ => None,
    });
    json(StatusCode::OK, &Page { items: items.collect(), next_cursor: slice.next })
}

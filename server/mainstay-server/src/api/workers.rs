//! Who claims what: `GET /v1/workers`.

use http::StatusCode;
use mainstay::core::access::ScopeKind;
use mainstay::core::store::{Query, Record};
use mainstay_api::query::PageQuery;
use mainstay_api::types::{Page, WorkerView};

use super::call::{Answer, Call};
use super::jobs::read;
use super::{convert, error, json};

pub(crate) async fn list(call: Call) -> Answer {
    let mut input = call.input();
    let query = input.query(PageQuery::parse);
    let (query, _) = input.finish(query)?;
    call.caller.must_sometimes(ScopeKind::Read)?;
    let slice = call.api.store.store().list(&Query::Workers, &read::page(&query)).await;
    let slice = slice.map_err(|error| error::failed(&error))?;
    let visible = slice.items.iter().filter_map(|record| match record {
        Record::Worker(worker) if call.caller.may(ScopeKind::Read, worker.name.as_str()) => {
            Some(WorkerView {
                name: worker.name.to_string(),
                queues: worker.queues.iter().map(ToString::to_string).collect(),
                running: worker.running,
                last_seen: convert::wire_time(worker.last_seen),
            })
        }
        _ => None,
    });
    json(StatusCode::OK, &Page { items: visible.collect(), next_cursor: slice.next })
}

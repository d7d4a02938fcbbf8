//! Queues: `/v1/queues`, `/v1/queues/{queue}` and what is done to them.

use http::StatusCode;
use mainstay::core::access::ScopeKind;
use mainstay::core::name::QueueName;
use mainstay::core::op::{Op, Reply};
use mainstay::core::store::{Query, Record};
use mainstay_api::Problem;
use mainstay_api::query::PageQuery;
use mainstay_api::types::{Page, Purged, QueueConfig};
use serde::Serialize;

use super::call::{Answer, Call};
use super::input::Nothing;
use super::jobs::read;
use super::{audit, convert, empty, error, json};

/// How many jobs one op purges.
const CHUNK: u32 = 1_000;

pub(crate) async fn list(call: Call) -> Answer {
    let mut input = call.input();
    let query = input.query(PageQuery::parse);
    let (query, _) = input.finish(query)?;
    call.caller.must_sometimes(ScopeKind::Read)?;
    let slice = call.api.store.store().list(&Query::Queues, &read::page(&query)).await;
    let slice = slice.map_err(|error| error::failed(&error))?;
    let visible = slice.items.iter().filter_map(|record| match record {
        Record::Queue(queue) if call.caller.may(ScopeKind::Read, queue.name.as_str()) => {
            Some(convert::queue_view(queue))
        }
        _ => None,
    });
    json(StatusCode::OK, &Page { items: visible.collect(), next_cursor: slice.next })
}

pub(crate) async fn one(call: Call) -> Answer {
    let mut input = call.input();
    let queue = input.queue();
    let (queue, _) = input.finish(queue)?;
    call.caller.must(ScopeKind::Read, queue.as_str())?;
    view(&call, &queue).await
}

pub(crate) async fn put(call: Call) -> Answer {
    let mut input = call.input();
    let queue = input.queue();
    let config = input.body::<QueueConfig>()?;
    let ((queue, config), _) = input.finish(queue.zip(config))?;
    call.caller.must(ScopeKind::Admin, queue.as_str())?;
    let change = Op::PutQueue { queue: queue.clone(), config: convert::queue_config(&config) };
    call.apply(vec![change, audit(&call, "queue.put", queue.as_str())], None).await?;
    view(&call, &queue).await
}

pub(crate) async fn delete(call: Call) -> Answer {
    let mut input = call.input();
    let queue = input.queue();
    let (queue, _) = input.finish(queue)?;
    call.caller.must(ScopeKind::Admin, queue.as_str())?;
    let change = Op::DeleteQueue { queue: queue.clone() };
    call.apply(vec![change, audit(&call, "queue.delete", queue.as_str())], None).await?;
    empty()
}

pub(crate) async fn pause(call: Call) -> Answer {
    set_paused(call, true).await
}

pub(crate) async fn resume(call: Call) -> Answer {
    set_paused(call, false).await
}

async fn set_paused(call: Call, paused: bool) -> Answer {
    #[derive(Serialize)]
    struct Paused<'q> {
        name: &'q str,
        paused: bool,
    }
    let mut input = call.input();
    let queue = input.queue();
    input.keyed();
    let nothing = input.body::<Nothing>()?;
    let ((queue, _), keyed) = input.finish(queue.zip(nothing))?;
    call.caller.must(ScopeKind::Admin, queue.as_str())?;
    let change = Op::SetPaused { queue: queue.clone(), paused };
    let action = if paused { "queue.pause" } else { "queue.resume" };
    let ops = vec![change, audit(&call, action, queue.as_str())];
    call.apply(ops, keyed.map(|keyed| keyed.whole())).await?;
    json(StatusCode::OK, &Paused { name: queue.as_str(), paused })
}

/// In chunks, so that other callers are served in between.
pub(crate) async fn purge(call: Call) -> Answer {
    let mut input = call.input();
    let queue = input.queue();
    input.keyed();
    let nothing = input.body::<Nothing>()?;
    let ((queue, _), keyed) = input.finish(queue.zip(nothing))?;
    call.caller.must(ScopeKind::Admin, queue.as_str())?;
    let mut purged = 0;
    for chunk in 0.. {
        let mut ops = vec![Op::Purge { queue: queue.clone(), limit: CHUNK }];
        if chunk == 0 {
            ops.push(audit(&call, "queue.purge", queue.as_str()));
        }
        // A repeat adds up the same chunks: the last of them was the first that was not full.
        let key = keyed.map(|keyed| keyed.part("chunk", chunk));
        match call.apply(ops, key).await?.0 {
            Reply::CountSoFar(count) => purged += count,
            reply => {
                let count = count(reply)?;
                purged += count;
                if count < u64::from(CHUNK) {
                    break;
                }
            }
        }
    }
    json(StatusCode::OK, &Purged { purged })
}

/// The number in a reply to a bulk op.
pub(super) fn count(reply: Reply) -> Result<u64, Problem> {
    match reply {
        Reply::Count(count) => Ok(count),
        _ => Err(error::internal("the store answered a bulk op with something else")),
    }
}

async fn view(call: &Call, queue: &QueueName) -> Answer {
    match call.api.store.queue(queue).await.map_err(|error| error::store(&error))? {
        Some(queue) => json(StatusCode::OK, &convert::queue_view(&queue)),
        None => Err(error::not_found("queue")),
    }
}

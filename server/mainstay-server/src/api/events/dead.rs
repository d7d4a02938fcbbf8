//! Dead letters of a group: `GET /v1/groups/{group}/dead`, `POST …/dead/requeue`.

use std::collections::HashSet;

use http::StatusCode;
use mainstay::core::access::ScopeKind;
use mainstay::core::event::{DeadEvent, DeadEventFilter, EventItem, EventOp, EventQuery};
use mainstay::core::job::FailureRecord;
use mainstay::core::name::GroupName;
use mainstay::core::op::{Commit, Op, Reply};
use mainstay::core::store::{Page, Query, Record};
use mainstay_api::query::PageQuery;
use mainstay_api::types::{self as wire, DeadChanged, DeadEventSelect, Envelope};
use mainstay_api::{Problem, RawJson};

use super::write;
use crate::api::call::{Answer, Call};
use crate::api::error::Shape;
use crate::api::{audit, convert, error, json, page};

/// How many letters one commit changes.
const CHUNK: usize = 1_000;

pub(crate) async fn list(call: Call) -> Answer {
    let mut input = call.input();
    let group = input.name("group");
    let query = input.query(PageQuery::parse);
    let ((group, query), _) = input.finish(group.zip(query))?;
    call.caller.must(ScopeKind::Read, group.as_str())?;
    let filter = DeadEventFilter { group, kind: None, error_type: None };
    let (letters, next_cursor) = letters(&call, filter, &page(&query)).await?;
    json(StatusCode::OK, &wire::Page { items: letters.iter().map(view).collect(), next_cursor })
}

/// Delivers the letters that fit again, in chunks, so that other callers are served in between.
pub(crate) async fn requeue(call: Call) -> Answer {
    let mut input = call.input();
    let group = input.name("group");
    input.keyed();
    let select = input.body::<DeadEventSelect>()?;
    let ((group, select), keyed) = input.finish(group.zip(select))?;
    call.caller.must(ScopeKind::Admin, group.as_str())?;
    let mut found = match &select.numbers {
        Some(numbers) => there(&call, &group, numbers).await?,
        None => find(&call, &group, &select).await?,
    };
    let mut total = DeadChanged { matched: found.len() as u64, changed: 0 };
    if select.dry_run {
        return json(StatusCode::OK, &total);
    }
    found.truncate(usize::try_from(select.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX));
    // Under a key even nothing is a commit: a repeat shall find nothing, too.
    let chunks = found.chunks(CHUNK).map(<[u64]>::to_vec);
    let chunks: Vec<_> =
        if found.is_empty() && keyed.is_some() { vec![Vec::new()] } else { chunks.collect() };
    for (index, numbers) in chunks.into_iter().enumerate() {
        let mut ops = vec![Op::Event(EventOp::RequeueDead { group: group.clone(), numbers })];
        if index == 0 {
            ops.push(audit(&call, "group.dead.requeue", group.as_str()));
        }
        let key = keyed.map(|keyed| keyed.part("chunk", index));
        let commit = Commit { key, ops, entropy: call.api.store.entropy(), ..Commit::default() };
        let committed = call.commit(commit, Shape::Single).await?;
        match committed.replies.first() {
            Some(Reply::Count(count)) => total.changed += count,
            _ => return Err(error::internal("the store answered a requeue with something else")),
        }
        if committed.repeated {
            total.matched = total.matched.max(total.changed);
        }
    }
    json(StatusCode::OK, &total)
}

/// The numbers of all letters that fit, newest first.
async fn find(call: &Call, group: &GroupName, select: &DeadEventSelect) -> Result<Vec<u64>, Problem> {
    let ids: Option<HashSet<&str>> = select.ids.as_ref().map(|ids| ids.iter().map(String::as_str).collect());
    let filter = DeadEventFilter {
        group: group.clone(),
        kind: select.kind.clone(),
        error_type: select.error_type.clone(),
    };
    let mut found = Vec::new();
    let mut page = Page { limit: CHUNK as u32, cursor: None };
    loop {
        let (letters, next) = letters(call, filter.clone(), &page).await?;
        let fits = |letter: &&DeadEvent| ids.as_ref().is_none_or(|ids| ids.contains(&*letter.event.id));
        found.extend(letters.iter().filter(fits).map(|letter| letter.number));
        match next {
            Some(next) => page.cursor = Some(next),
            None => return Ok(found),
        }
    }
}

/// Those of the numbers that are letters of the group.
async fn there(call: &Call, group: &GroupName, numbers: &[u64]) -> Result<Vec<u64>, Problem> {
    let wanted: HashSet<u64> = numbers.iter().copied().collect();
    let all = find(call, group, &DeadEventSelect::default()).await?;
    Ok(all.into_iter().filter(|number| wanted.contains(number)).collect())
}

async fn letters(
    call: &Call,
    filter: DeadEventFilter,
    page: &Page,
) -> Result<(Vec<DeadEvent>, Option<String>), Problem> {
    let query = Query::Event(EventQuery::Dead(filter));
    let slice = call.api.store.store().list(&query, page).await.map_err(|error| error::failed(&error))?;
    let letters = slice.items.into_iter().filter_map(|record| match record {
        Record::Event(EventItem::Dead(letter)) => Some(*letter),
        _ => None,
    });
    Ok((letters.collect(), slice.next))
}

fn view(letter: &DeadEvent) -> wire::DeadEvent {
    let mut event = Vec::new();
    write::cloud_event(&mut event, &letter.event);
    let said = letter.error.as_ref().map(|failure| {
        let record = FailureRecord { attempt: letter.attempts, at: letter.died_at, failure: failure.clone() };
        convert::attempt_error(&record)
    });
    wire::DeadEvent {
        id: letter.event.id.to_string(),
        envelope: Envelope {
            topic: letter.topic.to_string(),
            seq: letter.seq,
            event: RawJson::from_trusted(event.into()),
        },
        attempts: letter.attempts,
        reason: convert::dead_reason(letter.reason),
        error: said,
        died_at: convert::wire_time(letter.died_at),
        number: Some(letter.number),
        published_at: Some(convert::wire_time(letter.published_at)),
    }
}

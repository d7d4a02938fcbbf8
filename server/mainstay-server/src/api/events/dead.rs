//! Dead letters of a group: `GET /v1/groups/{group}/dead`, `POST …/dead/requeue`.

use std::collections::HashSet;

use http::StatusCode;
use mainstay::core::access::ScopeKind;
use mainstay::core::event::{DeadEvent, DeadEventFilter, EventItem, EventOp, EventQuery};
use mainstay::core::job::FailureRecord;
use mainstay::core::name::GroupName;
use mainstay::core::op::{Commit, Committed, IdempotencyKey, Op, Reply};
use mainstay::core::store::{Page, Query, Record};
use mainstay_api::query::PageQuery;
use mainstay_api::types::{self as wire, DeadChanged, DeadEventSelect, Envelope};
use mainstay_api::{Code, Outcome, Problem, RawJson};

use super::{groups, write};
use crate::api::call::{Answer, Call};
use crate::api::error::Shape;
use crate::api::key::Keyed;
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
    if groups::find(&call, &group).await?.is_none() {
        return Err(error::not_found("group"));
    }
    let found = match &select.numbers {
        Some(numbers) => there(&call, &group, numbers).await?,
        None => find(&call, &group, &select).await?,
    };
    if select.dry_run {
        return json(StatusCode::OK, &DeadChanged { matched: found.len() as u64, changed: 0 });
    }
    let limit = usize::try_from(select.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let total = match keyed {
        Some(keyed) => requeue_under(&call, keyed, &group, &found, limit).await?,
        None => requeue_all(&call, &group, &found, limit).await?,
    };
    json(StatusCode::OK, &total)
}

async fn requeue_all(
    call: &Call,
    group: &GroupName,
    found: &[u64],
    limit: usize,
) -> Result<DeadChanged, Problem> {
    let mut total = DeadChanged { matched: found.len() as u64, changed: 0 };
    for (index, numbers) in found[..found.len().min(limit)].chunks(CHUNK).enumerate() {
        let chunk = Chunk { group, index, ops: vec![requeue_op(group, numbers)], key: None };
        match chunk.commit(call).await {
            Ok(committed) => total.changed += changed(&committed),
            // The group is full: what fitted is done.
            Err(problem) if index > 0 && problem.code == Code::StateConflict => break,
            Err(problem) => return Err(after(index, problem)),
        }
    }
    Ok(total)
}

/// With an op for each letter that was found, so that the replies kept under the key say all that the answer says: those
/// beyond the limit are counted and left alone. The end of the list is a chunk that is not full, and kept like the others.
async fn requeue_under(
    call: &Call,
    keyed: Keyed,
    group: &GroupName,
    found: &[u64],
    mut limit: usize,
) -> Result<DeadChanged, Problem> {
    let mut total = DeadChanged { matched: 0, changed: 0 };
    let mut rest = found;
    for index in 0.. {
        let (numbers, behind) = rest.split_at(rest.len().min(CHUNK));
        let make = |limit: usize| {
            let ops = numbers.iter().enumerate().map(|(place, number)| {
                requeue_op(group, if place < limit { std::slice::from_ref(number) } else { &[] })
            });
            Chunk { group, index, ops: ops.collect(), key: Some(keyed.part("chunk", index)) }
        };
        let committed = match make(limit).commit(call).await {
            // The group is full: what fitted is done, and a repeat does no more.
            Err(problem) if index > 0 && limit > 0 && problem.code == Code::StateConflict => {
                limit = 0;
                make(limit).commit(call).await
            }
            committed => committed,
        };
        let committed = committed.map_err(|problem| after(index, problem))?;
        let count = counts(&committed).count();
        total.matched += count as u64;
        total.changed += changed(&committed);
        if count < CHUNK {
            break;
        }
        limit = limit.saturating_sub(count);
        // One from before has changed what it changed: what was found now is for the next.
        if !committed.repeated {
            rest = behind;
        }
    }
    Ok(total)
}

/// One of the commits that a requeue is made of.
struct Chunk<'c> {
    group: &'c GroupName,
    index: usize,
    ops: Vec<Op>,
    key: Option<IdempotencyKey>,
}

impl Chunk<'_> {
    async fn commit(self, call: &Call) -> Result<Committed, Problem> {
        let Chunk { group, index, mut ops, key } = self;
        if index == 0 {
            ops.push(audit(call, "group.dead.requeue", group.as_str()));
        }
        let commit = Commit { key, ops, entropy: call.api.store.entropy(), ..Commit::default() };
        call.commit(commit, Shape::Single).await
    }
}

fn requeue_op(group: &GroupName, numbers: &[u64]) -> Op {
    Op::Event(EventOp::RequeueDead { group: group.clone(), numbers: numbers.to_vec() })
}

fn counts(committed: &Committed) -> impl Iterator<Item = u64> + '_ {
    committed.replies.iter().filter_map(|reply| match reply {
        Reply::Count(count) => Some(*count),
        _ => None,
    })
}

fn changed(committed: &Committed) -> u64 {
    counts(committed).sum()
}

/// A chunk that failed after others has not undone them.
fn after(index: usize, problem: Problem) -> Problem {
    if index == 0 { problem } else { problem.with_outcome(Outcome::Unknown) }
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

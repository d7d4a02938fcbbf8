//! Consumer groups: `GET`, `PUT` and `DELETE /v1/groups/{group}`, lists of them, and `POST …/seek`.

use http::StatusCode;
use mainstay::core::access::ScopeKind;
use mainstay::core::event::{EventItem, EventKey, EventOp, EventQuery, EventReply, GroupRecord};
use mainstay::core::name::GroupName;
use mainstay::core::op::{Op, Reply};
use mainstay::core::store::{Key, Query, Record};
use mainstay_api::Problem;
use mainstay_api::query::PageQuery;
use mainstay_api::types::{GroupConfig, Page, Seek, Sought, Start};

use super::convert;
use crate::api::call::{Answer, Call};
use crate::api::{audit, empty, error, json, page};

pub(crate) async fn list(call: Call) -> Answer {
    let mut input = call.input();
    let query = input.query(PageQuery::parse);
    let (query, _) = input.finish(query)?;
    call.caller.must_sometimes(ScopeKind::Read)?;
    let slice = call.api.store.store().list(&Query::Event(EventQuery::Groups), &page(&query)).await;
    let slice = slice.map_err(|error| error::failed(&error))?;
    let visible = slice.items.iter().filter_map(|record| match record {
        Record::Event(EventItem::Group(group)) if call.caller.may(ScopeKind::Read, group.name.as_str()) => {
            Some(convert::group_view(group))
        }
        _ => None,
    });
    json(StatusCode::OK, &Page { items: visible.collect(), next_cursor: slice.next })
}

pub(crate) async fn one(call: Call) -> Answer {
    let mut input = call.input();
    let group = input.name("group");
    let (group, _) = input.finish(group)?;
    call.caller.must(ScopeKind::Read, group.as_str())?;
    match find(&call, &group).await? {
        Some(group) => json(StatusCode::OK, &convert::group_view(&group)),
        None => Err(error::not_found("group")),
    }
}

pub(crate) async fn put(call: Call) -> Answer {
    let mut input = call.input();
    let group = input.name("group");
    let config = input.body::<GroupConfig>()?;
    let ((group, config), _) = input.finish(group.zip(config))?;
    may_subscribe(&call, &group, &config.topics)?;
    let start = convert::position(config.start.unwrap_or(Start::Latest));
    let put =
        EventOp::PutGroup { group: group.clone(), config: Box::new(convert::group_config(&config)?), start };
    call.apply(vec![Op::Event(put), audit(&call, "group.put", group.as_str())], None).await?;
    match find(&call, &group).await? {
        Some(group) => json(StatusCode::OK, &convert::group_view(&group)),
        None => Err(error::not_found("group")),
    }
}

pub(crate) async fn delete(call: Call) -> Answer {
    let mut input = call.input();
    let group = input.name("group");
    let (group, _) = input.finish(group)?;
    may_use(&call, &group).await?;
    let change = EventOp::DeleteGroup { group: group.clone() };
    call.apply(vec![Op::Event(change), audit(&call, "group.delete", group.as_str())], None).await?;
    empty()
}

pub(crate) async fn seek(call: Call) -> Answer {
    let mut input = call.input();
    let group = input.name("group");
    input.keyed();
    let to = input.body::<Seek>()?;
    let ((group, Seek(to)), keyed) = input.finish(group.zip(to))?;
    may_use(&call, &group).await?;
    let change = EventOp::Seek { group: group.clone(), to: convert::position(to) };
    let ops = vec![Op::Event(change), audit(&call, "group.seek", group.as_str())];
    match call.apply(ops, keyed.map(|keyed| keyed.whole())).await?.0 {
        Reply::Event(EventReply::Sought { cursor }) => json(StatusCode::OK, &Sought { cursor }),
        _ => Err(error::internal("the store answered a seek with something else")),
    }
}

pub(super) async fn find(call: &Call, group: &GroupName) -> Result<Option<GroupRecord>, Problem> {
    let key = Key::Event(EventKey::Group(group.clone()));
    match call.api.store.store().get(&key).await.map_err(|error| error::failed(&error))? {
        Some(Record::Event(EventItem::Group(group))) => Ok(Some(group)),
        _ => Ok(None),
    }
}

/// As [`may_subscribe`], to a group that is there: somebody who may more may have given it filters that this caller
/// could not.
pub(crate) async fn may_use(call: &Call, group: &GroupName) -> Result<(), Problem> {
    call.caller.must(ScopeKind::EventsSubscribe, group.as_str())?;
    if call.caller.may_always(ScopeKind::EventsSubscribe) {
        return Ok(());
    }
    let Some(record) = find(call, group).await? else { return Ok(()) };
    let mut filters = record.config.topics.iter();
    filters.try_for_each(|filter| call.caller.must(ScopeKind::EventsSubscribe, filter.as_str()))
}

/// The group, and every topic it could see: a token's prefix begins the group's name and each filter.
fn may_subscribe(call: &Call, group: &GroupName, filters: &[String]) -> Result<(), Problem> {
    call.caller.must(ScopeKind::EventsSubscribe, group.as_str())?;
    filters.iter().try_for_each(|filter| call.caller.must(ScopeKind::EventsSubscribe, filter))
}

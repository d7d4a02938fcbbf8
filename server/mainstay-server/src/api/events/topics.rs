//! `GET /v1/topics`, `GET`, `PUT` and `DELETE /v1/topics/{topic}`.

use http::StatusCode;
use mainstay::core::access::ScopeKind;
use mainstay::core::event::{EventItem, EventKey, EventOp, EventQuery};
use mainstay::core::op::Op;
use mainstay::core::store::{Key, Query, Record};
use mainstay::core::topic::TopicName;
use mainstay_api::query::PageQuery;
use mainstay_api::types::{Page, TopicConfig, TopicPut, TopicView};
use mainstay_api::{FieldError, Problem};

use super::{convert, schemas};
use crate::api::call::{Answer, Call};
use crate::api::{audit, empty, error, json, page};

pub(crate) async fn list(call: Call) -> Answer {
    let mut input = call.input();
    let query = input.query(PageQuery::parse);
    let (query, _) = input.finish(query)?;
    call.caller.must_sometimes(ScopeKind::Read)?;
    let slice = call.api.store.store().list(&Query::Event(EventQuery::Topics), &page(&query)).await;
    let slice = slice.map_err(|error| error::failed(&error))?;
    let visible = slice.items.iter().filter_map(|record| match record {
        Record::Event(EventItem::Topic(topic)) if call.caller.may(ScopeKind::Read, topic.name.as_str()) => {
            Some(convert::topic_view(topic))
        }
        _ => None,
    });
    json(StatusCode::OK, &Page { items: visible.collect(), next_cursor: slice.next })
}

pub(crate) async fn one(call: Call) -> Answer {
    let mut input = call.input();
    let topic = input.topic();
    let (topic, _) = input.finish(topic)?;
    call.caller.must(ScopeKind::Read, topic.as_str())?;
    json(StatusCode::OK, &view(&call, &topic).await?)
}

pub(crate) async fn put(call: Call) -> Answer {
    let mut input = call.input();
    let topic = input.topic();
    let config = input.body::<TopicConfig>()?;
    if let Some(Err(why)) = config.as_ref().and_then(|config| config.schema.as_ref()).map(schemas::compile) {
        input.is_wrong(FieldError::new("/schema".to_owned(), why));
    }
    let ((topic, config), _) = input.finish(topic.zip(config))?;
    call.caller.must(ScopeKind::Admin, topic.as_str())?;
    let before = schemas::stored(&call.api.store, &topic).await?;
    let change = EventOp::PutTopic { topic: topic.clone(), config: convert::topic_config(&config) };
    call.apply(vec![Op::Event(change), audit(&call, "topic.put", topic.as_str())], None).await?;
    call.api.schemas.forget(&topic);
    let incompatible = match (before, &config.schema) {
        (Some(before), Some(now)) => schemas::incompatible(&before, now),
        _ => Vec::new(),
    };
    let topic = view(&call, &topic).await?;
    json(StatusCode::OK, &TopicPut { topic, incompatible })
}

pub(crate) async fn delete(call: Call) -> Answer {
    let mut input = call.input();
    let topic = input.topic();
    let (topic, _) = input.finish(topic)?;
    call.caller.must(ScopeKind::Admin, topic.as_str())?;
    let change = EventOp::DeleteTopic { topic: topic.clone() };
    call.apply(vec![Op::Event(change), audit(&call, "topic.delete", topic.as_str())], None).await?;
    call.api.schemas.forget(&topic);
    empty()
}

async fn view(call: &Call, topic: &TopicName) -> Result<TopicView, Problem> {
    let key = Key::Event(EventKey::Topic(topic.clone()));
    match call.api.store.store().get(&key).await.map_err(|error| error::failed(&error))? {
        Some(Record::Event(EventItem::Topic(topic))) => Ok(convert::topic_view(&topic)),
        _ => Err(error::not_found("topic")),
    }
}

//! Topics, events and groups of a server: what is changed, and the log.

use mainstay_api::{
    MAX_SAFE_INTEGER,
    client::{ApiError, HttpClient},
    types as wire,
};
use mainstay_core::{
    Error, Timestamp,
    event::{
        EventOp, EventReply, GroupConfig, GroupRecord, LogBudget, LogSlice, Position, Publish,
        SettleDeliveries, Settled, TopicConfig, TopicRecord, TopicRetention,
    },
    job::Retry,
    op::{Committed, Failure, Op, Reply},
    topic::TopicFilter,
};

use super::{convert, envelope, fault, read::unsupported, write};

type Answer = Result<Committed, Failure>;

/// What one call releases.
const ITEMS: usize = 1_000;

/// One op.
pub(super) async fn one(client: &HttpClient, op: &Op, keyed: bool) -> Answer {
    let Op::Event(event_op) = op else { return Err(unsupported("that change").into()) };
    let no = |error: ApiError| fault::of_op(&error, op);
    let reply = match event_op {
        EventOp::Publish(publish) => {
            let made = client.publish(publish.topic.as_str(), &written(publish, keyed)).await.map_err(no)?;
            Reply::Event(published(&made))
        }
        EventOp::PutTopic { topic, config } => {
            client.put_topic(topic.as_str(), &wire_topic(config)).await.map_err(no)?;
            Reply::Done
        }
        EventOp::DeleteTopic { topic } => {
            client.delete_topic(topic.as_str()).await.map_err(no)?;
            Reply::Done
        }
        EventOp::PutGroup { group, config, start } => {
            client.put_group(group.as_str(), &wire_group(config, *start)).await.map_err(no)?;
            Reply::Done
        }
        EventOp::DeleteGroup { group } => {
            client.delete_group(group.as_str()).await.map_err(no)?;
            Reply::Done
        }
        EventOp::Fetch(fetch) => {
            // A server has its own bound for the bytes of a fetch.
            let consumer = fetch.consumer.as_ref().map(ToString::to_string);
            let asked = wire::Fetch { max: fetch.max, wait_ms: 0, consumer };
            let fetched = client.fetch(fetch.group.as_str(), &asked).await.map_err(no)?;
            let events = fetched.events.iter().map(envelope::delivery).collect::<Result<_, _>>()?;
            Reply::Event(EventReply::Fetched(events))
        }
        EventOp::Settle(settle) => {
            let done =
                client.settle_deliveries(settle.group.as_str(), &wire_settle(settle)).await.map_err(no)?;
            Reply::Event(EventReply::Settled(settled(settle, &done)?))
        }
        EventOp::Release { leases, delay_ms } => {
            let mut count = 0;
            for some in leases.chunks(ITEMS) {
                let leases = some.iter().map(ToString::to_string).collect();
                let release = wire::ReleaseDeliveries { leases, delay_ms: *delay_ms };
                count += client.release_deliveries(&release).await.map_err(no)?.released;
            }
            Reply::Count(count)
        }
        EventOp::Seek { group, to } => {
            let to = wire::Seek(start(*to));
            let sought = client.seek(group.as_str(), &to).await.map_err(no)?;
            Reply::Event(EventReply::Sought { cursor: sought.cursor })
        }
        EventOp::RequeueDead { group, numbers } => {
            let select =
                wire::DeadEventSelect { numbers: Some(numbers.clone()), ..wire::DeadEventSelect::default() };
            let changed = client.requeue_dead_events(group.as_str(), &select).await.map_err(no)?;
            Reply::Count(changed.changed)
        }
        EventOp::DeleteDead { .. } => {
            return Err(unsupported("deleting dead letters of a group").into());
        }
        // A commit of its own.
        EventOp::Ack { .. } => return Err(unsupported("an acknowledgement outside of a commit").into()),
    };
    Ok(write::one(reply))
}

/// As with jobs: an id that was made for this call makes a repeat harmless, but under a key the server makes it, so that
/// a commit that is built anew says the same.
pub(super) fn written(publish: &Publish, keyed: bool) -> mainstay_api::RawJson {
    envelope::written(&publish.event, publish.dedup.is_some() || !keyed)
}

/// A store that numbers later says 0.
pub(super) fn published(made: &wire::Published) -> EventReply {
    EventReply::Published { seq: made.seq.unwrap_or(0), deduplicated: made.deduplicated }
}

fn wire_topic(config: &TopicConfig) -> wire::TopicConfig {
    let TopicRetention { age_ms, count, bytes } = config.retention;
    let bounded = age_ms.is_some() || count.is_some() || bytes.is_some();
    wire::TopicConfig {
        retention: bounded.then_some(wire::TopicRetention { age_ms, count, bytes }),
        schema: config.schema.as_ref().map(convert::raw),
    }
}

pub(super) fn topic(view: &wire::TopicView) -> Result<TopicRecord, Error> {
    let retention = view.config.retention.unwrap_or_default();
    Ok(TopicRecord {
        name: envelope::topic(&view.name)?,
        config: TopicConfig {
            retention: TopicRetention {
                age_ms: retention.age_ms,
                count: retention.count,
                bytes: retention.bytes,
            },
            schema: view.config.schema.as_ref().map(convert::json),
        },
        count: view.count,
        bytes: view.bytes,
        last_seq: view.last_seq,
        removed_up_to: view.removed_up_to,
    })
}

fn wire_group(config: &GroupConfig, at: Position) -> wire::GroupConfig {
    wire::GroupConfig {
        topics: texts(&config.topics),
        start: Some(start(at)),
        ack_wait_ms: config.ack_wait_ms,
        max_deliver: config.max_deliver,
        max_in_flight: config.max_in_flight,
        backoff: Some(convert::wire_backoff(&config.backoff)),
        ordered_by_key: config.ordered_by_key,
    }
}

pub(super) fn group(view: &wire::GroupView) -> Result<GroupRecord, Error> {
    let config = &view.config;
    let filter =
        |text: &String| TopicFilter::new(text).map_err(|_| convert::senseless("filter of topics", text));
    Ok(GroupRecord {
        name: convert::name(&view.name)?,
        config: GroupConfig {
            topics: config.topics.iter().map(filter).collect::<Result<_, _>>()?,
            ack_wait_ms: config.ack_wait_ms,
            max_deliver: config.max_deliver,
            max_in_flight: config.max_in_flight,
            backoff: config.backoff.as_ref().map(convert::backoff).unwrap_or_default(),
            ordered_by_key: config.ordered_by_key,
        },
        cursor: view.cursor,
        floor: view.floor,
        lag: view.lag,
        waiting: view.waiting,
        in_flight: view.in_flight,
        oldest_unacked_age_ms: view.oldest_unacked_age_ms,
        dead: view.dead,
        skipped: view.skipped,
        redelivered: view.redelivered,
        stalled: view.stalled,
    })
}

fn start(at: Position) -> wire::Start {
    match at {
        Position::Latest => wire::Start::Latest,
        Position::Earliest => wire::Start::Earliest,
        Position::Seq(seq) => wire::Start::Seq(seq.clamp(1, MAX_SAFE_INTEGER)),
        Position::Time(at) => wire::Start::Time(mainstay_api::Timestamp(at.0)),
    }
}

pub(super) fn texts(filters: &[TopicFilter]) -> Vec<String> {
    filters.iter().map(|filter| filter.as_str().to_owned()).collect()
}

fn wire_settle(settle: &SettleDeliveries) -> wire::SettleDeliveries {
    let nack = |nack: &mainstay_core::event::Nack| wire::Nack {
        lease: nack.lease.to_string(),
        delay_ms: match nack.retry {
            Retry::After(ms) => Some(ms),
            Retry::Auto | Retry::Never => None,
        },
        dead: nack.retry == Retry::Never,
        error: nack.error.as_ref().map(convert::failure),
    };
    let extend = |prolong: &mainstay_core::event::Prolong| wire::ExtendDelivery {
        lease: prolong.lease.to_string(),
        extend_ms: prolong.extend_ms,
    };
    wire::SettleDeliveries {
        ack: settle.ack.iter().map(ToString::to_string).collect(),
        nack: settle.nack.iter().map(nack).collect(),
        extend: settle.extend.iter().map(extend).collect(),
    }
}

/// In the order ack, nack, extend.
fn settled(asked: &SettleDeliveries, done: &wire::SettledDeliveries) -> Result<Vec<Settled>, Error> {
    let (acks, nacks) = (asked.ack.len(), asked.nack.len());
    if done.results.len() != acks + nacks + asked.extend.len() {
        return Err(convert::senseless("settle", "another number of results than items"));
    }
    let one = |(index, result): (usize, &wire::DeliverySettled)| match (&result.error, result.at) {
        (Some(error), _) if error.code == mainstay_api::Code::LeaseLost => Ok(Settled::LeaseLost),
        (Some(error), _) => Err(convert::senseless("settle", &error.detail)),
        (None, _) if index < acks => Ok(Settled::Acked),
        (None, _) if result.dead == Some(true) => Ok(Settled::Dead),
        (None, Some(at)) if index < acks + nacks => Ok(Settled::Nacked { due: Timestamp(at.0) }),
        (None, Some(at)) => Ok(Settled::Extended { expires_at: Timestamp(at.0) }),
        (None, None) => Err(convert::senseless("settle", "a result that says nothing")),
    };
    done.results.iter().enumerate().map(one).collect()
}

/// A piece of the log. The bytes are counted here, what is too much is read again.
pub(super) async fn log(
    client: &HttpClient,
    filters: &[TopicFilter],
    from: Position,
    budget: LogBudget,
) -> Result<LogSlice, Error> {
    let from = match from {
        Position::Latest => "latest".to_owned(),
        Position::Earliest => "earliest".to_owned(),
        Position::Seq(seq) => seq.clamp(1, MAX_SAFE_INTEGER).to_string(),
        Position::Time(at) => mainstay_api::Timestamp(at.0).to_string(),
    };
    let page = client.log(&texts(filters), &from, budget.events.clamp(1, ITEMS as u32)).await;
    let page = page.map_err(|error| fault::trouble(&error))?;
    let mut events = page.items.iter().map(envelope::logged).collect::<Result<Vec<_>, _>>()?;
    let (mut bytes, mut next) = (0, page.next);
    let fits = |event: &mainstay_core::event::Event| {
        bytes += event.size() as u64;
        bytes <= budget.bytes
    };
    let sizes: Vec<bool> = events.iter().map(|logged| &*logged.event).map(fits).collect();
    // At least one, however large.
    if let Some(cut) = sizes.iter().skip(1).position(|fits| !fits) {
        next = events[cut + 1].seq;
        events.truncate(cut + 1);
    }
    let wire::LogPage { from, head, removed_up_to, removed, .. } = page;
    let removed = removed.iter().map(|(name, up_to)| Ok((envelope::topic(name)?, *up_to)));
    let removed = removed.collect::<Result<_, Error>>()?;
    Ok(LogSlice { from, events, next, head, removed_up_to, removed })
}

//! Reading what a server has.

use mainstay_api::{
    Code,
    client::HttpClient,
    query::{JobsQuery, LocksQuery, PageQuery},
    types as wire,
};
use mainstay_core::{
    Error, ErrorKind, Timestamp,
    event::{EventItem, EventKey, EventQuery},
    schedule::ScheduleOrder,
    store::{Key, Page, Query, Record, Slice, open_cursor, seal_cursor},
    worker::WorkerRecord,
};

use super::{convert, envelope, events, fault, locks, schedules};

pub(super) async fn get(client: &HttpClient, key: &Key) -> Result<Option<Record>, Error> {
    let found = match key {
        Key::Job(id) => client.job(convert::wire_id(*id)).await.map(|view| job(&view)),
        Key::Queue(name) => client.queue(name.as_str()).await.map(|view| queue(&view)),
        Key::Lock(name) => client.lock(name.as_str()).await.map(|view| lock(&view)),
        Key::Event(EventKey::Topic(name)) => client.topic(name.as_str()).await.map(|view| topic(&view)),
        Key::Event(EventKey::Group(name)) => client.group(name.as_str()).await.map(|view| group(&view)),
        Key::Schedule(name) => client.schedule(name.as_str()).await.map(|view| schedule(&view)),
        _ => return Err(unsupported("reading that record")),
    };
    match found {
        Ok(record) => record.map(Some),
        Err(error) if error.code() == Some(Code::NotFound) => Ok(None),
        Err(error) => Err(fault::trouble(&error)),
    }
}

pub(super) async fn list(client: &HttpClient, query: &Query, page: &Page) -> Result<Slice, Error> {
    let cursor = page.cursor.as_deref().map(|cursor| open_cursor(query, cursor)).transpose()?;
    let asked = PageQuery { limit: page.limit, cursor: cursor.map(str::to_owned) };
    let trouble = |error| fault::trouble(&error);
    let (items, next) = match query {
        Query::Jobs(filter) => {
            let asked = JobsQuery {
                queue: filter.queue.as_ref().map(ToString::to_string),
                state: filter.state.map(convert::wire_state),
                kind: filter.kind.clone(),
                tag: filter.tag.clone(),
                page: asked,
            };
            let page = client.jobs(&asked).await.map_err(trouble)?;
            (page.items.iter().map(job).collect::<Result<Vec<_>, _>>()?, page.next_cursor)
        }
        Query::Dead(filter) => {
            let page = client.dead(filter.queue.as_str(), &asked).await.map_err(trouble)?;
            // The server lists all of a queue: a page may be short.
            let fits = |view: &&mainstay_api::types::JobView| {
                let last = view.errors.last().and_then(|error| error.kind.as_deref());
                filter.kind.as_ref().is_none_or(|kind| *kind == view.kind)
                    && filter.error_type.as_ref().is_none_or(|kind| Some(kind.as_str()) == last)
            };
            (page.items.iter().filter(fits).map(job).collect::<Result<Vec<_>, _>>()?, page.next_cursor)
        }
        Query::Queues => {
            let page = client.queues(&asked).await.map_err(trouble)?;
            (page.items.iter().map(queue).collect::<Result<Vec<_>, _>>()?, page.next_cursor)
        }
        Query::Locks { prefix } => {
            let asked = LocksQuery { prefix: prefix.clone(), page: asked };
            let page = client.locks(&asked).await.map_err(trouble)?;
            (all(&page.items, lock)?, page.next_cursor)
        }
        Query::Event(EventQuery::Topics) => {
            let page = client.topics(&asked).await.map_err(trouble)?;
            (all(&page.items, topic)?, page.next_cursor)
        }
        Query::Event(EventQuery::Groups) => {
            let page = client.groups(&asked).await.map_err(trouble)?;
            (all(&page.items, group)?, page.next_cursor)
        }
        Query::Event(EventQuery::Dead(filter)) => {
            let page = client.dead_events(filter.group.as_str(), &asked).await.map_err(trouble)?;
            let letters = page.items.iter().map(envelope::dead).collect::<Result<Vec<_>, _>>()?;
            // As with those of jobs: a page may be short.
            let fitting = letters.into_iter().filter(|letter| filter.fits(letter));
            let items = fitting.map(|letter| Record::Event(EventItem::Dead(Box::new(letter))));
            (items.collect(), page.next_cursor)
        }
        Query::Schedules(ScheduleOrder::Name) => {
            let page = client.schedules(&asked).await.map_err(trouble)?;
            (all(&page.items, schedule)?, page.next_cursor)
        }
        Query::Workers => {
            let page = client.workers(&asked).await.map_err(trouble)?;
            (all(&page.items, worker)?, page.next_cursor)
        }
        Query::AccessTokens | Query::Audit | Query::Schedules(ScheduleOrder::Next) => {
            return Err(unsupported("that list"));
        }
    };
    Ok(Slice { items, next: next.map(|next| seal_cursor(query, &next)) })
}

fn all<T>(items: &[T], one: fn(&T) -> Result<Record, Error>) -> Result<Vec<Record>, Error> {
    items.iter().map(one).collect()
}

fn lock(view: &wire::LockView) -> Result<Record, Error> {
    Ok(Record::Lock(Box::new(locks::record(view)?)))
}

fn topic(view: &wire::TopicView) -> Result<Record, Error> {
    Ok(Record::Event(EventItem::Topic(events::topic(view)?)))
}

fn group(view: &wire::GroupView) -> Result<Record, Error> {
    Ok(Record::Event(EventItem::Group(events::group(view)?)))
}

fn schedule(view: &wire::ScheduleView) -> Result<Record, Error> {
    Ok(Record::Schedule(schedules::record(view)?))
}

fn worker(view: &wire::WorkerView) -> Result<Record, Error> {
    let queues = view.queues.iter().map(|queue| convert::name(queue));
    Ok(Record::Worker(WorkerRecord {
        name: convert::name(&view.name)?,
        queues: queues.collect::<Result<_, _>>()?,
        running: view.running,
        last_seen: Timestamp(view.last_seen.0),
    }))
}

fn job(view: &mainstay_api::types::JobView) -> Result<Record, Error> {
    Ok(Record::Job(Box::new(convert::record(view)?)))
}

fn queue(view: &mainstay_api::types::QueueView) -> Result<Record, Error> {
    Ok(Record::Queue(convert::queue(view)?))
}

/// What the seam has and a client of a server's API has not.
pub(super) fn unsupported(what: &str) -> Error {
    let message = format!(
        "{what} is not supported over a server's HTTP API by this version; open the store itself, or use the server's \
         admin listener"
    );
    Error::new(ErrorKind::NotSupported, message)
}

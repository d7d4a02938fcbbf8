//! Reading what a server has.

use mainstay_api::{
    Code,
    client::HttpClient,
    query::{JobsQuery, PageQuery},
};
use mainstay_core::{
    Error, ErrorKind,
    store::{Key, Page, Query, Record, Slice, open_cursor, seal_cursor},
};

use super::{convert, fault};

pub(super) async fn get(client: &HttpClient, key: &Key) -> Result<Option<Record>, Error> {
    let found = match key {
        Key::Job(id) => client.job(convert::wire_id(*id)).await.map(|view| job(&view)),
        Key::Queue(name) => client.queue(name.as_str()).await.map(|view| queue(&view)),
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
        _ => return Err(unsupported("that list")),
    };
    Ok(Slice { items, next: next.map(|next| seal_cursor(query, &next)) })
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

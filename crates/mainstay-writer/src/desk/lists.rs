//! Pages of what the engine has.

use mainstay_core::{
    Error, ErrorKind,
    event::{EventItem, EventQuery},
    store::{Page, Query, Record, Slice, open_cursor, seal_cursor},
};

use super::Desk;
use crate::message::Ask;

impl Desk {
    /// A page of a list for which [`Desk::has_list`] holds.
    pub async fn list(&self, query: &Query, page: &Page) -> Result<Slice, Error> {
        let after = page.cursor.as_deref().map(|cursor| open_cursor(query, cursor)).transpose()?;
        let (after, limit) = (after.map(str::to_owned), page.limit as usize);
        let name = |item: &EventItem| match item {
            EventItem::Topic(topic) => topic.name.to_string(),
            EventItem::Group(group) => group.name.to_string(),
            EventItem::Dead(dead) => dead.number.to_string(),
        };
        let slice = match query {
            Query::Queues => {
                let found = self.ask(|answer| Ask::Queues(after, limit + 1, answer)).await?;
                page_of(query, limit, found, |queue| queue.name.to_string(), Record::Queue)
            }
            Query::Locks { prefix } => {
                let prefix = prefix.clone().unwrap_or_default();
                let found = self.ask(|answer| Ask::Locks(prefix, after, limit + 1, answer)).await?;
                let record = |lock| Record::Lock(Box::new(lock));
                page_of(query, limit, found, |lock| lock.name.to_string(), record)
            }
            Query::Event(EventQuery::Topics) => {
                let found = self.ask(|answer| Ask::Topics(after, limit + 1, answer)).await?;
                page_of(query, limit, found, name, Record::Event)
            }
            Query::Event(EventQuery::Groups) => {
                let found = self.ask(|answer| Ask::Groups(after, limit + 1, answer)).await??;
                page_of(query, limit, found, name, Record::Event)
            }
            Query::Workers => {
                let found = self.ask(|answer| Ask::Workers(after, limit + 1, answer)).await?;
                page_of(query, limit, found, |worker| worker.name.to_string(), Record::Worker)
            }
            Query::Schedules(order) => {
                let found = self.ask(|answer| Ask::Schedules(*order, after, limit + 1, answer)).await??;
                page_of(query, limit, found, |found| order.position(found), Record::Schedule)
            }
            Query::Jobs(_)
            | Query::Dead(_)
            | Query::AccessTokens
            | Query::Audit
            | Query::Event(EventQuery::Dead(_)) => {
                let message = "a list of what the tables have is not asked of the writer";
                return Err(Error::new(ErrorKind::Invalid, message));
            }
        };
        Ok(slice)
    }

    /// Whether the engine has what a list is about, all of it.
    pub fn has_list(query: &Query) -> bool {
        match query {
            Query::Queues | Query::Locks { .. } | Query::Schedules(_) | Query::Workers => true,
            Query::Event(EventQuery::Topics | EventQuery::Groups) => true,
            Query::Event(EventQuery::Dead(_)) => false,
            Query::Jobs(_) | Query::Dead(_) | Query::AccessTokens | Query::Audit => false,
        }
    }
}

/// A page of what was found, which is one more than `limit` if there is more.
fn page_of<T>(
    query: &Query,
    limit: usize,
    mut found: Vec<T>,
    position: impl Fn(&T) -> String,
    record: impl Fn(T) -> Record,
) -> Slice {
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|last| seal_cursor(query, &position(last)));
    Slice { items: found.into_iter().map(record).collect(), next }
}

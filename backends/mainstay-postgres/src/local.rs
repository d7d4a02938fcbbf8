//! Calls as the process that leads answers them, its own and those of others.

use std::time::Duration;

use mainstay_core::{
    Error, ErrorKind, TopicFilter,
    event::{LogBudget, LogSlice, Position},
    store::{Batch, Key, Page, Query, Record, Slice},
    time::Now,
};
use mainstay_writer::{desk::Desk, message::Ask, tail::Reading};

use crate::{
    calls::{Call, Told, submitted},
    home::Pool,
    link::Link,
    read::{self, LogQuery},
    tables,
    term::Leading,
};

/// One record.
pub(crate) async fn get(desk: &Leading, pool: &Pool, key: &Key) -> Result<Option<Record>, Error> {
    if !matches!(key, Key::Job(_) | Key::AccessToken(_)) {
        return desk.record(key).await;
    }
    desk.tidied().await?;
    tables::wait_for(desk, &desk.behind, pool.within()).await?;
    let now = desk.clock.now();
    let found = pool.read(async |link: &Link| match key {
        Key::Job(id) => {
            let found = read::records(link, &[*id], now).await?.remove(id);
            Ok(found.map(|job| Record::Job(Box::new(job))))
        }
        Key::AccessToken(name) => Ok(read::access_token(link, name.as_str()).await?.map(Record::AccessToken)),
        _ => Ok(None),
    });
    current(desk, found.await)
}

/// The tables lack what whoever leads next has done a moment ago: what they say is true while nobody else can lead.
fn current<T>(desk: &Leading, read: Result<T, Error>) -> Result<T, Error> {
    let read = read?;
    desk.is_current().map(|()| read)
}

/// A page.
pub(crate) async fn list(desk: &Leading, pool: &Pool, query: &Query, page: &Page) -> Result<Slice, Error> {
    if Desk::has_list(query) {
        return desk.list(query, page).await;
    }
    desk.tidied().await?;
    tables::wait_for(desk, &desk.behind, pool.within()).await?;
    let now = desk.clock.now();
    current(desk, pool.read(async |link: &Link| read::list(link, query, page, now).await).await)
}

/// A piece of the log.
pub(crate) async fn read_log(
    desk: &Desk,
    pool: &Pool,
    filters: &[TopicFilter],
    from: Position,
    budget: LogBudget,
) -> Result<LogSlice, Error> {
    desk.is_open()?;
    let from = desk.log_position(from).await?;
    match desk.tail.read(filters, from, budget) {
        Reading::Here(slice) => desk.is_current().map(|()| slice),
        Reading::Older { until, head } => {
            pool.read(async |link: &Link| {
                let query = LogQuery { filters, from, budget, until, head };
                read::read_log(link, &desk.tail, &query).await
            })
            .await
        }
    }
}

/// The time.
pub(crate) fn now(desk: &Desk) -> Result<Now, Error> {
    desk.is_open()?;
    let now = desk.clock.now();
    desk.is_current().map(|()| now)
}

/// A call of another process.
pub(crate) async fn answer(desk: &Leading, pool: &Pool, call: Call) -> Told {
    let told = match call {
        Call::Submit { commits, within_ms } => {
            let batch = Batch { commits, within: None };
            desk.submit(batch, Duration::from_millis(within_ms)).await.map(submitted)
        }
        Call::Get(key) => get(desk, pool, &key).await.map(Told::Got),
        Call::List(query, page) => list(desk, pool, &query, &page).await.map(Told::Listed),
        Call::ReadLog(filters, from, budget) => {
            read_log(desk, pool, &filters, from, budget).await.map(Told::Log)
        }
        Call::Wait(..) | Call::PassOn(_) | Call::Withdraw(_) => {
            Err(Error::new(ErrorKind::Invalid, "who carries calls sees to waits by itself"))
        }
        Call::Maintain(budget) => desk.maintain(budget).await.map(Told::Maintained),
        Call::Now => now(desk).map(Told::Now),
        Call::Ping => desk.ask(Ask::Ping).await.map(|()| Told::Pong),
    };
    told.unwrap_or_else(|error| Told::Failed(error.into()))
}

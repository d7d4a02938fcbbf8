//! Fills in what the writer did not have at hand: bodies and events.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use mainstay_core::{
    Error,
    event::{Event, EventReply},
    job::JobBody,
    op::Reply,
};
use mainstay_writer::{
    answer::{Answer, Sealed, not_shown},
    behind::Behind,
    codec::parts,
    desk::Desk,
    numbers::bits,
};
use tokio_postgres::Row;

use crate::{fault::Trouble, link::Link, rows::Cells, step::Param, tables::wait_for};

/// Where to look, and who knows how far the tables are.
pub(crate) struct Source {
    pub(crate) link: Arc<Link>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) behind: Arc<Behind>,
    pub(crate) within: Duration,
}

/// Answers with what they lacked. If the tables may lack it too, they follow first.
pub(crate) async fn fill(source: Source, cold: Vec<Sealed>) {
    let Source { link, desk, behind, within } = source;
    let mut wanted = Wanted::default();
    let mut sealed = Vec::with_capacity(cold.len());
    let newest = cold.iter().map(|sealed| sealed.newest).max().unwrap_or_default();
    for Sealed { sender, mut answer, .. } in cold {
        wanted.note(&mut answer);
        sealed.push((sender, answer));
    }
    let there = if newest > behind.n() { wait_for(&desk, &behind, within).await } else { Ok(()) };
    let found = match there {
        Ok(()) => wanted.find(&link).await,
        Err(error) => Err(error),
    };
    for (sender, mut answer) in sealed {
        let answer = match &found {
            Ok(found) => {
                found.put_into(&mut answer);
                Ok(answer)
            }
            Err(error) => Err(not_shown(error)),
        };
        // A caller that is gone drops it, and it gives back what it holds.
        let _ = sender.send(answer);
    }
}

/// Numbers of bodies, events, and events of dead letters.
#[derive(Default)]
struct Wanted {
    bodies: BTreeSet<u64>,
    events: BTreeSet<u64>,
    dead: BTreeSet<u64>,
}

impl Wanted {
    fn note(&mut self, answer: &mut Answer) {
        for reply in answer.replies_mut() {
            match reply {
                Reply::Claimed(grants) => {
                    let bare = grants.iter().filter(|grant| grant.body.is_none());
                    self.bodies.extend(bare.map(|grant| grant.n));
                }
                Reply::Enqueued(enqueued) if enqueued.kind.is_none() => drop(self.bodies.insert(enqueued.n)),
                Reply::Event(EventReply::Fetched(deliveries)) => {
                    for delivery in deliveries.iter().filter(|delivery| delivery.event.is_none()) {
                        match delivery.dead {
                            Some(number) => self.dead.insert(number),
                            None => self.events.insert(delivery.seq),
                        };
                    }
                }
                _ => {}
            }
        }
    }

    async fn find(&self, link: &Link) -> Result<Found, Error> {
        let numbers = |all: &BTreeSet<u64>| vec![Param::i64s(all.iter().map(|n| bits(*n)).collect())];
        let mut found = Found::default();
        if !self.bodies.is_empty() {
            let sql = "select n, kind, payload, more from {s}.body where n = any($1)";
            for row in &link.query(sql, numbers(&self.bodies)).await.map_err(Trouble::error)? {
                let cells = Cells { table: "body", row };
                found.bodies.insert(cells.u64(0)?, Arc::new(body(cells, 1)?));
            }
        }
        if !self.events.is_empty() {
            let sql = "select seq, body from {s}.event where seq = any($1)";
            for row in &link.query(sql, numbers(&self.events)).await.map_err(Trouble::error)? {
                insert(&mut found.events, "event", row)?;
            }
        }
        if !self.dead.is_empty() {
            let sql = "select number, body from {s}.dead_event where number = any($1)";
            for row in &link.query(sql, numbers(&self.dead)).await.map_err(Trouble::error)? {
                insert(&mut found.dead, "dead_event", row)?;
            }
        }
        Ok(found)
    }
}

fn insert(into: &mut HashMap<u64, Arc<Event>>, table: &'static str, row: &Row) -> Result<(), Error> {
    let cells = Cells { table, row };
    into.insert(cells.u64(0)?, Arc::new(event(cells, 1)?));
    Ok(())
}

/// A body, from its columns `kind`, `payload` and `more`.
pub(crate) fn body(cells: Cells<'_>, i: usize) -> Result<JobBody, Error> {
    let more: Option<&[u8]> = cells.get(i + 2)?;
    let more = more.map(parts::body_of).transpose().map_err(|what| cells.bad(i + 2, what))?;
    let (kind, payload) = (cells.get::<&str>(i)?, cells.get::<&str>(i + 1)?);
    Ok(match more {
        Some(more) => JobBody { kind: kind.into(), payload: payload.into(), ..more },
        None => JobBody::new(kind, payload),
    })
}

/// An event, from its column.
pub(crate) fn event(cells: Cells<'_>, i: usize) -> Result<Event, Error> {
    parts::event_of(cells.get(i)?).map_err(|what| cells.bad(i, what))
}

#[derive(Default)]
struct Found {
    bodies: HashMap<u64, Arc<JobBody>>,
    events: HashMap<u64, Arc<Event>>,
    dead: HashMap<u64, Arc<Event>>,
}

impl Found {
    fn put_into(&self, answer: &mut Answer) {
        for reply in answer.replies_mut() {
            match reply {
                Reply::Claimed(grants) => {
                    for grant in grants.iter_mut().filter(|grant| grant.body.is_none()) {
                        grant.body = self.bodies.get(&grant.n).cloned();
                    }
                    // A job whose body is gone has been forgotten since: its lease is lost.
                    grants.retain(|grant| grant.body.is_some());
                }
                Reply::Enqueued(enqueued) if enqueued.kind.is_none() => {
                    // Nobody knows it any more once the first job has been forgotten.
                    enqueued.kind = self.bodies.get(&enqueued.n).map(|body| body.kind.clone());
                }
                Reply::Event(EventReply::Fetched(deliveries)) => {
                    for delivery in deliveries.iter_mut().filter(|delivery| delivery.event.is_none()) {
                        delivery.event = match delivery.dead {
                            Some(number) => self.dead.get(&number).cloned(),
                            None => self.events.get(&delivery.seq).cloned(),
                        };
                    }
                    // Removed since: the delivery is dropped, and its lease runs out.
                    deliveries.retain(|delivery| delivery.event.is_some());
                }
                _ => {}
            }
        }
    }
}

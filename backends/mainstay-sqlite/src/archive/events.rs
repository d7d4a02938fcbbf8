//! Events and dead letters as the engine asks for them: those that the tables lack from RAM, the others from the tables.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
};

use hashbrown::HashMap;
use mainstay_core::{
    Error,
    engine::change::{DeadRef, EventChange, EventMeta, GroupId, TopicId},
};
use rusqlite::{Connection, Result as SqlResult, Rows, Statement, params};

use crate::{
    block::Merge,
    fault::read_error,
    row::{BLOCK, Cells, DEAD_REF, FROM_OF_ALL, FROM_OF_TOPIC, bits},
};

/// A group forgets this many at least of what the tables have.
const FORGET_AT_ONCE: usize = 1_024;

pub(super) struct RecentEvents<'c> {
    path: &'c Path,
    of_topic: Statement<'c>,
    of_all: Statement<'c>,
    dead_by_number: Statement<'c>,
    dead_of_group: Statement<'c>,
    /// The group under way.
    lsn: u64,
    /// Events that the tables may lack, in order.
    events: VecDeque<(u64, EventMeta)>,
    /// Dead letters that differ from the tables, with the group that says so.
    dead: HashMap<u64, (u64, Dead)>,
    order: VecDeque<(u64, u64)>,
    undo: Vec<(u64, Option<(u64, Dead)>)>,
}

#[derive(Clone)]
enum Dead {
    /// It is one, and new.
    New(DeadRef),
    /// It is one again; the tables know the rest.
    Again,
    /// It is none (any more, or for now); what it was, if it was new.
    Not(Option<DeadRef>),
}

impl<'c> RecentEvents<'c> {
    pub(super) fn new(conn: &'c Connection, path: &'c Path) -> Result<RecentEvents<'c>, Error> {
        let prepare = |sql: &str| conn.prepare(sql).map_err(|e| read_error(path, e));
        Ok(RecentEvents {
            path,
            // In this order: the topic says how far its events are gone.
            of_topic: prepare(&format!(
                "SELECT {BLOCK}, topic.removed_up_to FROM event_block CROSS JOIN topic ON topic.id = event_block.topic \
                 WHERE event_block.topic = ?1 AND event_block.first >= {FROM_OF_TOPIC} ORDER BY event_block.first"
            ))?,
            of_all: prepare(&format!(
                "SELECT {BLOCK}, topic.removed_up_to FROM event_block CROSS JOIN topic ON topic.id = event_block.topic \
                 WHERE event_block.first >= {FROM_OF_ALL} ORDER BY event_block.first"
            ))?,
            dead_by_number: prepare(&format!(
                "SELECT {DEAD_REF} FROM dead_event WHERE number = ?1 AND revived <= ?2"
            ))?,
            dead_of_group: prepare(&format!(
                "SELECT {DEAD_REF} FROM dead_event WHERE grp = ?1 AND NOT revived ORDER BY number LIMIT ?2"
            ))?,
            lsn: 0,
            events: VecDeque::new(),
            dead: HashMap::new(),
            order: VecDeque::new(),
            undo: Vec::new(),
        })
    }

    /// A group begins; the tables have everything up to `applied`.
    pub(super) fn begin(&mut self, lsn: u64, applied: u64) {
        self.lsn = lsn;
        // Events come in large numbers and cost nothing to forget.
        let known = self.events.partition_point(|(since, _)| *since <= applied);
        self.events.drain(..known);
        for _ in 0..FORGET_AT_ONCE {
            let Some((since, number)) = self.order.front().copied().filter(|(since, _)| *since <= applied)
            else {
                break;
            };
            self.order.pop_front();
            if self.dead.get(&number).is_some_and(|(at, _)| *at == since) {
                self.dead.remove(&number);
            }
        }
    }

    pub(super) fn note(&mut self, change: &EventChange) {
        match change {
            EventChange::Published { meta, .. } => self.events.push_back((self.lsn, *meta)),
            EventChange::Died { letter, from } => {
                if let Some(number) = from {
                    self.set_dead(*number, Dead::Not(None));
                }
                self.set_dead(letter.place.number, Dead::New(letter.place.clone()));
            }
            EventChange::DeadRevived { number } => {
                let before = match self.dead.get(number) {
                    Some((_, Dead::New(dead))) => Some(dead.clone()),
                    _ => None,
                };
                self.set_dead(*number, Dead::Not(before));
            }
            EventChange::DeadReturned { number } => {
                let now = match self.dead.get(number) {
                    Some((_, Dead::Not(Some(dead)))) => Dead::New(dead.clone()),
                    _ => Dead::Again,
                };
                self.set_dead(*number, now);
            }
            EventChange::DeadRemoved { number } => self.set_dead(*number, Dead::Not(None)),
            _ => {}
        }
    }

    fn set_dead(&mut self, number: u64, now: Dead) {
        let before = self.dead.insert(number, (self.lsn, now));
        self.undo.push((number, before));
        self.order.push_back((self.lsn, number));
    }

    pub(super) fn commit(&mut self) {
        self.undo.clear();
    }

    pub(super) fn roll_back(&mut self) {
        while let Some((number, before)) = self.undo.pop() {
            match before {
                Some(before) => drop(self.dead.insert(number, before)),
                None => drop(self.dead.remove(&number)),
            }
        }
        while self.order.back().is_some_and(|(since, _)| *since == self.lsn) {
            self.order.pop_back();
        }
        while self.events.back().is_some_and(|(since, _)| *since == self.lsn) {
            self.events.pop_back();
        }
    }

    pub(super) fn events(
        &mut self,
        topic: Option<TopicId>,
        from: u64,
        limit: usize,
    ) -> Result<Vec<EventMeta>, Error> {
        let path = self.path;
        let rows = match topic {
            Some(topic) => self.of_topic.query(params![topic.0, bits(from)]),
            None => self.of_all.query(params![bits(from)]),
        };
        let mut found = metas(path, rows, from, limit)?;
        // The tables may have got further meanwhile.
        let from = found.last().map_or(from, |last| last.seq + 1);
        let recent = self.events.partition_point(|(_, meta)| meta.seq < from);
        let recent = self.events.range(recent..).map(|(_, meta)| *meta);
        let recent = recent.filter(|meta| topic.is_none_or(|topic| meta.topic == topic));
        found.extend(recent.take(limit - found.len()));
        Ok(found)
    }

    pub(super) fn dead_event(&mut self, number: u64) -> Result<Option<DeadRef>, Error> {
        let revived_too = match self.dead.get(&number) {
            Some((_, Dead::New(dead))) => return Ok(Some(dead.clone())),
            Some((_, Dead::Not(_))) => return Ok(None),
            Some((_, Dead::Again)) => true,
            None => false,
        };
        let rows = self.dead_by_number.query(params![bits(number), revived_too]);
        Ok(collect(self.path, "dead_event", rows, |row| row.dead_ref(0))?.pop())
    }

    pub(super) fn dead_events(&mut self, group: GroupId, limit: usize) -> Result<Vec<DeadRef>, Error> {
        let most = limit + self.dead.len();
        let rows = self.dead_of_group.query(params![group.0, most as i64]);
        let found = collect(self.path, "dead_event", rows, |row| row.dead_ref(0))?;
        let full = found.len() == most;
        let last = found.last().map(|dead| dead.number);
        let mut all: BTreeMap<u64, DeadRef> = found.into_iter().map(|dead| (dead.number, dead)).collect();
        for (number, (_, recent)) in &self.dead {
            match recent {
                Dead::Not(_) => drop(all.remove(number)),
                // Behind the last row there may be others.
                Dead::New(dead) if dead.group == group && !(full && Some(*number) > last) => {
                    all.insert(*number, dead.clone());
                }
                // One that is there again has a row that says it is not yet; its turn comes later.
                Dead::New(_) | Dead::Again => {}
            }
        }
        Ok(all.into_values().take(limit).collect())
    }
}

/// What is known of the first `limit` events at or behind `from` that are left of blocks in order.
fn metas(path: &Path, rows: SqlResult<Rows<'_>>, from: u64, limit: usize) -> Result<Vec<EventMeta>, Error> {
    let mut rows = rows.map_err(|e| read_error(path, e))?;
    let (mut merge, mut found) = (Merge::default(), Vec::new());
    let mut take = |merge: &mut Merge, until| {
        while found.len() < limit
            && let Some((meta, ..)) = merge.next(until)
        {
            found.push(meta);
        }
        found.len() < limit
    };
    while let Some(row) = rows.next().map_err(|e| read_error(path, e))? {
        let row = Cells { path, table: "event_block", row };
        let place = row.block_place()?;
        if !take(&mut merge, place.first) {
            return Ok(found);
        }
        let from = from.max(row.u64(5)? + 1);
        if place.last >= from {
            merge.add(row.heads()?, from);
        }
    }
    take(&mut merge, u64::MAX);
    Ok(found)
}

fn collect<T>(
    path: &Path,
    table: &'static str,
    rows: SqlResult<Rows<'_>>,
    decode: impl Fn(Cells<'_>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let mut rows = rows.map_err(|e| read_error(path, e))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(|e| read_error(path, e))? {
        found.push(decode(Cells { path, table, row })?);
    }
    Ok(found)
}

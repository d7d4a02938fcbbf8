//! What the engine asks of the tables. What the group under way has changed is not in them yet and comes first.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use mainstay_core::{
    Error, ErrorKind, JobId,
    engine::change::{
        Archive, Change, DeadRef, EventChange, EventMeta, FinishedJob, FinishedKey, FinishedRef, GroupId,
        Lane, QueueId, TopicId,
    },
};
use mainstay_writer::{codec::parts, numbers::bits};
use tokio_postgres::{Row, types::Type};

use crate::{
    fronts::{Fronts, READ_AHEAD, TIMES},
    link::Again,
    rows::{Cells, FINISHED, FINISHED_REF},
    step::Param,
    write::{ids, lane_number},
};

pub(crate) struct Past {
    pub(crate) link: Again,
    runtime: tokio::runtime::Handle,
    /// Of the group under way. `None`: not finished any more, whatever the tables say.
    jobs: HashMap<JobId, Option<Arc<FinishedJob>>>,
    places: BTreeMap<FinishedKey, Option<FinishedRef>>,
    events: Vec<EventMeta>,
    dead: BTreeMap<u64, Dead>,
    fronts: Fronts,
}

enum Dead {
    /// It is one, and new.
    New(DeadRef),
    /// It is one again; the tables know the rest.
    Again,
    /// It is none (any more, or for now); what it was, if it was new.
    Not(Option<DeadRef>),
}

impl Past {
    pub(crate) fn new(link: Again, runtime: tokio::runtime::Handle) -> Past {
        Past {
            link,
            runtime,
            jobs: HashMap::new(),
            places: BTreeMap::new(),
            events: Vec::new(),
            dead: BTreeMap::new(),
            fronts: Fronts::default(),
        }
    }

    /// Remembers a change of the group under way.
    pub(crate) fn note(&mut self, change: &Change) {
        match change {
            Change::JobFinished(finished) => {
                self.jobs.insert(finished.job.id, Some(finished.clone()));
                let place = FinishedJob::as_ref(finished);
                self.places.insert(finished.key, Some(place));
                self.fronts.comes(place);
            }
            Change::FinishedRevived { key, id } => {
                self.jobs.insert(*id, None);
                self.goes(*key);
            }
            Change::FinishedRemoved(gone) => {
                self.jobs.insert(gone.id, None);
                self.goes(gone.key);
            }
            Change::Event(change) => self.note_event(change),
            _ => {}
        }
    }

    fn goes(&mut self, key: FinishedKey) {
        self.places.insert(key, None);
        self.fronts.goes(key);
    }

    fn note_event(&mut self, change: &EventChange) {
        match change {
            EventChange::Published { meta, .. } => self.events.push(*meta),
            EventChange::Died { letter, from } => {
                if let Some(number) = from {
                    self.dead.insert(*number, Dead::Not(None));
                }
                self.dead.insert(letter.place.number, Dead::New(letter.place.clone()));
            }
            EventChange::DeadRevived { number } => {
                let before = match self.dead.remove(number) {
                    Some(Dead::New(dead)) => Some(dead),
                    _ => None,
                };
                self.dead.insert(*number, Dead::Not(before));
            }
            EventChange::DeadReturned { number } => {
                let now = match self.dead.remove(number) {
                    Some(Dead::Not(Some(dead))) => Dead::New(dead),
                    _ => Dead::Again,
                };
                self.dead.insert(*number, now);
            }
            EventChange::DeadRemoved { number } => drop(self.dead.insert(*number, Dead::Not(None))),
            _ => {}
        }
    }

    /// The group has happened: the tables have all of it.
    pub(crate) fn commit(&mut self) {
        self.jobs.clear();
        self.places.clear();
        self.events.clear();
        self.dead.clear();
    }

    /// The group has not happened.
    pub(crate) fn roll_back(&mut self) {
        self.commit();
        self.fronts = Fronts::default();
    }

    fn query(&mut self, sql: &str, params: Vec<Param>) -> Result<Vec<Row>, Error> {
        let link = &mut self.link;
        let found = self.runtime.block_on(async { link.get().await?.query(sql, params).await });
        found.map_err(|trouble| match trouble.error() {
            // The group is undone, and its callers hear it.
            error if error.kind() == ErrorKind::Invalid => {
                Error::new(ErrorKind::Unavailable, error.to_string())
            }
            error => error,
        })
    }

    fn ref_of(&self, row: &Row) -> Result<DeadRef, Error> {
        let cells = Cells { table: "dead_event", row };
        match cells.change(0)? {
            Change::Event(EventChange::Died { letter, .. }) => Ok(letter.place),
            _ => Err(cells.bad(0, "is of another kind")),
        }
    }
}

impl Archive for Past {
    fn finished(&mut self, id: JobId) -> Result<Option<FinishedJob>, Error> {
        if let Some(known) = self.jobs.get(&id) {
            return Ok(known.as_deref().cloned());
        }
        let sql = format!("select {FINISHED} from {{s}}.finished where id = any($1)");
        let found = self.query(&sql, vec![ids(&[id])])?;
        found.first().map(|row| Cells { table: "finished", row }.finished_job()).transpose()
    }

    fn is_taken(&mut self, key: FinishedKey) -> Result<bool, Error> {
        if self.places.contains_key(&key) {
            return Ok(true);
        }
        let sql = "select 1 from {s}.finished where queue = $1 and lane = $2 and f = $3";
        let lane = Param::new(lane_number(key.lane), Type::INT2);
        Ok(!self.query(sql, vec![Param::i32(key.queue.0), lane, Param::i64(key.f)])?.is_empty())
    }

    fn oldest(&mut self, queue: QueueId, lane: Lane, limit: usize) -> Result<Vec<FinishedRef>, Error> {
        if let Some(known) = self.fronts.oldest(queue, lane, limit) {
            return Ok(known);
        }
        let from = self.fronts.trimmed_to(queue, lane);
        let (first, last) = (FinishedKey { queue, lane, f: 0 }, FinishedKey { queue, lane, f: u64::MAX });
        // As many as may turn out to be gone come on top.
        let gone = self.places.range(first..=last).filter(|(_, place)| place.is_none()).count();
        let most = limit.saturating_mul(TIMES).min(READ_AHEAD).max(limit) + gone;
        let sql = format!(
            "select {FINISHED_REF} from {{s}}.finished where queue = $1 and lane = $2 and f > $3 order by f limit $4"
        );
        let lane_of = Param::new(lane_number(lane), Type::INT2);
        let params = vec![Param::i32(queue.0), lane_of, Param::i64(from), Param::i64(most as u64)];
        let rows = self.query(&sql, params)?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            found.push(Cells { table: "finished", row }.finished_ref()?);
        }
        // Behind the last row there may be others.
        let until = match found.last() {
            Some(last) if found.len() == most => last.key.f,
            _ => u64::MAX,
        };
        found.retain(|row| !self.places.contains_key(&row.key));
        let known = self.places.range(FinishedKey { f: from, ..first }..=FinishedKey { f: until, ..first });
        found.extend(known.filter_map(|(_, place)| *place));
        found.sort_unstable_by_key(|row| row.key.f);
        self.fronts.found(queue, lane, &found, until == u64::MAX);
        found.truncate(limit);
        Ok(found)
    }

    fn events(&mut self, topic: Option<TopicId>, from: u64, limit: usize) -> Result<Vec<EventMeta>, Error> {
        let (from_seq, most) = (Param::i64(from), Param::i64(limit as u64));
        let rows = match topic {
            Some(topic) => {
                let sql = "select meta from {s}.event where topic = $3 and seq >= $1 order by seq limit $2";
                self.query(sql, vec![from_seq, most, Param::i32(topic.0)])?
            }
            None => {
                let sql = "select meta from {s}.event where seq >= $1 order by seq limit $2";
                self.query(sql, vec![from_seq, most])?
            }
        };
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let cells = Cells { table: "event", row };
            found.push(parts::meta_of(cells.get(0)?).map_err(|what| cells.bad(0, what))?);
        }
        let fits = |meta: &&EventMeta| meta.seq >= from && topic.is_none_or(|topic| meta.topic == topic);
        let room = limit - found.len();
        found.extend(self.events.iter().filter(fits).take(room));
        Ok(found)
    }

    fn dead_event(&mut self, number: u64) -> Result<Option<DeadRef>, Error> {
        let is_again = match self.dead.get(&number) {
            Some(Dead::New(dead)) => return Ok(Some(dead.clone())),
            Some(Dead::Not(_)) => return Ok(None),
            Some(Dead::Again) => true,
            None => false,
        };
        let sql = "select letter from {s}.dead_event where number = $1 and (not revived or $2)";
        let rows = self.query(sql, vec![Param::i64(number), Param::new(is_again, Type::BOOL)])?;
        rows.first().map(|row| self.ref_of(row)).transpose()
    }

    fn dead_events(&mut self, group: GroupId, limit: usize) -> Result<Vec<DeadRef>, Error> {
        let (mut again, mut known) = (Vec::new(), Vec::new());
        for (number, dead) in &self.dead {
            match dead {
                Dead::Again => again.push(bits(*number)),
                Dead::Not(_) => known.push(bits(*number)),
                Dead::New(_) => {}
            }
        }
        let sql = "select letter from {s}.dead_event where grp = $1 and (not revived or number = any($2)) \
                   and number <> all($3) order by number limit $4";
        let most = Param::i64(limit as u64);
        let rows =
            self.query(sql, vec![Param::i32(group.0), Param::i64s(again), Param::i64s(known), most])?;
        let mut found = rows.iter().map(|row| self.ref_of(row)).collect::<Result<Vec<_>, _>>()?;
        let new = self.dead.values().filter_map(|dead| match dead {
            Dead::New(dead) if dead.group == group => Some(dead.clone()),
            _ => None,
        });
        found.extend(new);
        found.sort_unstable_by_key(|dead| dead.number);
        // One that was new and came again is in the tables by no name of its own.
        found.dedup_by_key(|dead| dead.number);
        found.truncate(limit);
        Ok(found)
    }
}

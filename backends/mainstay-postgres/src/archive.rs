//! What the engine asks of the tables, for the archive that all stores share: that has what they lack.

use mainstay_core::{
    Error, ErrorKind, JobId,
    engine::change::{
        Archive, Change, DeadRef, EventChange, EventMeta, FinishedJob, FinishedKey, FinishedRef, GroupId,
        Lane, QueueId, TopicId,
    },
};
use mainstay_writer::{
    archive::{OfTables, Recent},
    codec::parts,
};
use tokio_postgres::{Row, types::Type};

use crate::{
    fronts::{Fronts, READ_AHEAD, TIMES},
    link::Again,
    rows::{Cells, FINISHED, FINISHED_REF},
    step::Param,
    write::{ids, lane_number},
};

/// The writer's archive, with what it has read ahead.
pub(crate) struct Past {
    recent: Recent<OfDatabase>,
    fronts: Fronts,
}

impl Past {
    pub(crate) fn new(link: Again, runtime: tokio::runtime::Handle) -> Past {
        Past { recent: Recent::new(OfDatabase { link, runtime }), fronts: Fronts::default() }
    }

    /// The writer's session.
    pub(crate) fn link(&mut self) -> &mut Again {
        &mut self.recent.tables().link
    }

    /// A group begins; the tables have everything up to `applied`.
    pub(crate) fn begin(&mut self, lsn: u64, applied: u64) {
        self.recent.begin(lsn, applied);
    }

    /// Remembers a change of the group under way.
    pub(crate) fn note(&mut self, change: &Change) {
        self.recent.note(change);
        match change {
            Change::JobFinished(finished) => self.fronts.comes(FinishedJob::as_ref(finished)),
            Change::FinishedRevived { key, .. } => self.fronts.goes(*key),
            Change::FinishedRemoved(gone) => self.fronts.goes(gone.key),
            _ => {}
        }
    }

    /// The group has happened.
    pub(crate) fn commit(&mut self) {
        self.recent.commit();
    }

    /// The group has not happened.
    pub(crate) fn roll_back(&mut self) {
        self.recent.roll_back();
        self.fronts = Fronts::default();
    }
}

impl Archive for Past {
    fn finished(&mut self, id: JobId) -> Result<Option<FinishedJob>, Error> {
        self.recent.finished(id)
    }

    fn is_taken(&mut self, key: FinishedKey) -> Result<bool, Error> {
        self.recent.is_taken(key)
    }

    fn oldest(&mut self, queue: QueueId, lane: Lane, limit: usize) -> Result<Vec<FinishedRef>, Error> {
        if let Some(known) = self.fronts.oldest(queue, lane, limit) {
            return Ok(known);
        }
        let most = limit.saturating_mul(TIMES).min(READ_AHEAD).max(limit);
        let mut found = self.recent.oldest(queue, lane, most)?;
        self.fronts.found(queue, lane, &found, found.len() < most);
        found.truncate(limit);
        Ok(found)
    }

    fn events(&mut self, topic: Option<TopicId>, from: u64, limit: usize) -> Result<Vec<EventMeta>, Error> {
        self.recent.events(topic, from, limit)
    }

    fn dead_event(&mut self, number: u64) -> Result<Option<DeadRef>, Error> {
        self.recent.dead_event(number)
    }

    fn dead_events(&mut self, group: GroupId, limit: usize) -> Result<Vec<DeadRef>, Error> {
        self.recent.dead_events(group, limit)
    }
}

struct OfDatabase {
    link: Again,
    runtime: tokio::runtime::Handle,
}

impl OfDatabase {
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
}

fn ref_of(row: &Row) -> Result<DeadRef, Error> {
    let cells = Cells { table: "dead_event", row };
    match cells.change(0)? {
        Change::Event(EventChange::Died { letter, .. }) => Ok(letter.place),
        _ => Err(cells.bad(0, "is of another kind")),
    }
}

impl OfTables for OfDatabase {
    fn finished(&mut self, id: JobId) -> Result<Option<FinishedJob>, Error> {
        let sql = format!("select {FINISHED} from {{s}}.finished where id = any($1)");
        let found = self.query(&sql, vec![ids(&[id])])?;
        found.first().map(|row| Cells { table: "finished", row }.finished_job()).transpose()
    }

    fn is_taken(&mut self, key: FinishedKey) -> Result<bool, Error> {
        let sql = "select 1 from {s}.finished where queue = $1 and lane = $2 and f = $3";
        let lane = Param::new(lane_number(key.lane), Type::INT2);
        Ok(!self.query(sql, vec![Param::i32(key.queue.0), lane, Param::i64(key.f)])?.is_empty())
    }

    fn oldest(
        &mut self,
        queue: QueueId,
        lane: Lane,
        behind: u64,
        limit: usize,
    ) -> Result<Vec<FinishedRef>, Error> {
        let sql = format!(
            "select {FINISHED_REF} from {{s}}.finished where queue = $1 and lane = $2 and f > $3 order by f limit $4"
        );
        let lane = Param::new(lane_number(lane), Type::INT2);
        let params = vec![Param::i32(queue.0), lane, Param::i64(behind), Param::i64(limit as u64)];
        let rows = self.query(&sql, params)?;
        rows.iter().map(|row| Cells { table: "finished", row }.finished_ref()).collect()
    }

    fn events(&mut self, topic: Option<TopicId>, from: u64, limit: usize) -> Result<Vec<EventMeta>, Error> {
        let (from, most) = (Param::i64(from), Param::i64(limit as u64));
        let rows = match topic {
            Some(topic) => {
                let sql = "select meta from {s}.event where topic = $3 and seq >= $1 order by seq limit $2";
                self.query(sql, vec![from, most, Param::i32(topic.0)])?
            }
            None => {
                let sql = "select meta from {s}.event where seq >= $1 order by seq limit $2";
                self.query(sql, vec![from, most])?
            }
        };
        let meta = |row| {
            let cells = Cells { table: "event", row };
            parts::meta_of(cells.get(0)?).map_err(|what| cells.bad(0, what))
        };
        rows.iter().map(meta).collect()
    }

    fn dead_event(&mut self, number: u64, revived_too: bool) -> Result<Option<DeadRef>, Error> {
        let sql = "select letter from {s}.dead_event where number = $1 and (not revived or $2)";
        let rows = self.query(sql, vec![Param::i64(number), Param::new(revived_too, Type::BOOL)])?;
        rows.first().map(ref_of).transpose()
    }

    fn dead_events(&mut self, group: GroupId, limit: usize) -> Result<Vec<DeadRef>, Error> {
        let sql = "select letter from {s}.dead_event where grp = $1 and not revived order by number limit $2";
        let rows = self.query(sql, vec![Param::i32(group.0), Param::i64(limit as u64)])?;
        rows.iter().map(ref_of).collect()
    }
}

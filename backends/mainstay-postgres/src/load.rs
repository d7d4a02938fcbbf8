//! When somebody begins to lead, the engine is rebuilt from the tables.

use std::{collections::HashSet, hash::Hash};

use mainstay_core::{
    Error, StoreTime, Timestamp,
    engine::{
        Engine,
        change::{
            AfterChange, Change, Counters, EventChange, GroupId, Lane, Phase, PolicyId, QueueId, TopicId,
        },
        locks::change::LockChange,
    },
    event::{DEDUP_KEPT, DedupKey},
    schedule::ScheduleChange,
};
use mainstay_writer::codec::parts;
use tokio_postgres::{Row, types::Type};

use crate::{
    archive::Past,
    fault::{Trouble, damaged},
    journal,
    link::Link,
    rows::{Cells, JOB},
    step::Param,
};

/// What the tables said.
pub(crate) struct Loaded {
    /// Everything is in, but [`Engine::finish_load`] has not been called.
    pub(crate) engine: Engine,
    /// The store's clock at the last group that the tables have, and the number of that.
    pub(crate) clock: StoreTime,
    pub(crate) lsn: u64,
}

/// Rows that are fetched at once.
const PIECE: usize = 20_000;

/// Reads everything the engine keeps in RAM. Nobody else writes: whoever asks has just begun to lead, and brought the
/// tables to the end of the journal.
pub(crate) async fn load(link: &Link) -> Result<Loaded, Error> {
    let mut engine = Engine::new();
    let (counters, lsn, last_seq) = counters(link).await?;
    engine.load_counters(counters);
    let mut known = Known::default();

    for row in things(link, "policy").await? {
        let Change::Policy { id, policy } = row.change()? else { return Err(row.other()) };
        known.policies.insert(id);
        engine.load_policy(id, policy);
    }
    if engine.has_many_policies() {
        let rows = query(link, "select policy, count(*) from {s}.finished group by policy", vec![]).await?;
        let user = |row| {
            let cells = Cells { table: "finished", row };
            Ok((PolicyId(cells.u32(0)?), cells.u64(1)?))
        };
        engine.load_policy_users(rows.iter().map(user).collect::<Result<Vec<_>, Error>>()?);
    }
    for row in things(link, "queue").await? {
        let Change::Queue { id, name, config, paused, dropped } = row.change()? else {
            return Err(row.other());
        };
        known.queues.insert(id);
        engine.load_queue(id, name, config, paused, dropped);
    }
    finished(&mut engine, link, &known).await?;
    for row in things(link, "limits").await? {
        let Change::Limit(limit) = row.change()? else { return Err(row.other()) };
        refers(&known.queues, &limit.queue, "limits")?;
        engine.load_limit(limit.queue, &limit.key, limit.value.unwrap_or_default());
    }
    jobs(&mut engine, link, &known).await?;
    rest_of_jobs(&mut engine, link, &known).await?;
    locks(&mut engine, link).await?;
    events(&mut engine, link, last_seq).await?;
    for row in things(link, "schedule").await? {
        let Change::Schedule(ScheduleChange::Put(mut record)) = row.change()? else {
            return Err(row.other());
        };
        if let Some(moved) = row.moved()? {
            let Change::Schedule(ScheduleChange::Moved { state, .. }) = moved else {
                return Err(row.other());
            };
            record.state = state;
        }
        engine.load_schedule(*record);
    }
    Ok(Loaded { engine, clock: counters.clock, lsn })
}

/// What needs an archive: whether groups lag, and by how much.
pub(crate) fn load_pending(engine: &mut Engine, past: &mut Past) -> Result<(), Error> {
    engine.load_pending(past)
}

#[derive(Default)]
struct Known {
    queues: HashSet<QueueId>,
    policies: HashSet<PolicyId>,
}

/// The engine relies on it that what a row refers to is there.
fn refers<T: Hash + Eq>(all: &HashSet<T>, id: &T, table: &str) -> Result<(), Error> {
    if all.contains(id) {
        Ok(())
    } else {
        Err(damaged(&format!("table {table}"), "a row refers to one that is not there"))
    }
}

async fn query(link: &Link, sql: &str, params: Vec<Param>) -> Result<Vec<Row>, Error> {
    link.query(sql, params).await.map_err(Trouble::error)
}

async fn counters(link: &Link) -> Result<(Counters, u64, u64), Error> {
    let sql = "select lsn, last_seq, token, n, f, k, audit, clock from {s}.reached";
    let rows = query(link, sql, vec![]).await?;
    let Some(row) = rows.first() else { return Err(damaged("table reached", "its row is not there")) };
    let cells = Cells { table: "reached", row };
    Ok((journal::counters(cells, 2)?, cells.u64(0)?, cells.u64(1)?))
}

/// A row of a table that the engine alone reads.
struct Thing {
    table: &'static str,
    row: Row,
}

impl Thing {
    fn cells(&self) -> Cells<'_> {
        Cells { table: self.table, row: &self.row }
    }

    fn change(&self) -> Result<Change, Error> {
        self.cells().change(1)
    }

    fn moved(&self) -> Result<Option<Change>, Error> {
        self.cells().change_opt(2)
    }

    fn other(&self) -> Error {
        self.cells().bad(1, "is of another kind")
    }
}

/// Such a table, in the order of its keys.
async fn things(link: &Link, table: &'static str) -> Result<Vec<Thing>, Error> {
    let sql = format!("select key, data, moved from {{s}}.{table} order by key");
    let rows = query(link, &sql, vec![]).await?;
    Ok(rows.into_iter().map(|row| Thing { table, row }).collect())
}

async fn finished(engine: &mut Engine, link: &Link, known: &Known) -> Result<(), Error> {
    let sql = "select queue, lane, count(*), max(f) from {s}.finished group by queue, lane";
    for row in &query(link, sql, vec![]).await? {
        let cells = Cells { table: "finished", row };
        let queue = QueueId(cells.u32(0)?);
        refers(&known.queues, &queue, "finished")?;
        let lane = u8::try_from(cells.get::<i16>(1)?).ok().and_then(Lane::from_u8);
        let lane = lane.ok_or_else(|| cells.bad(1, "is none of the lanes"))?;
        engine.load_finished_count(queue, lane, cells.u64(2)?, cells.u64(3)?);
    }
    for row in &query(link, "select id from {s}.finished order by id desc limit 1", vec![]).await? {
        engine.load_finished_up_to(Cells { table: "finished", row }.job_id(0)?);
    }
    Ok(())
}

async fn jobs(engine: &mut Engine, link: &Link, known: &Known) -> Result<(), Error> {
    let sql = format!("select {JOB} from {{s}}.job where id > $1 order by id limit {PIECE}");
    let mut last = uuid::Uuid::nil();
    loop {
        let rows = query(link, &sql, vec![Param::new(last, Type::UUID)]).await?;
        for row in &rows {
            let cells = Cells { table: "job", row };
            let live = cells.live_job()?;
            refers(&known.queues, &live.job.queue, "job")?;
            refers(&known.policies, &live.job.policy, "job")?;
            engine.load_job(live.job, live.extras, live.lease, live.settled);
        }
        match rows.last() {
            Some(row) if rows.len() == PIECE => last = row.get(0),
            _ => return Ok(()),
        }
    }
}

async fn rest_of_jobs(engine: &mut Engine, link: &Link, known: &Known) -> Result<(), Error> {
    for row in things(link, "edge").await? {
        let Change::After(AfterChange::Opened { waiter, on, failure }) = row.change()? else {
            return Err(row.other());
        };
        // A job that has finished may be waited for, if it is dead.
        if engine.job(waiter).is_none_or(|(job, ..)| job.phase != Phase::Blocked) {
            return Err(row.cells().bad(0, "is of a job that does not wait"));
        }
        on.into_iter().for_each(|on| engine.load_edge(waiter, on, failure));
    }
    for row in things(link, "ended").await? {
        let Change::After(AfterChange::Ended { id, how }) = row.change()? else { return Err(row.other()) };
        engine.load_ended(id, how);
    }
    for row in things(link, "uniq").await? {
        let Change::Unique { queue, key, id, until } = row.change()? else { return Err(row.other()) };
        refers(&known.queues, &queue, "uniq")?;
        engine.load_unique(queue, key, id, until);
    }
    for row in things(link, "keyed").await? {
        let Change::Keyed { k, key, at, replies } = row.change()? else { return Err(row.other()) };
        engine.load_keyed(k, key, at, replies);
    }
    for row in things(link, "access_token").await? {
        let Change::AccessToken(token) = row.change()? else { return Err(row.other()) };
        engine.load_access_token(token);
    }
    Ok(())
}

async fn locks(engine: &mut Engine, link: &Link) -> Result<(), Error> {
    for row in things(link, "lock_grant").await? {
        let Change::Lock(LockChange::Granted(mut grant)) = row.change()? else { return Err(row.other()) };
        if let Some(moved) = row.moved()? {
            let Change::Lock(LockChange::Renewed { until, ms, .. }) = moved else { return Err(row.other()) };
            (grant.until, grant.ms) = (Some(until), ms);
        }
        engine.load_lock_grant(*grant);
    }
    for row in things(link, "lock_waiter").await? {
        let Change::Lock(LockChange::Queued(waiter)) = row.change()? else { return Err(row.other()) };
        engine.load_lock_waiter(*waiter);
    }
    Ok(())
}

async fn events(engine: &mut Engine, link: &Link, last_seq: u64) -> Result<(), Error> {
    engine.load_last_seq(last_seq);
    let mut removed = std::collections::HashMap::new();
    for row in things(link, "topic_trimmed").await? {
        let Change::Event(EventChange::EventsRemoved { topic, up_to }) = row.change()? else {
            return Err(row.other());
        };
        removed.insert(topic, up_to);
    }
    let mut topics = Vec::new();
    for row in things(link, "topic").await? {
        let Change::Event(EventChange::Topic { id, name, config, dropped }) = row.change()? else {
            return Err(row.other());
        };
        engine.load_topic(id, name, config, dropped, removed.get(&id).copied().unwrap_or_default());
        topics.push(id.0 as i32);
    }
    // The first and the last event of a topic tell how many there are.
    let end =
        |order| format!("(select meta from {{s}}.event where topic = t.id order by seq {order} limit 1)");
    let sql = format!("select {}, {} from unnest($1) as t (id)", end("asc"), end("desc"));
    for row in &query(link, &sql, vec![Param::new(topics, Type::INT4_ARRAY)]).await? {
        let cells = Cells { table: "event", row };
        let meta = |i| {
            let bytes: Option<&[u8]> = cells.get(i)?;
            bytes.map(|bytes| parts::meta_of(bytes).map_err(|what| cells.bad(i, what))).transpose()
        };
        if let (Some(first), Some(last)) = (meta(0)?, meta(1)?) {
            engine.load_topic_events(first, last);
        }
    }
    dedup(engine, link).await?;
    groups(engine, link).await
}

async fn dedup(engine: &mut Engine, link: &Link) -> Result<(), Error> {
    let sql = format!(
        "select * from (select key, data from {{s}}.event_dedup order by key desc limit {DEDUP_KEPT}) newest order by key"
    );
    for row in &query(link, &sql, vec![]).await? {
        let cells = Cells { table: "event_dedup", row };
        let (key, data): (&[u8], &[u8]) = (cells.get(0)?, cells.get(1)?);
        let parts = || {
            let (topic, rest) = data.split_first_chunk::<4>()?;
            let (at, dedup) = rest.split_first_chunk::<8>()?;
            let seq = u64::from_be_bytes(key.try_into().ok()?);
            let at = Timestamp(u64::from_be_bytes(*at) as i64);
            Some((seq, TopicId(u32::from_be_bytes(*topic)), at, DedupKey(dedup.try_into().ok()?)))
        };
        let (seq, topic, at, dedup) = parts().ok_or_else(|| cells.bad(1, "is of another length"))?;
        engine.load_dedup(dedup, seq, topic, at);
    }
    Ok(())
}

async fn groups(engine: &mut Engine, link: &Link) -> Result<(), Error> {
    let mut known = HashSet::new();
    for row in things(link, "event_group").await? {
        let Change::Event(EventChange::Group(mut group)) = row.change()? else { return Err(row.other()) };
        if let Some(moved) = row.moved()? {
            let Change::Event(EventChange::GroupMoved { place, .. }) = moved else { return Err(row.other()) };
            group.place = place;
        }
        known.insert(group.id);
        engine.load_group(group);
    }
    for row in things(link, "delivery").await? {
        let Change::Event(EventChange::Delivery { group, seq, row: event, .. }) = row.change()? else {
            return Err(row.other());
        };
        refers(&known, &group, "delivery")?;
        engine.load_delivery(group, seq, event);
    }
    let mut settled = Vec::new();
    for row in things(link, "settled_delivery").await? {
        let Change::Event(EventChange::Settled { group, n, lease, verb }) = row.change()? else {
            return Err(row.other());
        };
        refers(&known, &group, "settled_delivery")?;
        settled.push((group, n, lease, verb));
    }
    // The table is a ring.
    settled.sort_unstable_by_key(|(group, n, ..)| (*group, *n));
    settled.into_iter().for_each(|(group, n, lease, verb)| engine.load_settled(group, n, lease, verb));
    for row in &query(link, "select grp, count(*) from {s}.dead_event where not revived group by grp", vec![])
        .await?
    {
        let cells = Cells { table: "dead_event", row };
        let group = GroupId(cells.u32(0)?);
        refers(&known, &group, "dead_event")?;
        engine.load_dead(group, cells.u64(1)?);
    }
    Ok(())
}

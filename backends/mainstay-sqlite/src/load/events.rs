//! What the engine keeps in RAM of topics, events and groups.

use std::{collections::HashSet, path::Path};

use mainstay_core::{
    Error,
    engine::{
        Engine,
        change::{GroupId, TopicId},
    },
};
use rusqlite::{Connection, OptionalExtension, params};

use super::{Each, known};
use crate::{
    archive::recent,
    fault::read_error,
    row::{BLOCK, Cells, DEAD_REF, DELIVERY, bits},
};

pub(super) fn load_events(
    engine: &mut Engine,
    conn: &Connection,
    path: &Path,
    each: Each<'_>,
) -> Result<(), Error> {
    each("event_log", "SELECT last_seq FROM event_log", &mut |row| {
        engine.load_last_seq(row.u64(0)?);
        Ok(())
    })?;
    let mut topics = Vec::new();
    each("topic", "SELECT id, name, config, dropped, removed_up_to FROM topic", &mut |row| {
        let (id, removed_up_to) = (TopicId(row.u32(0)?), row.u64(4)?);
        engine.load_topic(id, row.parse(1)?, row.json(2)?, row.int(3)? != 0, removed_up_to);
        topics.push((id, removed_up_to));
        Ok(())
    })?;
    for (id, removed_up_to) in topics {
        load_topic_events(engine, conn, path, id, removed_up_to)?;
    }
    load_ids(engine, each)?;
    load_groups(engine, each)?;
    // The journal is empty: the tables alone answer.
    engine.load_pending(&mut recent(conn, path)?)
}

/// The first that is left and the last tell how many there are.
fn load_topic_events(
    engine: &mut Engine,
    conn: &Connection,
    path: &Path,
    id: TopicId,
    removed_up_to: u64,
) -> Result<(), Error> {
    let block = |order| {
        let sql = format!(
            "SELECT {BLOCK} FROM event_block WHERE topic = ?1 AND last > ?2 ORDER BY first {order} LIMIT 1"
        );
        let mut statement = conn.prepare_cached(&sql).map_err(|e| read_error(path, e))?;
        let found = statement.query_row(params![id.0, bits(removed_up_to)], |row| {
            Ok(Cells { path, table: "event_block", row }.heads())
        });
        found.optional().map_err(|e| read_error(path, e))?.transpose()
    };
    let (Some(first), Some(last)) = (block("ASC")?, block("DESC")?) else { return Ok(()) };
    let first = first.metas.into_iter().find(|meta| meta.seq > removed_up_to);
    if let (Some(first), Some(last)) = (first, last.metas.last()) {
        engine.load_topic_events(first, *last);
    }
    Ok(())
}

/// The newest ids that publishers chose.
fn load_ids(engine: &mut Engine, each: Each<'_>) -> Result<(), Error> {
    let mut forgotten = 0;
    each("event_log", "SELECT ids_forgotten FROM event_log", &mut |row| {
        forgotten = row.u64(0)?;
        Ok(())
    })?;
    each("event_ids", "SELECT first, ids FROM event_ids ORDER BY first", &mut |row| {
        for (seq, topic, at, key) in row.known_ids()?.into_iter().filter(|(seq, ..)| *seq > forgotten) {
            engine.load_dedup(key, seq, topic, at);
        }
        Ok(())
    })
}

fn load_groups(engine: &mut Engine, each: Each<'_>) -> Result<(), Error> {
    let mut groups = HashSet::new();
    each(
        "event_group",
        "SELECT id, name, config, cursor, skipped, redelivered FROM event_group",
        &mut |row| {
            let group = row.group_row()?;
            groups.insert(group.id);
            engine.load_group(group);
            Ok(())
        },
    )?;
    let dead = in_dead_event();
    let deliveries = format!("SELECT {DELIVERY}, {dead} FROM delivery LEFT JOIN dead_event ON number = dead");
    each("delivery", &deliveries, &mut |row| {
        let (group, seq, event) = row.delivery()?;
        known(&groups, &group, row, 0)?;
        engine.load_delivery(group, seq, event);
        Ok(())
    })?;
    let settled = "SELECT grp, n, token, nonce, verb FROM settled_delivery ORDER BY grp, n";
    each("settled_delivery", settled, &mut |row| {
        let (group, n, lease, verb) = row.settled_delivery()?;
        known(&groups, &group, row, 0)?;
        engine.load_settled(group, n, lease, verb);
        Ok(())
    })?;
    let dead = "SELECT grp, count(*) FROM dead_event WHERE NOT revived GROUP BY grp";
    each("dead_event", dead, &mut |row| {
        let group = GroupId(row.u32(0)?);
        known(&groups, &group, row, 0)?;
        engine.load_dead(group, row.u64(1)?);
        Ok(())
    })
}

/// The columns of [`DEAD_REF`], said so that no other table can be meant.
fn in_dead_event() -> String {
    DEAD_REF.split(", ").map(|column| format!("dead_event.{column}")).collect::<Vec<_>>().join(", ")
}

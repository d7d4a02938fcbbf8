//! The part of a batch that is about events, as SQL.

use std::{path::Path, sync::Arc};

use mainstay_core::{
    engine::change::{DeadLetter, DeadRef, DeliveryLease, DeliveryState, GroupPlace, GroupRow, Unsettled},
    event::{Event, EventData, SETTLED_KEPT},
};
use rusqlite::{Connection, Result, Statement, ToSql, params, types::Null};

use super::blocks::Sheets;
use crate::{
    apply::{Body, Dead, Delivery, EventBatch, Group},
    pace::Pace,
    row::{EVENT_BODY, LOGGED, bits, logged, reason_number, verb_number},
};

/// Everything that is ever executed about events.
pub(super) struct EventStatements<'c> {
    path: &'c Path,
    last_seq: Statement<'c>,
    topic: Statement<'c>,
    topic_trimmed: Statement<'c>,
    topic_removed: Statement<'c>,
    sheets: Sheets<'c>,
    logged: Statement<'c>,
    group: Statement<'c>,
    group_moved: Statement<'c>,
    group_removed: [Statement<'c>; 4],
    delivery: Statement<'c>,
    delivery_removed: Statement<'c>,
    settled: Statement<'c>,
    dead: Statement<'c>,
    dead_of_dead: Statement<'c>,
    dead_revived: Statement<'c>,
    dead_removed: Statement<'c>,
}

const DEAD: &str = "number, grp, seq, topic, size, key, at, died_at, revived, attempts, reason, error";
const DEAD_VALUES: &str = "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12";

impl<'c> EventStatements<'c> {
    pub(super) fn prepare(conn: &'c Connection, path: &'c Path) -> Result<EventStatements<'c>> {
        let p = |sql: &str| conn.prepare(sql);
        Ok(EventStatements {
            path,
            last_seq: p("UPDATE event_log SET last_seq = ?1")?,
            topic: p(
                "INSERT INTO topic (id, name, dropped, removed_up_to, config) VALUES (?1, ?2, ?3, 0, ?4) \
                 ON CONFLICT (id) DO UPDATE SET dropped = ?3, config = ?4",
            )?,
            topic_trimmed: p("UPDATE topic SET removed_up_to = ?2 WHERE id = ?1")?,
            topic_removed: p("DELETE FROM topic WHERE id = ?1")?,
            sheets: Sheets::prepare(conn)?,
            logged: p(LOGGED)?,
            group: p("INSERT OR REPLACE INTO event_group (id, name, config, cursor, skipped, redelivered) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?,
            group_moved: p(
                "UPDATE event_group SET cursor = ?2, skipped = ?3, redelivered = ?4 WHERE id = ?1",
            )?,
            group_removed: [
                p("DELETE FROM event_group WHERE id = ?1")?,
                p("DELETE FROM delivery WHERE grp = ?1")?,
                p("DELETE FROM settled_delivery WHERE grp = ?1")?,
                p("DELETE FROM dead_event WHERE grp = ?1")?,
            ],
            delivery: p(
                "INSERT OR REPLACE INTO delivery (grp, seq, topic, size, attempt, key, at, dead, error, state, due, \
                 token, nonce, lease_until, lease_ms, consumer) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
            )?,
            delivery_removed: p("DELETE FROM delivery WHERE grp = ?1 AND seq = ?2")?,
            settled: p("INSERT OR REPLACE INTO settled_delivery (grp, slot, n, token, nonce, verb) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?,
            dead: p(&format!(
                "INSERT INTO dead_event ({DEAD}, {EVENT_BODY}) VALUES ({DEAD_VALUES}, ?13, ?14, ?15, ?16, ?17, \
                 ?18, ?19, ?20, ?21, ?22)"
            ))?,
            dead_of_dead: p(&format!(
                "INSERT INTO dead_event ({DEAD}, {EVENT_BODY}) SELECT {DEAD_VALUES}, {EVENT_BODY} FROM dead_event \
                 WHERE number = ?13"
            ))?,
            dead_revived: p("UPDATE dead_event SET revived = ?2 WHERE number = ?1")?,
            dead_removed: p("DELETE FROM dead_event WHERE number = ?1")?,
        })
    }

    /// Answers a row that should be there and is not.
    pub(super) fn write(&mut self, batch: &EventBatch, pace: &Pace<'_>) -> Result<Option<String>> {
        if let Some(seq) = batch.last_seq {
            self.last_seq.execute([bits(seq)])?;
        }
        for (id, row) in &batch.topics {
            if let Some(row) = row {
                self.topic.execute(params![id.0, row.name.as_str(), row.dropped, json(&row.config)])?;
            }
        }
        self.sheets.write(batch.living(), pace)?;
        // The events of dead letters are copied before they can go.
        if let Some(missing) = self.dead(batch)? {
            return Ok(Some(missing));
        }
        for (topic, up_to) in &batch.removed {
            self.topic_trimmed.execute((topic.0, bits(*up_to)))?;
            self.sheets.remove(*topic, *up_to)?;
        }
        for (id, row) in &batch.topics {
            if row.is_none() {
                self.topic_removed.execute([id.0])?;
            }
        }
        if let Some(up_to) = batch.ids_forgotten {
            self.sheets.forget_ids(up_to)?;
        }
        self.sheets.write_ids(&batch.ids)?;
        self.groups(batch)
    }

    fn dead(&mut self, batch: &EventBatch) -> Result<Option<String>> {
        for (number, dead) in &batch.dead {
            let written = match dead {
                Dead::New { letter, body: Body::Log, revived } => match self.logged(&letter.place)? {
                    Ok(event) => self.new_dead(letter, &Body::Here(event), *revived)?,
                    Err(why) => return Ok(Some(format!("the event of dead letter {number} ({why})"))),
                },
                Dead::New { letter, body, revived } => self.new_dead(letter, body, *revived)?,
                Dead::Revived(revived) => self.dead_revived.execute((bits(*number), *revived))?,
                Dead::Removed => 1,
            };
            if written != 1 {
                return Ok(Some(format!("the event of dead letter {number}")));
            }
        }
        for (number, dead) in &batch.dead {
            if matches!(dead, Dead::Removed) {
                self.dead_removed.execute([bits(*number)])?;
            }
        }
        Ok(None)
    }

    /// The event of a dead letter that is in the log; or why it cannot be had.
    fn logged(
        &mut self,
        DeadRef { topic, seq, .. }: &DeadRef,
    ) -> Result<std::result::Result<Arc<Event>, String>> {
        let block = match logged(&mut self.logged, self.path, topic, *seq)? {
            Some(block) => block.map_err(|error| error.to_string()),
            None => Err(format!("event {seq}")),
        };
        Ok(block.and_then(|block| {
            let at = block.find(*seq).ok_or_else(|| format!("event {seq}"))?;
            block.event(at, None).map_err(|why| format!("event {seq} {why}"))
        }))
    }

    fn new_dead(&mut self, letter: &DeadLetter, body: &Body, revived: bool) -> Result<usize> {
        let DeadLetter { place, attempts, reason, error } = letter;
        let DeadRef { number, group, seq, topic, size, key, at, died_at } = place;
        let error = error.as_deref().map(json);
        let row: [&dyn ToSql; 12] = [
            &bits(*number),
            &group.0,
            &bits(*seq),
            &topic.as_str(),
            size,
            &bits(*key),
            &at.0,
            &died_at.0,
            &revived,
            attempts,
            &reason_number(*reason),
            &error,
        ];
        let from = match body {
            Body::Here(event) => return execute_with_body(&mut self.dead, &row, event),
            // Seen to by the caller.
            Body::Log => return Ok(0),
            Body::Dead(number) => bits(*number),
        };
        let mut row = row.to_vec();
        row.push(&from);
        self.dead_of_dead.execute(&*row)
    }

    fn groups(&mut self, batch: &EventBatch) -> Result<Option<String>> {
        for (id, group) in &batch.groups {
            let written = match group {
                Group::Whole(GroupRow { id, name, config, place }) => {
                    let GroupPlace { cursor, skipped, redelivered } = place;
                    let (cursor, skipped, redelivered) = (bits(*cursor), bits(*skipped), bits(*redelivered));
                    let (name, config) = (name.as_str(), json(&**config));
                    self.group.execute(params![id.0, name, config, cursor, skipped, redelivered])?
                }
                Group::Moved(GroupPlace { cursor, skipped, redelivered }) => {
                    self.group_moved.execute((id.0, bits(*cursor), bits(*skipped), bits(*redelivered)))?
                }
                Group::Removed => {
                    self.group_removed.iter_mut().try_for_each(|s| s.execute([id.0]).map(drop))?;
                    1
                }
            };
            if written != 1 {
                return Ok(Some(format!("group {}", id.0)));
            }
        }
        for ((group, seq), Delivery { was, now }) in &batch.deliveries {
            match now {
                Some(row) => self.delivery(group.0, *seq, row)?,
                None if *was => drop(self.delivery_removed.execute((group.0, bits(*seq)))?),
                None => {}
            }
        }
        for (group, ring) in &batch.settled {
            for (n, (lease, verb)) in ring {
                let slot = (n % SETTLED_KEPT as u64) as i64;
                let (token, nonce) = (bits(lease.token.0), bits(lease.nonce));
                self.settled.execute(params![group.0, slot, bits(*n), token, nonce, verb_number(*verb)])?;
            }
        }
        Ok(None)
    }

    fn delivery(&mut self, group: u32, seq: u64, row: &Unsettled) -> Result<()> {
        let Unsettled { topic, size, attempt, key, at, dead, error, state } = row;
        let (dead, error) = (dead.as_ref().map(|dead| bits(dead.number)), error.as_deref().map(json));
        let (number, due, lease) = match state {
            DeliveryState::Waiting { due } => (0, Some(bits(due.0)), None),
            DeliveryState::Parked => (1, None, None),
            DeliveryState::Leased(lease) => (2, None, Some(lease)),
        };
        let of = |part: fn(&DeliveryLease) -> u64| lease.map(|lease| bits(part(lease)));
        self.delivery.execute(params![
            group,
            bits(seq),
            topic.0,
            size,
            attempt,
            bits(*key),
            at.0,
            dead,
            error,
            number,
            due,
            of(|lease| lease.id.token.0),
            of(|lease| lease.id.nonce),
            of(|lease| lease.until.0),
            of(|lease| lease.ms),
            lease.and_then(|lease| lease.consumer.as_ref()).map(|consumer| consumer.as_str()),
        ])?;
        Ok(())
    }
}

/// Binds what stands before the columns of [`EVENT_BODY`], and those.
fn execute_with_body(statement: &mut Statement<'_>, before: &[&dyn ToSql], event: &Event) -> Result<usize> {
    for (i, value) in before.iter().enumerate() {
        statement.raw_bind_parameter(i + 1, value)?;
    }
    let mut at = before.len();
    let mut next = || {
        at += 1;
        at
    };
    for text in [&event.id, &event.source, &event.kind] {
        statement.raw_bind_parameter(next(), &**text)?;
    }
    for text in [&event.subject, &event.time, &event.partition_key, &event.content_type, &event.data_schema] {
        statement.raw_bind_parameter(next(), text.as_deref())?;
    }
    statement.raw_bind_parameter(next(), extensions(event))?;
    match &event.data {
        EventData::None => statement.raw_bind_parameter(next(), Null)?,
        EventData::Json(data) => statement.raw_bind_parameter(next(), &**data)?,
        EventData::Binary(data) => statement.raw_bind_parameter(next(), &**data)?,
    }
    statement.raw_execute()
}

/// Extensions as they are stored: nothing, or a JSON array of pairs, in which the values keep their text.
fn extensions(event: &Event) -> Option<String> {
    if event.extensions.is_empty() {
        return None;
    }
    let pairs: Vec<String> =
        event.extensions.iter().map(|(name, value)| format!("[{},{value}]", json(&**name))).collect();
    Some(format!("[{}]", pairs.join(",")))
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("the vocabulary has a JSON form")
}

//! What the engine keeps in RAM, as rows of tables that it alone reads: a key, the change that makes it, and for some the
//! change that moved it last.

use std::collections::BTreeMap;

use mainstay_core::{
    StoreTime, Token,
    engine::{
        change::{AfterChange, Change, EventChange, LimitChange, LimitKey},
        locks::change::LockChange,
    },
    event::SETTLED_KEPT,
    schedule::ScheduleChange,
};
use mainstay_writer::batch::{Batch, Grant, Group, ScheduleRow};

use crate::{
    fault::Trouble,
    link::Link,
    rows::{KeyBytes, bytes_of},
    step::{Param, Step},
};

/// Changes of such tables, by table.
#[derive(Default)]
struct Things {
    tables: BTreeMap<&'static str, Table>,
}

#[derive(Default)]
struct Table {
    gone: Vec<Vec<u8>>,
    /// From and up to a key.
    gone_between: Vec<(Vec<u8>, Vec<u8>)>,
    moved: (Vec<Vec<u8>>, Vec<Vec<u8>>),
    put: (Vec<Vec<u8>>, Vec<Vec<u8>>),
}

impl Things {
    fn put(&mut self, table: &'static str, key: KeyBytes, change: &Change) {
        let put = &mut self.tables.entry(table).or_default().put;
        put.0.push(key.0);
        put.1.push(bytes_of(change));
    }

    fn moved(&mut self, table: &'static str, key: KeyBytes, change: &Change) {
        let moved = &mut self.tables.entry(table).or_default().moved;
        moved.0.push(key.0);
        moved.1.push(bytes_of(change));
    }

    fn gone(&mut self, table: &'static str, key: KeyBytes) {
        self.tables.entry(table).or_default().gone.push(key.0);
    }

    /// All of a table up to a number, from `before` on: up to there, nothing is left.
    fn gone_up_to(&mut self, table: &'static str, before: u64, up_to: u64) {
        self.gone_between(table, KeyBytes::default().u64(before), KeyBytes::default().u64(up_to));
    }

    fn gone_between(&mut self, table: &'static str, from: KeyBytes, up_to: KeyBytes) {
        self.tables.entry(table).or_default().gone_between.push((from.0, up_to.0));
    }

    fn into_steps(self, steps: &mut Vec<Step>) {
        for (table, Table { gone, gone_between, moved, put }) in self.tables {
            for (from, up_to) in gone_between {
                let sql = format!("delete from {{s}}.{table} where key between $1 and $2 and {{p}}");
                steps.push(Step { sql, params: vec![Param::bytes(from), Param::bytes(up_to)], rows: None });
            }
            if !gone.is_empty() {
                let sql = format!("delete from {{s}}.{table} where key = any($1) and {{p}}");
                steps.push(Step { sql, params: vec![Param::many_bytes(gone)], rows: None });
            }
            if !moved.0.is_empty() {
                let rows = Some(moved.0.len() as u64);
                let sql = format!(
                    "update {{s}}.{table} set moved = new.moved from unnest($1, $2) as new (key, moved) \
                     where {table}.key = new.key and {{p}}"
                );
                let params = vec![Param::many_bytes(moved.0), Param::many_bytes(moved.1)];
                steps.push(Step { sql, params, rows });
            }
            if !put.0.is_empty() {
                let rows = Some(put.0.len() as u64);
                let sql = format!(
                    "insert into {{s}}.{table} (key, data) select * from unnest($1, $2) where {{p}} \
                     on conflict (key) do update set data = excluded.data, moved = null"
                );
                let params = vec![Param::many_bytes(put.0), Param::many_bytes(put.1)];
                steps.push(Step { sql, params, rows });
            }
        }
    }
}

/// Up to where tables that are emptied from below are empty. Who deletes in them begins there: while somebody holds an old
/// snapshot, all that was deleted is still in the index, to be walked over. A process that begins to lead walks once.
#[derive(Clone, Copy, Default)]
pub(crate) struct Forgotten {
    keyed: u64,
    audit: u64,
    ids: u64,
    /// The tables of [`NOTES`] that are empty: nothing has to be looked for in them.
    empty: [bool; 3],
}

/// What is kept of a job beside its body, which many never have.
pub(crate) const NOTES: [&str; 3] = ["result", "progress", "failure"];

impl Forgotten {
    /// When somebody begins to lead.
    pub(crate) async fn look(link: &Link) -> Result<Forgotten, Trouble> {
        let there = NOTES.map(|table| format!("exists (select 1 from {{s}}.{table})"));
        let rows = link.query(&format!("select {}", there.join(", ")), vec![]).await?;
        let empty = |i| rows.first().is_some_and(|row| !row.get::<_, bool>(i));
        Ok(Forgotten { empty: std::array::from_fn(empty), ..Forgotten::default() })
    }

    /// Tables of [`NOTES`] in which something is.
    pub(crate) fn noted(self) -> impl Iterator<Item = &'static str> {
        NOTES.into_iter().zip(self.empty).filter_map(|(table, empty)| (!empty).then_some(table))
    }

    /// When this batch has been written.
    pub(crate) fn after(self, batch: &Batch) -> Forgotten {
        let [mut results, mut progress, mut failures] = self.empty;
        for notes in batch.notes.values() {
            results &= notes.result.is_none();
            progress &= notes.progress.is_none();
            failures &= notes.failures.is_empty();
        }
        Forgotten {
            empty: [results, progress, failures],
            keyed: batch.keyed_forgotten.unwrap_or(self.keyed),
            audit: batch.audit_forgotten.unwrap_or(self.audit),
            ids: batch.events.ids_forgotten.unwrap_or(self.ids),
        }
    }
}

fn key() -> KeyBytes {
    KeyBytes::default()
}

/// All of a batch that is about such tables.
pub(crate) fn steps(batch: &Batch, forgotten: Forgotten, steps: &mut Vec<Step>) {
    let mut things = Things::default();
    of_queues(batch, &mut things);
    of_jobs(batch, forgotten, &mut things);
    of_locks(batch, &mut things);
    of_events(batch, forgotten, &mut things);
    things.into_steps(steps);
}

fn of_queues(batch: &Batch, things: &mut Things) {
    for (id, queue) in &batch.queues {
        match queue {
            Some(queue) => {
                let (name, config) = (queue.name.clone(), queue.config.clone());
                let (paused, dropped) = (queue.paused, queue.dropped);
                things.put(
                    "queue",
                    key().u32(id.0),
                    &Change::Queue { id: *id, name, config, paused, dropped },
                );
            }
            None => things.gone("queue", key().u32(id.0)),
        }
    }
    for (id, policy) in &batch.policies {
        match policy {
            Some(policy) => {
                things.put("policy", key().u32(id.0), &Change::Policy { id: *id, policy: *policy });
            }
            None => things.gone("policy", key().u32(id.0)),
        }
    }
    for ((queue, limit), value) in &batch.limits {
        let row = key().u32(queue.0);
        let row = match limit {
            LimitKey::Handed(at) => row.u8(0).u64(at.0),
            LimitKey::Turn(key) => row.u8(1).bytes(key.as_deref().unwrap_or_default().as_bytes()),
            LimitKey::Now => row.u8(2),
        };
        match value {
            Some(_) => {
                let change = LimitChange { queue: *queue, key: limit.clone(), value: *value };
                things.put("limits", row, &Change::Limit(change));
            }
            None => things.gone("limits", row),
        }
    }
    for (name, row) in &batch.schedules {
        let place = key().bytes(name.as_str().as_bytes());
        match row {
            ScheduleRow::Put(record) => {
                things.put("schedule", place, &Change::Schedule(ScheduleChange::Put(record.clone())));
            }
            ScheduleRow::Moved(state) => {
                let change = ScheduleChange::Moved { name: name.clone(), state: *state };
                things.moved("schedule", place, &Change::Schedule(change));
            }
            ScheduleRow::Removed => things.gone("schedule", place),
        }
    }
}

fn of_jobs(batch: &Batch, forgotten: Forgotten, things: &mut Things) {
    for ((waiter, subject), row) in &batch.edges {
        let place = key().bytes(waiter.as_bytes()).bytes(subject.as_bytes());
        match row.now {
            Some(failure) => {
                let change = AfterChange::Opened { waiter: *waiter, on: vec![*subject], failure };
                things.put("edge", place, &Change::After(change));
            }
            None => things.gone("edge", place),
        }
    }
    for ((id, how), row) in &batch.ended {
        let place = key().bytes(id.as_bytes()).u8(*how as u8);
        match row.now {
            Some(()) => {
                things.put("ended", place, &Change::After(AfterChange::Ended { id: *id, how: *how }));
            }
            None => things.gone("ended", place),
        }
    }
    for ((queue, name), hold) in &batch.uniques {
        let place = key().u32(queue.0).bytes(name.as_bytes());
        match hold {
            Some((id, until)) => {
                let (queue, key) = (*queue, name.clone());
                things.put("uniq", place, &Change::Unique { queue, key, id: *id, until: *until });
            }
            None => things.gone("uniq", place),
        }
    }
    if let Some(up_to) = batch.keyed_forgotten {
        things.gone_up_to("keyed", forgotten.keyed, up_to);
    }
    for (k, row) in &batch.keyed {
        let change = Change::Keyed { k: *k, key: row.key, at: row.at, replies: row.replies.clone() };
        things.put("keyed", key().u64(*k), &change);
    }
    for (name, token) in &batch.access {
        let place = key().bytes(name.as_str().as_bytes());
        match token {
            Some(token) => things.put("access_token", place, &Change::AccessToken(token.clone())),
            None => things.gone("access_token", place),
        }
    }
    if let Some(up_to) = batch.audit_forgotten {
        things.gone_up_to("audit", forgotten.audit, up_to);
    }
    for (number, record) in &batch.audit {
        let change = Change::Audit { number: *number, record: record.clone() };
        things.put("audit", key().u64(*number), &change);
    }
}

fn of_locks(batch: &Batch, things: &mut Things) {
    // A renewal is read by its token alone.
    let nobody = || mainstay_core::name::Name::new("x").expect("a name");
    for (token, row) in &batch.locks.grants {
        let place = key().u64(*token);
        match &row.now {
            Some(Grant::Whole(grant)) => {
                things.put("lock_grant", place, &Change::Lock(LockChange::Granted(grant.clone())));
            }
            Some(Grant::Renewed { until, ms }) => {
                let (until, ms): (StoreTime, u64) = (*until, *ms);
                let change = LockChange::Renewed { name: nobody(), token: Token(*token), until, ms };
                things.moved("lock_grant", place, &Change::Lock(change));
            }
            None => things.gone("lock_grant", place),
        }
    }
    for (place, row) in &batch.locks.waiters {
        let at = key().u64(*place);
        match &row.now {
            Some(waiter) => {
                things.put("lock_waiter", at, &Change::Lock(LockChange::Queued(waiter.clone())));
            }
            None => things.gone("lock_waiter", at),
        }
    }
}

fn of_events(batch: &Batch, forgotten: Forgotten, things: &mut Things) {
    let batch = &batch.events;
    for (id, row) in &batch.topics {
        match row {
            Some(row) => {
                let (name, config) = (row.name.clone(), row.config.clone());
                let change = EventChange::Topic { id: *id, name, config, dropped: row.dropped };
                things.put("topic", key().u32(id.0), &Change::Event(change));
            }
            None => {
                things.gone("topic", key().u32(id.0));
                things.gone("topic_trimmed", key().u32(id.0));
            }
        }
    }
    for (topic, up_to) in &batch.removed {
        if batch.topics.get(topic).is_none_or(Option::is_some) {
            let change = EventChange::EventsRemoved { topic: *topic, up_to: *up_to };
            things.put("topic_trimmed", key().u32(topic.0), &Change::Event(change));
        }
    }
    if let Some(up_to) = batch.ids_forgotten {
        things.gone_up_to("event_dedup", forgotten.ids, up_to);
    }
    for (seq, topic, at, dedup) in &batch.ids {
        // The change that made it is the publishing itself; what is needed of it is in the key and here.
        let place = key().u64(*seq);
        things.tables.entry("event_dedup").or_default().put.0.push(place.0);
        let data = key().u32(topic.0).u64(at.0 as u64).bytes(&dedup.0);
        things.tables.entry("event_dedup").or_default().put.1.push(data.0);
    }
    for (id, group) in &batch.groups {
        let place = key().u32(id.0);
        match group {
            Group::Whole(row) => {
                things.put("event_group", place, &Change::Event(EventChange::Group(row.clone())));
            }
            Group::Moved(moved) => {
                let change = EventChange::GroupMoved { id: *id, place: *moved };
                things.moved("event_group", place, &Change::Event(change));
            }
            Group::Removed => {
                things.gone("event_group", place);
                for table in ["delivery", "settled_delivery"] {
                    things.gone_between(table, key().u32(id.0), key().u32(id.0).u64(u64::MAX));
                }
            }
        }
    }
    for ((group, seq), delivery) in &batch.deliveries {
        let place = key().u32(group.0).u64(*seq);
        match &delivery.now {
            Some(row) => {
                let (group, seq, row) = (*group, *seq, row.clone());
                let change = EventChange::Delivery { group, seq, row, new: false };
                things.put("delivery", place, &Change::Event(change));
            }
            None if delivery.was => things.gone("delivery", place),
            None => {}
        }
    }
    for (group, ring) in &batch.settled {
        for (n, (lease, verb)) in ring {
            let place = key().u32(group.0).u64(n % SETTLED_KEPT as u64);
            let change = EventChange::Settled { group: *group, n: *n, lease: *lease, verb: *verb };
            things.put("settled_delivery", place, &Change::Event(change));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_empty_until_something_is_noted_in_it() {
        let none = Forgotten { empty: [true; 3], ..Forgotten::default() };
        let mut batch = Batch::default();
        assert_eq!(none.after(&batch).noted().count(), 0);
        batch.notes.entry(7).or_default().progress = Some("1".into());
        assert_eq!(none.after(&batch).noted().collect::<Vec<_>>(), ["progress"]);
        assert_eq!(none.after(&batch).after(&Batch::default()).noted().collect::<Vec<_>>(), ["progress"]);
        assert_eq!(Forgotten::default().noted().collect::<Vec<_>>(), NOTES);
    }

    #[test]
    fn what_was_forgotten_before_is_not_walked_over_again() {
        let delete = |forgotten, up_to| {
            let (mut made, batch) = (Vec::new(), Batch { keyed_forgotten: Some(up_to), ..Batch::default() });
            steps(&batch, forgotten, &mut made);
            (format!("{:?}", made[0].params), forgotten.after(&batch))
        };
        let key = |number| format!("{:?}", Param::bytes(key().u64(number).0));
        let (first, forgotten) = delete(Forgotten::default(), 300);
        assert_eq!(first, format!("[{}, {}]", key(0), key(300)));
        let (second, forgotten) = delete(forgotten, 700);
        assert_eq!(second, format!("[{}, {}]", key(300), key(700)));
        // Other groups leave it where it is.
        let forgotten = forgotten.after(&Batch::default());
        assert_eq!(delete(forgotten, 701).0, format!("[{}, {}]", key(700), key(701)));
    }
}

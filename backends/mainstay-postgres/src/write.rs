//! A group as the statements of one transaction: the last state of each row that it changed.

use std::sync::Arc;

use mainstay_core::{
    JobId,
    engine::change::{Change, Counters, FinishedJob, Lane, LiveLease, SettledLease},
    job::{FAILURES_KEPT, JobBody},
};
use mainstay_writer::{
    batch::{Batch, Body, Dead, Job, LiveRow},
    codec::parts,
    numbers::{bits, reason_number, state_number, verb_number},
};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::{
    rows::{FINISHED, JOB, bytes_of, extras, flags, uuid},
    step::{Param, Step},
    things::{self, Forgotten},
};

/// All that a group does to the tables.
pub(crate) fn steps(batch: &Batch, epoch: u64, last_seq: u64, forgotten: Forgotten) -> Vec<Step> {
    let mut steps = Vec::new();
    jobs(batch, &mut steps);
    finished(batch, &mut steps);
    bodies(batch, &mut steps);
    events(batch, &mut steps);
    things::steps(batch, forgotten, &mut steps);
    steps.push(journal(batch.lsn, epoch, &batch.counters, last_seq));
    steps
}

/// The group's own row.
fn journal(lsn: u64, epoch: u64, counters: &Counters, last_seq: u64) -> Step {
    let Counters { token, n, f, k, audit, clock } = *counters;
    let numbers = [lsn, epoch, token, n, f, k, audit, clock.0, last_seq];
    Step {
        sql: "insert into {s}.journal (lsn, epoch, token, n, f, k, audit, clock, last_seq) \
              select $1, $2, $3, $4, $5, $6, $7, $8, $9 where {p}"
            .to_owned(),
        params: numbers.into_iter().map(Param::i64).collect(),
        rows: Some(1),
    }
}

/// Columns on their way into `unnest`.
#[derive(Default)]
struct Columns {
    params: Vec<Param>,
}

impl Columns {
    fn uuids(mut self, values: Vec<Uuid>) -> Columns {
        self.params.push(Param::new(values, Type::UUID_ARRAY));
        self
    }

    fn i64s<'r, R: 'r>(mut self, rows: &'r [R], value: impl Fn(&'r R) -> i64) -> Columns {
        self.params.push(Param::i64s(rows.iter().map(value).collect()));
        self
    }

    fn i32s<'r, R: 'r>(mut self, rows: &'r [R], value: impl Fn(&'r R) -> u32) -> Columns {
        let values: Vec<i32> = rows.iter().map(|row| value(row) as i32).collect();
        self.params.push(Param::new(values, Type::INT4_ARRAY));
        self
    }

    fn i16s<'r, R: 'r>(mut self, rows: &'r [R], value: impl Fn(&'r R) -> i16) -> Columns {
        self.params.push(Param::new(rows.iter().map(value).collect::<Vec<_>>(), Type::INT2_ARRAY));
        self
    }

    fn opt_i64s<'r, R: 'r>(mut self, rows: &'r [R], value: impl Fn(&'r R) -> Option<i64>) -> Columns {
        self.params.push(Param::new(rows.iter().map(value).collect::<Vec<_>>(), Type::INT8_ARRAY));
        self
    }

    fn opt_i16s<'r, R: 'r>(mut self, rows: &'r [R], value: impl Fn(&'r R) -> Option<i16>) -> Columns {
        self.params.push(Param::new(rows.iter().map(value).collect::<Vec<_>>(), Type::INT2_ARRAY));
        self
    }

    fn texts<'r, R: 'r>(mut self, rows: &'r [R], value: impl Fn(&'r R) -> Option<String>) -> Columns {
        self.params.push(Param::new(rows.iter().map(value).collect::<Vec<_>>(), Type::TEXT_ARRAY));
        self
    }

    fn bytes<'r, R: 'r>(mut self, rows: &'r [R], value: impl Fn(&'r R) -> Option<Vec<u8>>) -> Columns {
        self.params.push(Param::new(rows.iter().map(value).collect::<Vec<_>>(), Type::BYTEA_ARRAY));
        self
    }

    fn leases<'r, R: 'r>(self, rows: &'r [R], lease: impl Fn(&'r R) -> Option<&'r LiveLease>) -> Columns {
        self.opt_i64s(rows, |row| lease(row).map(|lease| bits(lease.id.token.0)))
            .opt_i64s(rows, |row| lease(row).map(|lease| bits(lease.id.nonce)))
            .opt_i64s(rows, |row| lease(row).map(|lease| bits(lease.until.0)))
            .opt_i64s(rows, |row| lease(row).map(|lease| bits(lease.ms)))
            .opt_i64s(rows, |row| lease(row).map(|lease| bits(lease.claimed_at.0)))
            .texts(rows, |row| lease(row)?.worker.as_ref().map(|worker| worker.to_string()))
    }

    fn settled<'r, R: 'r>(self, rows: &'r [R], of: impl Fn(&'r R) -> Option<SettledLease>) -> Columns {
        self.opt_i64s(rows, |row| of(row).map(|settled| bits(settled.id.token.0)))
            .opt_i64s(rows, |row| of(row).map(|settled| bits(settled.id.nonce)))
            .opt_i16s(rows, |row| of(row).map(|settled| verb_number(settled.verb) as i16))
            .opt_i16s(rows, |row| of(row).map(|settled| state_number(settled.state) as i16))
            .opt_i64s(rows, |row| of(row)?.run_at.map(|at| at.0))
    }

    /// `$1, $2, …` for `unnest`.
    fn places(&self) -> String {
        let places: Vec<_> = (1..=self.params.len()).map(|i| format!("${i}")).collect();
        places.join(", ")
    }
}

fn jobs(batch: &Batch, steps: &mut Vec<Step>) {
    let (mut gone, mut whole, mut changed) = (Vec::new(), Vec::new(), Vec::new());
    let mut rows: Vec<_> = batch.jobs.iter().collect();
    // In one order, so that pages are touched in it.
    rows.sort_unstable_by_key(|(id, _)| **id);
    for (id, row) in rows {
        match &row.now {
            None => gone.push(uuid(*id)),
            Some(Job::Changed { job, lease, settled }) => changed.push((*job, lease.clone(), *settled)),
            Some(Job::Whole(live)) => {
                if row.was {
                    gone.push(uuid(*id));
                }
                whole.push(&**live);
            }
        }
    }
    if !gone.is_empty() {
        let rows = Some(gone.len() as u64);
        let params = Columns::default().uuids(gone).params;
        steps.push(Step { sql: "delete from {s}.job where id = any($1) and {p}".to_owned(), params, rows });
    }
    if !changed.is_empty() {
        let rows = Some(changed.len() as u64);
        let columns = Columns::default()
            .uuids(changed.iter().map(|(job, ..)| uuid(job.id)).collect())
            .i16s(&changed, |(job, ..)| job.phase as i16)
            .i16s(&changed, |(job, ..)| flags(job))
            .i64s(&changed, |(job, ..)| job.run_at.0)
            .i32s(&changed, |(job, ..)| job.attempt)
            .i32s(&changed, |(job, ..)| job.crashes)
            .leases(&changed, |(_, lease, _)| lease.as_ref())
            .settled(&changed, |(.., settled)| *settled);
        let names = "phase, flags, run_at, attempt, crashes, token, nonce, lease_until, lease_ms, claimed_at, worker, \
                     settled_token, settled_nonce, settled_verb, settled_state, settled_run_at";
        let sets: Vec<_> = names.split(", ").map(|name| format!("{name} = new.{name}")).collect();
        let sql = format!(
            "update {{s}}.job set {} from unnest({}) as new (id, {names}) where job.id = new.id and {{p}}",
            sets.join(", "),
            columns.places()
        );
        steps.push(Step { sql, params: columns.params, rows });
    }
    insert_jobs(&whole, steps);
}

fn insert_jobs(rows: &[&LiveRow], steps: &mut Vec<Step>) {
    if rows.is_empty() {
        return;
    }
    let columns = Columns::default()
        .uuids(rows.iter().map(|row| uuid(row.job.id)).collect())
        .i64s(rows, |row| bits(row.job.n))
        .i32s(rows, |row| row.job.queue.0)
        .i32s(rows, |row| row.job.policy.0)
        .i16s(rows, |row| i16::from(row.job.priority))
        .i16s(rows, |row| row.job.phase as i16)
        .i16s(rows, |row| flags(&row.job))
        .i64s(rows, |row| row.job.run_at.0)
        .i64s(rows, |row| row.job.created_at.0)
        .i32s(rows, |row| row.job.attempt)
        .i32s(rows, |row| row.job.crashes)
        .i64s(rows, |row| i64::from(row.job.size))
        .leases(rows, |row| row.lease.as_ref())
        .settled(rows, |row| row.settled)
        .bytes(rows, |row| extras(&row.job, &row.extras));
    let sql = format!("insert into {{s}}.job ({JOB}) select * from unnest({}) where {{p}}", columns.places());
    steps.push(Step { sql, params: columns.params, rows: Some(rows.len() as u64) });
}

fn finished(batch: &Batch, steps: &mut Vec<Step>) {
    let (mut gone, mut come): (Vec<_>, Vec<&Arc<FinishedJob>>) = (Vec::new(), Vec::new());
    let mut rows: Vec<_> = batch.finished.iter().collect();
    rows.sort_unstable_by_key(|(key, _)| **key);
    for (key, row) in rows {
        if row.was {
            gone.push(*key);
        }
        come.extend(row.now.as_ref());
    }
    if !gone.is_empty() {
        let columns = Columns::default()
            .i32s(&gone, |key| key.queue.0)
            .i16s(&gone, |key| lane_number(key.lane))
            .i64s(&gone, |key| bits(key.f));
        let sql = "delete from {s}.finished using unnest($1, $2, $3) as gone (queue, lane, f) \
                   where finished.queue = gone.queue and finished.lane = gone.lane and finished.f = gone.f and {p}";
        let rows = Some(gone.len() as u64);
        steps.push(Step { sql: sql.to_owned(), params: columns.params, rows });
    }
    if come.is_empty() {
        return;
    }
    let rows = &*come;
    let columns = Columns::default()
        .i32s(rows, |row| row.key.queue.0)
        .i16s(rows, |row| lane_number(row.key.lane))
        .i64s(rows, |row| bits(row.key.f))
        .uuids(rows.iter().map(|row| uuid(row.job.id)).collect())
        .i64s(rows, |row| bits(row.job.n))
        .i32s(rows, |row| row.job.policy.0)
        .i16s(rows, |row| i16::from(row.job.priority))
        .i16s(rows, |row| flags(&row.job))
        .i64s(rows, |row| row.job.run_at.0)
        .i64s(rows, |row| row.job.created_at.0)
        .i32s(rows, |row| row.job.attempt)
        .i32s(rows, |row| row.job.crashes)
        .i64s(rows, |row| i64::from(row.job.size))
        .i16s(rows, |row| state_number(row.state) as i16)
        .opt_i16s(rows, |row| row.reason.map(|reason| reason_number(reason) as i16))
        .i64s(rows, |row| row.finished_at.0)
        .settled(rows, |row| row.settled)
        .bytes(rows, |row| extras(&row.job, &row.extras));
    let sql = format!(
        "insert into {{s}}.finished ({FINISHED}) select * from unnest({}) where {{p}}",
        columns.places()
    );
    steps.push(Step { sql, params: columns.params, rows: Some(rows.len() as u64) });
}

pub(crate) fn lane_number(lane: Lane) -> i16 {
    lane as i16
}

/// What few bodies have.
pub(crate) fn more(body: &JobBody) -> Option<Vec<u8>> {
    let JobBody { kind: _, payload: _, tags, traceparent, meta, after, unique_for_ms } = body;
    let plain = tags.is_empty()
        && traceparent.is_none()
        && meta.is_none()
        && after.is_none()
        && unique_for_ms.is_none();
    (!plain).then(|| parts::body(&JobBody { kind: "".into(), payload: "".into(), ..body.clone() }))
}

fn bodies(batch: &Batch, steps: &mut Vec<Step>) {
    if !batch.forgotten.is_empty() {
        let mut numbers: Vec<i64> = batch.forgotten.iter().map(|n| bits(*n)).collect();
        numbers.sort_unstable();
        for table in ["body", "result", "progress", "failure"] {
            let sql = format!("delete from {{s}}.{table} where n = any($1) and {{p}}");
            steps.push(Step { sql, params: vec![Param::i64s(numbers.clone())], rows: None });
        }
    }
    if !batch.bodies.is_empty() {
        let mut rows: Vec<_> = batch.bodies.iter().collect();
        rows.sort_unstable_by_key(|(n, _)| **n);
        let columns = Columns::default()
            .i64s(&rows, |(n, _)| bits(**n))
            .texts(&rows, |(_, body)| Some(body.kind.to_string()))
            .texts(&rows, |(_, body)| Some(body.payload.to_string()))
            .bytes(&rows, |(_, body)| more(body));
        let sql =
            "insert into {s}.body (n, kind, payload, more) select * from unnest($1, $2, $3, $4) where {p}"
                .to_owned();
        steps.push(Step { sql, params: columns.params, rows: Some(rows.len() as u64) });
    }
    notes(batch, steps);
}

/// Results, progress and failures.
fn notes(batch: &Batch, steps: &mut Vec<Step>) {
    let mut rows: Vec<_> = batch.notes.iter().collect();
    rows.sort_unstable_by_key(|(n, _)| **n);
    for table in ["result", "progress"] {
        let texts: Vec<_> = rows
            .iter()
            .filter_map(|(n, notes)| {
                let text = if table == "result" { &notes.result } else { &notes.progress };
                Some((bits(**n), text.as_ref()?.to_string()))
            })
            .collect();
        if texts.is_empty() {
            continue;
        }
        let columns =
            Columns::default().i64s(&texts, |(n, _)| *n).texts(&texts, |(_, text)| Some(text.clone()));
        let sql = format!(
            "insert into {{s}}.{table} (n, {table}) select * from unnest($1, $2) where {{p}} \
             on conflict (n) do update set {table} = excluded.{table}"
        );
        steps.push(Step { sql, params: columns.params, rows: Some(texts.len() as u64) });
    }
    // Of two in the same place of the ring, the newer.
    let mut failures = std::collections::BTreeMap::new();
    for (n, notes) in rows {
        for record in &notes.failures {
            let slot = (record.attempt % FAILURES_KEPT) as i16;
            let change = Change::Failure { n: *n, record: Box::new(record.clone()) };
            failures.insert((bits(*n), slot), bytes_of(&change));
        }
    }
    if !failures.is_empty() {
        let rows: Vec<_> = failures.into_iter().collect();
        let columns = Columns::default()
            .i64s(&rows, |((n, _), _)| *n)
            .i16s(&rows, |((_, slot), _)| *slot)
            .bytes(&rows, |(_, data)| Some(data.clone()));
        let sql = "insert into {s}.failure (n, slot, data) select * from unnest($1, $2, $3) where {p} \
                   on conflict (n, slot) do update set data = excluded.data";
        steps.push(Step { sql: sql.to_owned(), params: columns.params, rows: Some(rows.len() as u64) });
    }
}

fn events(batch: &Batch, steps: &mut Vec<Step>) {
    let batch = &batch.events;
    let rows: Vec<_> = batch.living().collect();
    if !rows.is_empty() {
        let columns = Columns::default()
            .i64s(&rows, |(meta, _)| bits(meta.seq))
            .i32s(&rows, |(meta, _)| meta.topic.0)
            .i64s(&rows, |(meta, _)| meta.at.0)
            .bytes(&rows, |(meta, _)| Some(parts::meta(meta)))
            .bytes(&rows, |(_, event)| Some(parts::event(event)));
        let sql = "insert into {s}.event (seq, topic, at, meta, body) \
             select * from unnest($1, $2, $3, $4, $5) where {p}";
        steps.push(Step { sql: sql.to_owned(), params: columns.params, rows: Some(rows.len() as u64) });
    }
    // The events of dead letters are copied before they can go.
    dead(&batch.dead, steps);
    if !batch.removed.is_empty() {
        let rows: Vec<_> = batch.removed.iter().collect();
        let columns =
            Columns::default().i32s(&rows, |(topic, _)| topic.0).i64s(&rows, |(_, up_to)| bits(**up_to));
        let sql = "delete from {s}.event using unnest($1, $2) as gone (topic, up_to) \
                   where event.topic = gone.topic and event.seq <= gone.up_to and {p}";
        steps.push(Step { sql: sql.to_owned(), params: columns.params, rows: None });
    }
    let removed =
        |group: &mainstay_writer::batch::Group| matches!(group, mainstay_writer::batch::Group::Removed);
    let groups: Vec<_> =
        batch.groups.iter().filter(|(_, group)| removed(group)).map(|(id, _)| id.0).collect();
    if !groups.is_empty() {
        let params = Columns::default().i32s(&groups, |id| *id).params;
        steps.push(Step {
            sql: "delete from {s}.dead_event where grp = any($1) and {p}".to_owned(),
            params,
            rows: None,
        });
    }
}

fn dead(letters: &std::collections::BTreeMap<u64, Dead>, steps: &mut Vec<Step>) {
    let (mut here, mut copied, mut gone) = (Vec::new(), [Vec::new(), Vec::new()], Vec::new());
    let mut revived: [Vec<i64>; 2] = Default::default();
    for (number, dead) in letters {
        match dead {
            Dead::New { letter, body, revived } => {
                let change =
                    mainstay_core::engine::change::EventChange::Died { letter: letter.clone(), from: None };
                let row = (bits(*number), letter.place.group.0, *revived, bytes_of(&Change::Event(change)));
                match body {
                    Body::Here(event) => here.push((row, parts::event(event))),
                    Body::Log => copied[0].push((row, bits(letter.place.seq))),
                    Body::Dead(number) => copied[1].push((row, bits(*number))),
                }
            }
            Dead::Revived(now) => revived[usize::from(*now)].push(bits(*number)),
            Dead::Removed => gone.push(bits(*number)),
        }
    }
    type Letter = (i64, u32, bool, Vec<u8>);
    let columns = |rows: &[&Letter]| {
        let flags: Vec<bool> = rows.iter().map(|row| row.2).collect();
        let mut columns = Columns::default().i64s(rows, |row| row.0).i32s(rows, |row| row.1);
        columns.params.push(Param::new(flags, Type::BOOL_ARRAY));
        columns.bytes(rows, |row| Some(row.3.clone()))
    };
    if !here.is_empty() {
        let rows: Vec<_> = here.iter().map(|(row, _)| row).collect();
        let columns = columns(&rows).bytes(&here, |(_, body)| Some(body.clone()));
        let sql = "insert into {s}.dead_event (number, grp, revived, letter, body) \
                   select * from unnest($1, $2, $3, $4, $5) where {p}";
        steps.push(Step { sql: sql.to_owned(), params: columns.params, rows: Some(here.len() as u64) });
    }
    for (copied, (table, column)) in copied.iter().zip([("event", "seq"), ("dead_event", "number")]) {
        if copied.is_empty() {
            continue;
        }
        let rows: Vec<_> = copied.iter().map(|(row, _)| row).collect();
        let columns = columns(&rows).i64s(copied, |(_, from)| *from);
        let sql = format!(
            "insert into {{s}}.dead_event (number, grp, revived, letter, body) \
             select new.number, new.grp, new.revived, new.letter, old.body \
             from unnest($1, $2, $3, $4, $5) as new (number, grp, revived, letter, whence) \
             join {{s}}.{table} old on old.{column} = new.whence \
             where {{p}}"
        );
        steps.push(Step { sql, params: columns.params, rows: Some(copied.len() as u64) });
    }
    for (now, numbers) in revived.into_iter().enumerate() {
        if !numbers.is_empty() {
            let rows = Some(numbers.len() as u64);
            let sql = format!(
                "update {{s}}.dead_event set revived = {} where number = any($1) and {{p}}",
                now == 1
            );
            steps.push(Step { sql, params: vec![Param::i64s(numbers)], rows });
        }
    }
    if !gone.is_empty() {
        let sql = "delete from {s}.dead_event where number = any($1) and {p}".to_owned();
        steps.push(Step { sql, params: vec![Param::i64s(gone)], rows: None });
    }
}

/// Ids for `any`.
pub(crate) fn ids(ids: &[JobId]) -> Param {
    Param::new(ids.iter().map(|id| uuid(*id)).collect::<Vec<_>>(), Type::UUID_ARRAY)
}

//! Groups as the statements of one transaction: the last state of each row that they changed.

use std::sync::Arc;

use mainstay_core::{
    JobId,
    engine::change::{Change, FinishedJob, Lane, LiveJob, LiveLease, SettledLease},
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
    rows::{bytes_of, extras, flags, uuid},
    step::{Param, Step},
    things::{self, Forgotten},
};

/// All that a batch does to the tables.
pub(crate) fn steps(batch: &Batch, forgotten: Forgotten) -> Vec<Step> {
    let mut steps = Vec::new();
    jobs(batch, &mut steps);
    finished(batch, &mut steps);
    bodies(batch, forgotten, &mut steps);
    events(batch, &mut steps);
    things::steps(batch, forgotten, &mut steps);
    steps
}

/// Columns on their way into the tables, each an array with a value a row. They are taken apart in the list of a `select`:
/// PostgreSQL writes down first what a function in `from` answers, value by value, which cost it more than the row.
#[derive(Default)]
struct Columns {
    names: Vec<&'static str>,
    params: Vec<Param>,
}

const LEASE: [&str; 6] = ["token", "nonce", "lease_until", "lease_ms", "claimed_at", "worker"];
const SETTLED: [&str; 5] =
    ["settled_token", "settled_nonce", "settled_verb", "settled_state", "settled_run_at"];

impl Columns {
    fn with(mut self, name: &'static str, param: Param) -> Columns {
        self.names.push(name);
        self.params.push(param);
        self
    }

    fn uuids(self, name: &'static str, values: Vec<Uuid>) -> Columns {
        self.with(name, Param::new(values, Type::UUID_ARRAY))
    }

    fn i64s<'r, R: 'r>(self, name: &'static str, rows: &'r [R], value: impl Fn(&'r R) -> i64) -> Columns {
        self.with(name, Param::i64s(rows.iter().map(value).collect()))
    }

    fn i32s<'r, R: 'r>(self, name: &'static str, rows: &'r [R], value: impl Fn(&'r R) -> u32) -> Columns {
        let values: Vec<i32> = rows.iter().map(|row| value(row) as i32).collect();
        self.with(name, Param::new(values, Type::INT4_ARRAY))
    }

    fn i16s<'r, R: 'r>(self, name: &'static str, rows: &'r [R], value: impl Fn(&'r R) -> i16) -> Columns {
        self.with(name, Param::new(rows.iter().map(value).collect::<Vec<_>>(), Type::INT2_ARRAY))
    }

    fn opt_i64s<'r, R: 'r>(
        self,
        name: &'static str,
        rows: &'r [R],
        value: impl Fn(&'r R) -> Option<i64>,
    ) -> Columns {
        self.with(name, Param::new(rows.iter().map(value).collect::<Vec<_>>(), Type::INT8_ARRAY))
    }

    fn opt_i16s<'r, R: 'r>(
        self,
        name: &'static str,
        rows: &'r [R],
        value: impl Fn(&'r R) -> Option<i16>,
    ) -> Columns {
        self.with(name, Param::new(rows.iter().map(value).collect::<Vec<_>>(), Type::INT2_ARRAY))
    }

    fn texts<'r, R: 'r>(
        self,
        name: &'static str,
        rows: &'r [R],
        value: impl Fn(&'r R) -> Option<String>,
    ) -> Columns {
        self.with(name, Param::new(rows.iter().map(value).collect::<Vec<_>>(), Type::TEXT_ARRAY))
    }

    /// Left out if no row has any.
    fn bytes<'r, R: 'r>(
        self,
        name: &'static str,
        rows: &'r [R],
        value: impl Fn(&'r R) -> Option<Vec<u8>>,
    ) -> Columns {
        let values: Vec<_> = rows.iter().map(value).collect();
        if values.iter().all(Option::is_none) {
            return self;
        }
        self.with(name, Param::new(values, Type::BYTEA_ARRAY))
    }

    /// Left out if no row has any.
    fn leases<'r, R: 'r>(self, rows: &'r [R], lease: impl Fn(&'r R) -> Option<&'r LiveLease>) -> Columns {
        if rows.iter().all(|row| lease(row).is_none()) {
            return self;
        }
        let [token, nonce, until, ms, claimed_at, worker] = LEASE;
        self.opt_i64s(token, rows, |row| lease(row).map(|lease| bits(lease.id.token.0)))
            .opt_i64s(nonce, rows, |row| lease(row).map(|lease| bits(lease.id.nonce)))
            .opt_i64s(until, rows, |row| lease(row).map(|lease| bits(lease.until.0)))
            .opt_i64s(ms, rows, |row| lease(row).map(|lease| bits(lease.ms)))
            .opt_i64s(claimed_at, rows, |row| lease(row).map(|lease| bits(lease.claimed_at.0)))
            .texts(worker, rows, |row| lease(row)?.worker.as_ref().map(|worker| worker.to_string()))
    }

    /// Left out if no row has any.
    fn settled<'r, R: 'r>(self, rows: &'r [R], of: impl Fn(&'r R) -> Option<SettledLease>) -> Columns {
        if rows.iter().all(|row| of(row).is_none()) {
            return self;
        }
        let [token, nonce, verb, state, run_at] = SETTLED;
        self.opt_i64s(token, rows, |row| of(row).map(|settled| bits(settled.id.token.0)))
            .opt_i64s(nonce, rows, |row| of(row).map(|settled| bits(settled.id.nonce)))
            .opt_i16s(verb, rows, |row| of(row).map(|settled| verb_number(settled.verb) as i16))
            .opt_i16s(state, rows, |row| of(row).map(|settled| state_number(settled.state) as i16))
            .opt_i64s(run_at, rows, |row| of(row)?.run_at.map(|at| at.0))
    }

    /// `a, b, …`
    fn names(&self) -> String {
        self.names.join(", ")
    }

    /// `unnest($1) as a, unnest($2) as b, …`, for the list of a `select`.
    fn values(&self) -> String {
        let values = self.names.iter().enumerate().map(|(i, name)| format!("unnest(${}) as {name}", i + 1));
        values.collect::<Vec<_>>().join(", ")
    }

    /// A step that inserts them.
    fn insert_into(self, table: &str, rows: usize) -> Step {
        let sql =
            format!("insert into {{s}}.{table} ({}) select {} where {{p}}", self.names(), self.values());
        Step { sql, params: self.params, rows: Some(rows as u64) }
    }
}

fn jobs(batch: &Batch, steps: &mut Vec<Step>) {
    // In one order, so that pages are touched in it.
    let mut gone = batch.gone.clone();
    gone.sort_unstable();
    let gone: Vec<_> = gone.into_iter().map(uuid).collect();
    let (mut whole, mut changed): (Vec<&LiveRow>, Vec<Changed<'_>>) = (Vec::new(), Vec::new());
    whole.extend(batch.new.iter().map(|(_, row)| row));
    for job in batch.jobs.values() {
        match job {
            Job::Changed { job, lease, settled } => {
                changed.push(Changed { job, lease: lease.as_ref(), settled: *settled });
            }
            Job::Back(live) => whole.push(live),
        }
    }
    whole.sort_by_key(|live| live.job.id);
    changed.sort_unstable_by_key(|changed| changed.job.id);
    if !gone.is_empty() {
        let rows = Some(gone.len() as u64);
        let params = Columns::default().uuids("id", gone).params;
        steps.push(Step { sql: "delete from {s}.job where id = any($1) and {p}".to_owned(), params, rows });
    }
    insert_jobs(&whole, steps);
    update_jobs(&changed, steps);
}

/// The columns of a job that change.
struct Changed<'b> {
    job: &'b LiveJob,
    lease: Option<&'b LiveLease>,
    settled: Option<SettledLease>,
}

fn update_jobs(changed: &[Changed<'_>], steps: &mut Vec<Step>) {
    if changed.is_empty() {
        return;
    }
    let columns = Columns::default()
        .uuids("id", changed.iter().map(|row| uuid(row.job.id)).collect())
        .i16s("phase", changed, |row| row.job.phase as i16)
        .i16s("flags", changed, |row| flags(row.job))
        .i64s("run_at", changed, |row| row.job.run_at.0)
        .i32s("attempt", changed, |row| row.job.attempt)
        .i32s("crashes", changed, |row| row.job.crashes)
        .leases(changed, |row| row.lease)
        .settled(changed, |row| row.settled);
    let names = ["phase", "flags", "run_at", "attempt", "crashes"].iter().chain(&LEASE).chain(&SETTLED);
    // What no row has any more is null in all of them.
    let set = |name: &&str| match columns.names.contains(name) {
        true => format!("{name} = new.{name}"),
        false => format!("{name} = null"),
    };
    let sql = format!(
        "update {{s}}.job set {} from (select {}) as new where job.id = new.id and {{p}}",
        names.map(set).collect::<Vec<_>>().join(", "),
        columns.values()
    );
    steps.push(Step { sql, params: columns.params, rows: Some(changed.len() as u64) });
}

fn insert_jobs(rows: &[&LiveRow], steps: &mut Vec<Step>) {
    if rows.is_empty() {
        return;
    }
    let columns = Columns::default()
        .uuids("id", rows.iter().map(|row| uuid(row.job.id)).collect())
        .i64s("n", rows, |row| bits(row.job.n))
        .i32s("queue", rows, |row| row.job.queue.0)
        .i32s("policy", rows, |row| row.job.policy.0)
        .i16s("priority", rows, |row| i16::from(row.job.priority))
        .i16s("phase", rows, |row| row.job.phase as i16)
        .i16s("flags", rows, |row| flags(&row.job))
        .i64s("run_at", rows, |row| row.job.run_at.0)
        .i64s("created_at", rows, |row| row.job.created_at.0)
        .i32s("attempt", rows, |row| row.job.attempt)
        .i32s("crashes", rows, |row| row.job.crashes)
        .i64s("size", rows, |row| i64::from(row.job.size))
        .leases(rows, |row| row.lease.as_ref())
        .settled(rows, |row| row.settled)
        .bytes("extras", rows, |row| extras(&row.job, &row.extras));
    steps.push(columns.insert_into("job", rows.len()));
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
            .i32s("queue", &gone, |key| key.queue.0)
            .i16s("lane", &gone, |key| lane_number(key.lane))
            .i64s("f", &gone, |key| bits(key.f));
        let sql = format!(
            "delete from {{s}}.finished using (select {}) as gone \
             where finished.queue = gone.queue and finished.lane = gone.lane and finished.f = gone.f and {{p}}",
            columns.values()
        );
        let rows = Some(gone.len() as u64);
        steps.push(Step { sql, params: columns.params, rows });
    }
    if come.is_empty() {
        return;
    }
    let rows = &*come;
    let columns = Columns::default()
        .i32s("queue", rows, |row| row.key.queue.0)
        .i16s("lane", rows, |row| lane_number(row.key.lane))
        .i64s("f", rows, |row| bits(row.key.f))
        .uuids("id", rows.iter().map(|row| uuid(row.job.id)).collect())
        .i64s("n", rows, |row| bits(row.job.n))
        .i32s("policy", rows, |row| row.job.policy.0)
        .i16s("priority", rows, |row| i16::from(row.job.priority))
        .i16s("flags", rows, |row| flags(&row.job))
        .i64s("run_at", rows, |row| row.job.run_at.0)
        .i64s("created_at", rows, |row| row.job.created_at.0)
        .i32s("attempt", rows, |row| row.job.attempt)
        .i32s("crashes", rows, |row| row.job.crashes)
        .i64s("size", rows, |row| i64::from(row.job.size))
        .i16s("state", rows, |row| state_number(row.state) as i16)
        .opt_i16s("reason", rows, |row| row.reason.map(|reason| reason_number(reason) as i16))
        .i64s("finished_at", rows, |row| row.finished_at.0)
        .settled(rows, |row| row.settled)
        .bytes("extras", rows, |row| extras(&row.job, &row.extras));
    steps.push(columns.insert_into("finished", rows.len()));
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

fn bodies(batch: &Batch, forgotten: Forgotten, steps: &mut Vec<Step>) {
    if !batch.forgotten.is_empty() {
        let mut numbers: Vec<i64> = batch.forgotten.iter().map(|n| bits(*n)).collect();
        numbers.sort_unstable();
        for table in ["body"].into_iter().chain(forgotten.noted()) {
            let sql = format!("delete from {{s}}.{table} where n = any($1) and {{p}}");
            steps.push(Step { sql, params: vec![Param::i64s(numbers.clone())], rows: None });
        }
    }
    if !batch.bodies.is_empty() {
        let rows: Vec<_> = batch.bodies.iter().collect();
        let columns = Columns::default()
            .i64s("n", &rows, |(n, _)| bits(*n))
            .texts("kind", &rows, |(_, body)| Some(body.kind.to_string()))
            .texts("payload", &rows, |(_, body)| Some(body.payload.to_string()))
            .bytes("more", &rows, |(_, body)| more(body));
        steps.push(columns.insert_into("body", rows.len()));
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
        let columns = Columns::default()
            .i64s("n", &texts, |(n, _)| *n)
            .texts(table, &texts, |(_, text)| Some(text.clone()));
        let mut step = columns.insert_into(table, texts.len());
        step.sql += &format!(" on conflict (n) do update set {table} = excluded.{table}");
        steps.push(step);
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
            .i64s("n", &rows, |((n, _), _)| *n)
            .i16s("slot", &rows, |((_, slot), _)| *slot)
            .bytes("data", &rows, |(_, data)| Some(data.clone()));
        let mut step = columns.insert_into("failure", rows.len());
        step.sql += " on conflict (n, slot) do update set data = excluded.data";
        steps.push(step);
    }
}

fn events(batch: &Batch, steps: &mut Vec<Step>) {
    let batch = &batch.events;
    let rows: Vec<_> = batch.living().collect();
    if !rows.is_empty() {
        let columns = Columns::default()
            .i64s("seq", &rows, |(meta, _)| bits(meta.seq))
            .i32s("topic", &rows, |(meta, _)| meta.topic.0)
            .i64s("at", &rows, |(meta, _)| meta.at.0)
            .bytes("meta", &rows, |(meta, _)| Some(parts::meta(meta)))
            .bytes("body", &rows, |(_, event)| Some(parts::event(event)));
        steps.push(columns.insert_into("event", rows.len()));
    }
    // The events of dead letters are copied before they can go.
    dead(&batch.dead, steps);
    if !batch.removed.is_empty() {
        let rows: Vec<_> = batch.removed.iter().collect();
        let columns = Columns::default().i32s("topic", &rows, |(topic, _)| topic.0).i64s(
            "up_to",
            &rows,
            |(_, up_to)| bits(**up_to),
        );
        let sql = format!(
            "delete from {{s}}.event using (select {}) as gone \
             where event.topic = gone.topic and event.seq <= gone.up_to and {{p}}",
            columns.values()
        );
        steps.push(Step { sql, params: columns.params, rows: None });
    }
    let removed =
        |group: &mainstay_writer::batch::Group| matches!(group, mainstay_writer::batch::Group::Removed);
    let groups: Vec<_> =
        batch.groups.iter().filter(|(_, group)| removed(group)).map(|(id, _)| id.0).collect();
    if !groups.is_empty() {
        let params = Columns::default().i32s("grp", &groups, |id| *id).params;
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
        Columns::default()
            .i64s("number", rows, |row| row.0)
            .i32s("grp", rows, |row| row.1)
            .with("revived", Param::new(flags, Type::BOOL_ARRAY))
            .bytes("letter", rows, |row| Some(row.3.clone()))
    };
    if !here.is_empty() {
        let rows: Vec<_> = here.iter().map(|(row, _)| row).collect();
        let columns = columns(&rows).bytes("body", &here, |(_, body)| Some(body.clone()));
        steps.push(columns.insert_into("dead_event", rows.len()));
    }
    for (copied, (table, column)) in copied.iter().zip([("event", "seq"), ("dead_event", "number")]) {
        if copied.is_empty() {
            continue;
        }
        let rows: Vec<_> = copied.iter().map(|(row, _)| row).collect();
        let columns = columns(&rows).i64s("whence", copied, |(_, from)| *from);
        let sql = format!(
            "insert into {{s}}.dead_event (number, grp, revived, letter, body) \
             select new.number, new.grp, new.revived, new.letter, old.body \
             from (select {}) as new join {{s}}.{table} old on old.{column} = new.whence where {{p}}",
            columns.values()
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

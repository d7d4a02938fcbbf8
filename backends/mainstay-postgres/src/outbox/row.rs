//! A row of the outbox as a commit.

use mainstay_api::{
    Limits, Problem,
    strict::{Strict, parse},
    types,
};
use mainstay_core::{
    JobId, QueueName, TopicName,
    event::{Event, EventOp, Publish},
    id::JobIds,
    job::{JobBody, NewJob, Unique, When},
    op::{Commit, IdempotencyKey, Op},
};
use mainstay_writer::desk::Desk;
use serde_json::{Map, Value};
use tokio_postgres::Row;

/// What a row asks for. Its key is the row's number: handed in twice, it happens once.
///
/// # Errors
/// Why it can never be done: what a request could not say either.
pub(super) fn commit(row: &Row, desk: &Desk, ids: &mut JobIds) -> Result<Commit, String> {
    let asked = Asked { target: row.get(2), kind: row.get(3), data: row.get(4), options: row.get(5) };
    let (number, what): (i64, &str) = (row.get(0), row.get(1));
    let op = match what {
        "enqueue" => {
            let (queue, job) = asked.job()?;
            let chosen = job.id.map(|id| id.to_string().parse::<JobId>()).transpose();
            let chosen = chosen.map_err(|e| format!("options.id: {e}"))?;
            let made = || ids.next(desk.clock.now().wall.0, &queue, desk.clock.entropy());
            let mut new =
                NewJob::new(chosen.unwrap_or_else(made), queue.clone(), JobBody::new(&job.kind, asked.data));
            new.caller_id = chosen.is_some();
            new.priority = job.priority.unwrap_or(new.priority);
            new.run_at = job.delay_ms.map(When::In);
            new.unique = job.unique.map(|unique| Unique { key: unique.key.into(), for_ms: unique.for_ms });
            Op::Enqueue(Box::new(new))
        }
        "publish" => {
            let (topic, published) = asked.event()?;
            let mut event = Event::new(&format!("outbox-{number}"), &topic, asked.data);
            event.kind = asked.kind.into();
            event.subject = published.subject.map(Into::into);
            event.partition_key = published.partition_key.map(Into::into);
            if let Some(problem) = event.problems().first() {
                return Err(format!("{}: {}", problem.attribute, problem.detail));
            }
            Op::Event(EventOp::Publish(Box::new(Publish::with_fresh_id(topic, event))))
        }
        other => return Err(format!("this build knows no `{other}`")),
    };
    let mut key = IdempotencyKey { scope: *b"mainstay.outbox\0", fingerprint: [0; 16] };
    key.fingerprint[..8].copy_from_slice(&number.to_be_bytes());
    key.scope[8..].copy_from_slice(&number.to_be_bytes());
    Ok(Commit { key: Some(key), ..Commit::of(op, desk.clock.entropy()) })
}

struct Asked<'r> {
    target: &'r str,
    kind: &'r str,
    data: &'r str,
    options: &'r str,
}

impl Asked<'_> {
    fn job(&self) -> Result<(QueueName, types::NewJob), String> {
        let queue = QueueName::new(self.target).map_err(|e| format!("queue: {e}"))?;
        let names =
            [("priority", "priority"), ("delay_ms", "delay_ms"), ("id", "id"), ("unique_key", "unique")];
        let job = self.read::<types::NewJob>(["kind", "payload"], &names)?;
        Ok((queue, job))
    }

    fn event(&self) -> Result<(TopicName, types::CloudEvent), String> {
        let topic =
            self.target.parse().map_err(|_| format!("topic: `{}` is not the name of one", self.target))?;
        let names = [("subject", "subject"), ("partition_key", "partitionkey")];
        let event = self.read::<types::CloudEvent>(["type", "data"], &names)?;
        Ok((topic, event))
    }

    /// By the rules of a request that says the same: one set of them is enough.
    fn read<T: Strict>(&self, [kind, data]: [&str; 2], names: &[(&str, &str)]) -> Result<T, String> {
        let options: Map<String, Value> =
            serde_json::from_str(self.options).map_err(|e| format!("options: {e}"))?;
        let mut more = Map::from_iter([(kind.to_owned(), Value::from(self.kind))]);
        for (name, value) in options {
            let Some((_, on_the_wire)) = names.iter().find(|(known, _)| *known == name) else {
                return Err(format!("options: there is no `{name}`"));
            };
            let value = match (*on_the_wire, value) {
                ("unique", Value::Null) => continue,
                ("unique", key) => Value::Object(Map::from_iter([("key".to_owned(), key)])),
                (_, value) => value,
            };
            more.insert((*on_the_wire).to_owned(), value);
        }
        let more = Value::Object(more).to_string();
        let text = format!("{{{:?}:{},{}", data, self.data, &more[1..]);
        let read = parse::<T>(text.as_bytes(), &Limits::default()).and_then(|parsed| parsed.supported());
        read.map_err(|problem| words(&problem))
    }
}

/// Every mistake, with its place.
fn words(problem: &Problem) -> String {
    let all: Vec<_> = problem
        .errors
        .iter()
        .map(|one| format!("{}: {}", one.pointer.trim_start_matches('/'), one.detail))
        .collect();
    if all.is_empty() { problem.detail.clone() } else { all.join("; ") }
}

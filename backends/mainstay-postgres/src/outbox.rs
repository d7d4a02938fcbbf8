//! What other transactions of the database want done once they have been committed.

use std::{sync::Arc, time::Duration};

use mainstay_core::{
    Error, QueueName, TopicName,
    event::{Event, EventOp, Publish},
    id::JobIds,
    job::{JobBody, NewJob, Unique, When},
    op::{Commit, Failure, IdempotencyKey, Op, Reason},
    store::Batch,
};
use mainstay_writer::desk::Desk;
use serde::Deserialize;
use tokio::time::sleep;
use tokio_postgres::{GenericClient, Row, types::Type};

use crate::{
    fault::Trouble,
    link::{Again, Link, Target},
    options::{Options, schema_name},
    step::Param,
};

/// The way into the store for transactions of one's own: what is handed in is done exactly once when the transaction
/// commits, and never if it does not. In SQL it is `select mainstay.enqueue('mail', 'welcome', '{"to": 7}')` and
/// `select mainstay.publish('users.created', 'created', '{"id": 7}')`.
#[derive(Clone, Debug)]
pub struct Outbox {
    schema: String,
}

impl Outbox {
    /// That of a store's schema.
    ///
    /// # Errors
    /// `Invalid`: it is not the name of one.
    pub fn new(schema: &str) -> Result<Outbox, Error> {
        Ok(Outbox { schema: schema_name(schema)? })
    }

    /// That of the store which these options open.
    pub fn of(options: &Options) -> Outbox {
        Outbox { schema: options.schema.clone() }
    }

    /// Enqueues a job when the transaction commits. `payload` and `options` are JSON texts; of options there are
    /// `priority`, `delay_ms` and `unique_key`. Answers the number of the row that waits for the commit.
    ///
    /// # Errors
    /// What the database says, SQLSTATE 22023 for what makes no sense: then the transaction has failed.
    pub async fn enqueue_in(
        &self,
        transaction: &impl GenericClient,
        queue: &str,
        kind: &str,
        payload: &str,
        options: &str,
    ) -> Result<i64, tokio_postgres::Error> {
        self.call(transaction, "enqueue", [queue, kind, payload, options]).await
    }

    /// Publishes an event when the transaction commits. `data` and `options` are JSON texts; of options there are
    /// `subject` and `partition_key`.
    ///
    /// # Errors
    /// As [`Outbox::enqueue_in`].
    pub async fn publish_in(
        &self,
        transaction: &impl GenericClient,
        topic: &str,
        kind: &str,
        data: &str,
        options: &str,
    ) -> Result<i64, tokio_postgres::Error> {
        self.call(transaction, "publish", [topic, kind, data, options]).await
    }

    async fn call(
        &self,
        transaction: &impl GenericClient,
        function: &str,
        [target, kind, data, options]: [&str; 4],
    ) -> Result<i64, tokio_postgres::Error> {
        let sql = format!("select {}.{function}($1, $2, $3::text::json, $4::text::jsonb)", self.schema);
        let row = transaction.query_one(&sql, &[&target, &kind, &data, &options]).await?;
        row.try_get(0)
    }
}

/// How often the process that leads looks. Nobody tells it: a notification in the users' transactions would make their
/// commits wait for each other.
const EVERY: Duration = Duration::from_millis(25);
/// What a full queue has no room for is tried again after this long.
const LATER: Duration = Duration::from_millis(250);
/// So many rows at once.
const PIECE: usize = 500;

/// Takes what has been committed, until it is dropped.
pub(crate) async fn drain(target: Arc<Target>, desk: Arc<Desk>) {
    let (mut link, mut ids) = (Again::new(target.clone()), JobIds::default());
    loop {
        let rest = match pass(&mut link, &target, &desk, &mut ids).await {
            Ok(Pass { rows: PIECE, kept: 0 }) => continue,
            Ok(Pass { kept: 0, .. }) => EVERY,
            Ok(_) => LATER,
            Err(error) => {
                tracing::debug!(%error, "the outbox waits");
                LATER
            }
        };
        sleep(rest).await;
    }
}

struct Pass {
    rows: usize,
    kept: usize,
}

async fn pass(link: &mut Again, target: &Target, desk: &Arc<Desk>, ids: &mut JobIds) -> Result<Pass, Error> {
    let link = link.get().await.map_err(Trouble::error)?;
    let sql = format!(
        "select id, what, target, kind, data, options::text from {{s}}.outbox where refused is null order by id limit {PIECE}"
    );
    let rows = link.query(&sql, vec![]).await.map_err(Trouble::error)?;
    let (mut numbers, mut commits, mut done, mut refused, mut kept) = (vec![], vec![], vec![], vec![], 0);
    for row in &rows {
        match commit(row, desk, ids) {
            Ok(commit) => {
                numbers.push(row.get::<_, i64>(0));
                commits.push(commit);
            }
            Err(why) => refused.push((row.get::<_, i64>(0), why)),
        }
    }
    if !commits.is_empty() {
        let answers = desk.submit(Batch { commits, within: None }, target.options.within).await?;
        for (number, answer) in numbers.into_iter().zip(answers) {
            match answer {
                Ok(_) => done.push(number),
                Err(Failure::Rejected(no)) => match no.reason {
                    // There will be room.
                    Reason::QueueFull { .. } | Reason::QueueBehind { .. } => kept += 1,
                    reason => refused.push((number, reason.to_string())),
                },
                Err(Failure::Failed(_)) => kept += 1,
            }
        }
    }
    settle(&link, done, refused).await.map_err(Trouble::error)?;
    Ok(Pass { rows: rows.len(), kept })
}

/// If this does not happen, the same is handed in again, under the same keys.
async fn settle(link: &Link, done: Vec<i64>, refused: Vec<(i64, String)>) -> Result<(), Trouble> {
    if !done.is_empty() {
        link.query("delete from {s}.outbox where id = any($1)", vec![Param::i64s(done)]).await?;
    }
    if !refused.is_empty() {
        for (number, why) in &refused {
            tracing::error!(number, why, "a row of the outbox can never be done; it stays there, marked");
        }
        let (numbers, whys): (Vec<_>, Vec<_>) = refused.into_iter().unzip();
        let sql = "update {s}.outbox set refused = new.why from unnest($1, $2) as new (id, why) where outbox.id = new.id";
        link.query(sql, vec![Param::i64s(numbers), Param::new(whys, Type::TEXT_ARRAY)]).await?;
    }
    Ok(())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Wishes {
    priority: Option<u8>,
    delay_ms: Option<u64>,
    unique_key: Option<String>,
    subject: Option<String>,
    partition_key: Option<String>,
}

/// A row as a commit. Its key is the row's number: handed in twice, it happens once.
fn commit(row: &Row, desk: &Desk, ids: &mut JobIds) -> Result<Commit, String> {
    let (number, what): (i64, &str) = (row.get(0), row.get(1));
    let (target, kind, data, options): (&str, &str, &str, &str) =
        (row.get(2), row.get(3), row.get(4), row.get(5));
    let wishes: Wishes = serde_json::from_str(options).map_err(|e| format!("options: {e}"))?;
    let op = match what {
        "enqueue" => {
            let queue = QueueName::new(target).map_err(|e| e.to_string())?;
            let id = ids.next(desk.clock.now().wall.0, &queue, desk.clock.entropy());
            let mut job = NewJob::new(id, queue, JobBody::new(kind, data));
            job.priority = wishes.priority.unwrap_or(job.priority);
            job.run_at = wishes.delay_ms.map(When::In);
            job.unique = wishes.unique_key.map(|key| Unique { key: key.into(), for_ms: None });
            Op::Enqueue(Box::new(job))
        }
        "publish" => {
            let topic: TopicName =
                target.parse().map_err(|_| format!("`{target}` is not the name of a topic"))?;
            let mut event = Event::new(&format!("outbox-{number}"), &topic, data);
            event.kind = kind.into();
            event.subject = wishes.subject.map(Into::into);
            event.partition_key = wishes.partition_key.map(Into::into);
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

//! How the process that leads takes what is in the outbox.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstay_core::{
    Error, ErrorKind,
    id::JobIds,
    op::{Commit, Failure, Reason},
    store::Batch,
};
use mainstay_writer::{desk::Desk, stopwatch::Stopwatch};
use tokio::time::sleep;
use tokio_postgres::types::Type;

use super::{parked::Parked, row};
use crate::{
    fault::Trouble,
    link::{Again, Link, Target},
    step::Param,
};

/// How often the process that leads looks. Nobody tells it: a notification in the users' transactions would make their
/// commits wait for each other.
const EVERY: Duration = Duration::from_millis(25);
/// What could not be done for a reason that may pass is tried again after this long.
const LATER: Duration = Duration::from_millis(250);
/// So many rows at once,
const PIECE: usize = 500;
/// and so many bytes, but for the last row.
const PIECE_BYTES: usize = 4 << 20;
/// How often the figures are counted.
const COUNT: Duration = Duration::from_secs(15);
/// Rows that were refused are counted up to here.
const COUNTED: usize = 10_000;

/// What the outbox says of itself, as last counted.
#[derive(Default)]
pub(crate) struct Figures {
    oldest_ms: AtomicU64,
    refused: AtomicU64,
}

impl Figures {
    pub(crate) fn stats(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("outbox_oldest_seconds", self.oldest_ms.load(Ordering::Relaxed) as f64 / 1e3),
            ("outbox_refused", self.refused.load(Ordering::Relaxed) as f64),
        ]
    }
}

/// Takes what has been committed, until it is dropped.
pub(crate) async fn drain(target: Arc<Target>, desk: Arc<Desk>) {
    let mut drain = Drain {
        link: Again::new(target.clone()),
        target,
        desk,
        ids: JobIds::default(),
        queues: Parked::default(),
        rows: Parked::default(),
    };
    let mut counted = None::<Stopwatch>;
    loop {
        let began = Stopwatch::start();
        let rest = match drain.pass().await {
            Ok(Pass { more: true, .. }) => Duration::ZERO,
            // What is passed over has to be walked over, each time.
            Ok(Pass { parked: true, .. }) => EVERY.max(4 * began.elapsed()),
            Ok(_) => EVERY,
            Err(error) => {
                tracing::debug!(%error, "the outbox waits");
                LATER
            }
        };
        if counted.is_none_or(|counted| counted.elapsed() >= COUNT) {
            counted = Some(Stopwatch::start());
            if let Err(trouble) = drain.count().await {
                tracing::debug!(error = %trouble.error(), "the outbox could not be counted");
            }
        }
        sleep(rest).await;
    }
}

struct Drain {
    target: Arc<Target>,
    desk: Arc<Desk>,
    link: Again,
    ids: JobIds,
    /// Queues that have no room.
    queues: Parked<String>,
    /// Rows that failed, and may not the next time.
    rows: Parked<i64>,
}

struct Pass {
    /// There may be more.
    more: bool,
    /// Something is passed over.
    parked: bool,
}

/// A row on its way.
struct Handed {
    number: i64,
    queue: Option<String>,
}

impl Drain {
    async fn pass(&mut self) -> Result<Pass, Error> {
        let link = self.link.get().await.map_err(Trouble::error)?;
        let (queues, rows) = (self.queues.now(), self.rows.now());
        let parked = !queues.is_empty() || !rows.is_empty();
        let sql = format!(
            "select id, what, target, kind, data, options::text, size from ( \
               select *, sum(size) over (order by id) as up_to from ( \
                 select id, what, target, kind, data, options, \
                   octet_length(data)::bigint + pg_column_size(options) as size \
                 from {{s}}.outbox where refused is null and id <> all($2) and not (what = 'enqueue' and target = any($1)) \
                 order by id limit {PIECE} \
               ) head \
             ) piece where up_to - size < {PIECE_BYTES} order by id"
        );
        let params = vec![Param::new(queues, Type::TEXT_ARRAY), Param::i64s(rows)];
        let found = link.query(&sql, params).await.map_err(Trouble::error)?;
        let bytes: i64 = found.iter().map(|row| row.get::<_, i64>(6)).sum();
        let more = found.len() == PIECE || bytes >= (PIECE_BYTES / 2) as i64;
        let (mut handed, mut commits, mut refused) = (vec![], vec![], vec![]);
        for row in &found {
            let (number, what): (i64, &str) = (row.get(0), row.get(1));
            match row::commit(row, &self.desk, &mut self.ids) {
                Ok(commit) => {
                    commits.push(commit);
                    handed.push(Handed { number, queue: (what == "enqueue").then(|| row.get(2)) });
                }
                Err(why) => refused.push((number, why)),
            }
        }
        drop(found);
        let done = self.hand_in(handed, commits, &mut refused).await?;
        settle(&link, done, refused).await.map_err(Trouble::error)?;
        Ok(Pass { more, parked })
    }

    /// Answers the numbers of what is done.
    async fn hand_in(
        &mut self,
        handed: Vec<Handed>,
        commits: Vec<Commit>,
        refused: &mut Vec<(i64, String)>,
    ) -> Result<Vec<i64>, Error> {
        let mut done = Vec::new();
        if commits.is_empty() {
            return Ok(done);
        }
        let batch = Batch { commits, within: None };
        let answers = self.desk.submit(batch, self.target.options.within).await?;
        let mut failed = None;
        for (Handed { number, queue }, answer) in handed.into_iter().zip(answers) {
            match answer {
                Ok(_) => {
                    self.rows.forget(&number);
                    if let Some(queue) = queue {
                        self.queues.forget(&queue);
                    }
                    done.push(number);
                }
                Err(Failure::Rejected(no)) => match (queue, no.reason) {
                    // There will be room.
                    (
                        Some(queue),
                        Reason::QueueFull { retry_ms, .. } | Reason::QueueBehind { retry_ms, .. },
                    ) => {
                        self.queues.park(queue, Duration::from_millis(retry_ms));
                    }
                    (_, reason) => refused.push((number, reason.to_string())),
                },
                // It would fail the same way each time.
                Err(Failure::Failed(error)) if error.kind() == ErrorKind::Invalid => {
                    refused.push((number, error.to_string()));
                }
                Err(Failure::Failed(error)) => {
                    self.rows.park(number, Duration::MAX);
                    failed = Some(error);
                }
            }
        }
        self.queues.tidy();
        self.rows.tidy();
        match failed {
            // Then it is hardly the row's fault.
            Some(error) if done.is_empty() && refused.is_empty() => Err(error),
            _ => Ok(done),
        }
    }

    async fn count(&mut self) -> Result<(), Trouble> {
        let link = self.link.get().await?;
        let sql = format!(
            "select coalesce((select extract(epoch from clock_timestamp() - at) * 1000 from {{s}}.outbox \
               where refused is null order by id limit 1), 0)::bigint, \
             (select count(*) from (select from {{s}}.outbox where refused is not null limit {COUNTED}) counted)"
        );
        if let Some(row) = link.query(&sql, vec![]).await?.first() {
            let figures = &self.target.outbox;
            figures.oldest_ms.store(row.get::<_, i64>(0).max(0) as u64, Ordering::Relaxed);
            figures.refused.store(row.get::<_, i64>(1) as u64, Ordering::Relaxed);
        }
        Ok(())
    }
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

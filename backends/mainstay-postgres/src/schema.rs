//! The tables, and how a schema of an older format is brought forward.

use std::time::Duration;

use mainstay_core::{Error, ErrorKind};
use mainstay_writer::stopwatch::Stopwatch;
use tokio::time::sleep;
use tokio_postgres::types::Type;

use crate::{fault::Trouble, link::Link, step::Param};

/// Step `n` brings a schema from format `n` to `n + 1`. A step that was released never changes. What processes say to each
/// other through the tables belongs to the format, too.
const STEPS: &[&str] = &[
    include_str!("schema/0001.sql"),
    include_str!("schema/0002.sql"),
    include_str!("schema/0003.sql"),
    include_str!("schema/0004.sql"),
    include_str!("schema/0005.sql"),
    include_str!("schema/0006.sql"),
    include_str!("schema/0007.sql"),
];

/// The format that this build reads and writes.
pub(crate) const FORMAT: i32 = STEPS.len() as i32;

/// Before a step of a schema that is in use: whoever leads it with an older build does so no more, and an older build
/// does not begin to (see `lead::take`). First of all: it waits for the transaction that is under way, which has not
/// got the locks of the step to wait for.
///
/// Whoever brings the tables further does not lock the leader's row: it is kept waiting at its own, and finds that its
/// process leads no more when the step has been taken.
const DEPOSE: &str =
    "update {s}.leader set epoch = epoch + 1, expires = '-infinity', owner = null, backend_pid = null;
     if to_regclass('{s}.reached') is not null then
       execute 'select 1 from {s}.reached for update';
     end if;";

/// How long a step waits for a table; whoever comes for it meanwhile waits as long.
const LOCK: Duration = Duration::from_millis(500);
/// Between tries, and for how long to try.
const PAUSE: Duration = Duration::from_secs(1);
const TRIES: Duration = Duration::from_secs(10);
/// How long a step may take once it has its tables.
const STEP: Duration = Duration::from_secs(600);

/// What a schema says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// It has no tables of ours.
    None,
    /// It has this format.
    Of(i32),
}

/// The format of the schema.
pub(crate) async fn format(link: &Link, schema: &str) -> Result<Format, Error> {
    let sql = "select 1 from pg_tables where schemaname = $1 and tablename = 'format'";
    let there = link.query(sql, vec![Param::new(schema.to_owned(), Type::TEXT)]).await;
    if there.map_err(Trouble::error)?.is_empty() {
        return Ok(Format::None);
    }
    let rows = link.query("select version from {s}.format", vec![]).await.map_err(Trouble::error)?;
    Ok(rows.first().map_or(Format::None, |row| Format::Of(row.get(0))))
}

/// Makes the tables of a new schema, brings an older one forward; many may do it at once. Answers the steps taken.
///
/// # Errors
/// `Invalid`: the schema is newer than this build. `Unavailable`: it cannot be changed now, or by this user.
pub(crate) async fn migrate(link: &Link, schema: &str) -> Result<usize, Error> {
    let from = match format(link, schema).await? {
        Format::Of(version) => is_not_newer(schema, version)?,
        Format::None => 0,
    };
    if from == STEPS.len() {
        return Ok(0);
    }
    let mut taken = 0;
    for (number, step) in STEPS.iter().enumerate().skip(from) {
        let version = number + 1;
        // One at a time, whoever is first: the others find it done. The lock ends with the transaction, so a pooler
        // does not keep it.
        let first = if number == 0 { "" } else { DEPOSE };
        let text = [first, step].concat().replace("{s}", schema);
        let sql = format!(
            "begin;
             set local statement_timeout = {statement};
             do $schema$ begin
               perform pg_advisory_xact_lock(hashtextextended('mainstay.migrate.{schema}', 0));
               if not exists (select 1 from pg_namespace where nspname = '{schema}') then
                 create schema {schema};
               end if;
             end $schema$;
             set local lock_timeout = {lock};
             create table if not exists {schema}.format (one boolean primary key default true check (one), version int not null);
             do $migration$ begin
               if coalesce((select max(version) from {schema}.format), 0) = {number} then
                 {body}
                 insert into {schema}.format values (true, {version})
                   on conflict (one) do update set version = excluded.version;
                 perform set_config('mainstay.migrated', '{version}', true);
               end if;
             end $migration$;
             select 1 where current_setting('mainstay.migrated', true) = '{version}';
             commit;",
            body = text,
            lock = LOCK.as_millis(),
            statement = STEP.as_millis(),
        );
        // Another may have taken the step meanwhile.
        taken += take_step(link, &sql).await.map_err(|cause| {
            let message = format!("the schema `{schema}` could not be brought to format {version}: {cause}");
            Error::new(ErrorKind::Unavailable, message).because(cause)
        })?;
    }
    Ok(taken)
}

/// Tries again while somebody uses a table that the step changes. Whenever this answers, nothing is under way any more.
async fn take_step(link: &Link, sql: &str) -> Result<usize, Error> {
    let began = Stopwatch::start();
    loop {
        // The server gives up first.
        match link.run_long(sql, STEP * 2).await {
            Ok(rows) => return Ok(rows),
            Err(trouble) => {
                let _ = link.run("rollback").await;
                if !trouble.is_locked() {
                    return Err(trouble.error());
                }
                if began.elapsed() >= TRIES {
                    let message = "somebody uses a table for long, and nothing was changed: end that transaction (see \
                        pg_stat_activity), and try again";
                    return Err(Error::new(ErrorKind::Unavailable, message).because(trouble.error()));
                }
            }
        }
        // Who leads, and who reads, goes on meanwhile.
        sleep(PAUSE).await;
    }
}

/// Whether the schema can be used as it is.
pub(crate) async fn check(link: &Link, schema: &str) -> Result<(), Error> {
    let found = match format(link, schema).await? {
        Format::Of(version) => is_not_newer(schema, version)?,
        Format::None => 0,
    };
    if found < STEPS.len() {
        let message = format!(
            "the schema `{schema}` has format {found}, this build needs {}: run `mainstay migrate`, or open the store \
             without `migrate=off`",
            STEPS.len()
        );
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    Ok(())
}

fn is_not_newer(schema: &str, version: i32) -> Result<usize, Error> {
    match usize::try_from(version) {
        Ok(version) if version <= STEPS.len() => Ok(version),
        _ => Err(Error::new(ErrorKind::Invalid, another(schema, version))),
    }
}

/// What is said of a format that is not ours.
pub(crate) fn another(schema: &str, version: i32) -> String {
    format!(
        "the schema `{schema}` has format {version}; this build of mainstay reads up to format {FORMAT}: use the newer \
         mainstay that wrote it"
    )
}

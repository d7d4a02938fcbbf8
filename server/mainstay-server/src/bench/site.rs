//! Where a measured store is: a file in the folder of the run, or a schema of a database that `--store` names.

use std::{path::Path, path::PathBuf, sync::Arc};

use mainstay::SystemClock;
use mainstay_postgres::{Options, Session};
use serde::{Deserialize, Serialize};

use super::{Error, Result};

/// A store that is measured. It is not shown: the URL of a database may have a password in it.
#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Site {
    /// The embedded store.
    File(PathBuf),
    /// PostgreSQL, with the schema.
    Postgres(String),
}

impl Site {
    /// What opens it.
    pub(super) fn url(&self) -> String {
        match self {
            Site::File(path) => format!("sqlite:{}", path.display()),
            Site::Postgres(url) => url.clone(),
        }
    }

    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Site::File(path) => Some(path),
            Site::Postgres(_) => None,
        }
    }

    /// What counts what is written for it, if something else than the disk does.
    pub(super) fn ledger(&self) -> Result<Option<Ledger>> {
        match self {
            Site::File(_) => Ok(None),
            Site::Postgres(url) => session(url).map(|session| Some(Ledger(session))),
        }
    }

    /// What the store is called in tables, in this process and over HTTP.
    pub(super) fn names(&self) -> [&'static str; 2] {
        match self {
            Site::File(_) => ["embedded store", "embedded store over HTTP"],
            Site::Postgres(_) => ["PostgreSQL store", "PostgreSQL store over HTTP"],
        }
    }
}

/// The write-ahead log of a server.
pub(super) struct Ledger(Session);

impl Ledger {
    /// Bytes that the whole server has written into it, whoever made it do so.
    pub(super) fn written(&self) -> Option<u64> {
        let rows = self.0.ask("select pg_current_wal_insert_lsn() - '0/0'").ok()?;
        rows.first()?.first()?.as_deref()?.parse().ok()
    }
}

/// The database that `--store` names. Stores in it are schemas of this run, dropped at its end.
#[derive(Clone)]
pub(super) struct Database {
    url: String,
    prefix: String,
}

impl Database {
    /// # Errors
    /// It is not a PostgreSQL, or names a schema.
    pub(super) fn new(url: &str) -> Result<Database> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(Error::new(
                "--store takes postgres://USER:PASSWORD@HOST/DATABASE; without it, the embedded store is measured where \
                 --dir is",
            ));
        }
        let query = url.split_once('?').map_or("", |(_, query)| query);
        if query.split('&').any(|pair| pair.starts_with("schema=")) {
            return Err(Error::new(
                "--store names a database, without `schema`: each store that is measured is a schema of its own in it, \
                 dropped at the end",
            ));
        }
        let database = Database { url: url.to_owned(), prefix: format!("bench_{}_", std::process::id()) };
        // What is wrong with the rest of it, before anything begins.
        options(&database.url_of("x")).map(|_| database)
    }

    fn url_of(&self, schema: &str) -> String {
        let joint = if self.url.contains('?') { '&' } else { '?' };
        format!("{}{joint}schema={schema}", self.url)
    }

    /// The store of this name.
    pub(super) fn site(&self, name: &str) -> Site {
        Site::Postgres(self.url_of(&self.schema(name)))
    }

    /// What the server is and how it is set up, for people.
    pub(super) fn about(&self) -> Result<String> {
        let names =
            "server_version,synchronous_commit,fsync,full_page_writes,shared_buffers,max_wal_size,autovacuum";
        let sql: Vec<_> = names.split(',').map(|name| format!("current_setting('{name}')")).collect();
        let rows = session(&self.url)?.ask(&format!("select {}", sql.join(", ")));
        let rows = rows.map_err(Error::doing("cannot ask the database"))?;
        let values = rows.into_iter().next().unwrap_or_default();
        let pairs = names.split(',').zip(values).map(|(name, value)| {
            let name = if name == "server_version" { "PostgreSQL" } else { name };
            format!("{name} {}", value.unwrap_or_default())
        });
        Ok(pairs.collect::<Vec<_>>().join(", "))
    }

    /// Removes all stores of this run.
    pub(super) fn drop_all(&self) -> Result<()> {
        let session = session(&self.url)?;
        // `bench_`, this process's number, `_`: nobody else's.
        let sql = format!("select nspname from pg_namespace where starts_with(nspname, '{}')", self.prefix);
        let rows = session.ask(&sql).map_err(Error::doing("cannot list the schemas of this run"))?;
        rows.into_iter().flatten().flatten().try_for_each(|schema| drop_schema(&session, &schema))
    }

    /// Removes the store of this name.
    pub(super) fn drop_site(&self, name: &str) -> Result<()> {
        drop_schema(&session(&self.url)?, &self.schema(name))
    }

    fn schema(&self, name: &str) -> String {
        format!("{}{}", self.prefix, name.replace('-', "_"))
    }
}

fn drop_schema(session: &Session, schema: &str) -> Result<()> {
    let dropped = session.ask(&format!("drop schema if exists {schema} cascade"));
    dropped.map(drop).map_err(Error::doing(format!("cannot drop the schema {schema}")))
}

fn session(url: &str) -> Result<Session> {
    Session::open(options(url)?).map_err(Error::doing("cannot reach the database"))
}

fn options(url: &str) -> Result<Options> {
    Options::from_url(url, Arc::new(SystemClock)).map_err(|error| Error::new(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_schema_of_this_run() {
        let database = Database::new("postgres://me@host/db?sslmode=disable").unwrap();
        let Site::Postgres(url) = database.site("waiting-0") else { panic!("it is in the database") };
        let schema = format!("bench_{}_waiting_0", std::process::id());
        assert_eq!(url, format!("postgres://me@host/db?sslmode=disable&schema={schema}"));
    }

    #[test]
    fn what_is_no_database_is_refused_without_its_password() {
        for bad in [
            "sqlite:x.db",
            "http://host",
            "postgres://me:secret@host/db?schema=mine",
            "postgres://me:secret@:x/",
        ] {
            let Err(error) = Database::new(bad) else { panic!("{bad} was taken") };
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}

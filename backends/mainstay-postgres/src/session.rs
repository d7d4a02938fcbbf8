//! A session for what tools ask of the database beside the store.

use std::sync::Arc;

use mainstay_core::{Error, ErrorKind};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::SimpleQueryMessage;

use crate::{
    fault::Trouble,
    link::{Link, Target},
    options::Options,
    store::block,
};

/// A session of its own, for statements that no store sends: how much was written, how large tables are. It neither
/// leads nor follows, and makes no tables.
pub struct Session {
    /// Both are there until it ends.
    runtime: Option<Runtime>,
    link: Option<Arc<Link>>,
}

/// A row, its columns as PostgreSQL writes them as text.
pub type TextRow = Vec<Option<String>>;

impl Session {
    /// Opens the session. Blocks.
    ///
    /// # Errors
    /// `Invalid`: the options. `Unavailable`: the database cannot be reached, or has refused.
    pub fn open(options: Options) -> Result<Session, Error> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(|e| {
            Error::new(ErrorKind::Unavailable, format!("cannot start a thread: {e}")).because(e)
        })?;
        let target = Target::new(options, runtime.handle().clone());
        let link = target.and_then(|target| {
            block(&runtime, async move { Link::open(&target, None).await })?.map_err(Trouble::error)
        });
        // From here on the runtime ends without blocking, whatever happens.
        let mut session = Session { runtime: Some(runtime), link: None };
        session.link = Some(link?.into());
        Ok(session)
    }

    /// Runs statements, `{s}` in them standing for the schema; answers the rows of all of them. Blocks for as long as
    /// the database takes, at most for the options' `timeout`.
    ///
    /// # Errors
    /// `Unavailable`, `Invalid`: as the database says.
    pub fn ask(&self, sql: &str) -> Result<Vec<TextRow>, Error> {
        let (Some(runtime), Some(link)) = (&self.runtime, self.link.clone()) else { return Ok(Vec::new()) };
        let sql = sql.to_owned();
        let messages = block(runtime, async move { link.ask(&sql).await })?.map_err(Trouble::error)?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may be dropped where nothing may block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

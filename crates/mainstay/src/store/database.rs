//! `postgres://…`.

use std::sync::Arc;

use mainstay_core::{clock::Clock, store::Store};
use mainstay_postgres::{Options, PostgresStore};

use super::OnFatal;
use crate::{Error, Result};

pub(super) fn open(url: &str, clock: &Arc<dyn Clock>, on_fatal: OnFatal) -> Result<Arc<dyn Store>> {
    let options = Options::from_url(url, clock.clone()).map_err(|error| Error::config(error.to_string()))?;
    Ok(Arc::new(PostgresStore::open(Options { on_fatal: Some(on_fatal), ..options })?))
}

pub(super) fn migrate(url: &str) -> Result<usize> {
    let options = Options::from_url(url, crate::clock::current());
    let options = options.map_err(|error| Error::config(error.to_string()))?;
    Ok(mainstay_postgres::migrate(options)?)
}

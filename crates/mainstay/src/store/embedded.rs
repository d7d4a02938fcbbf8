//! `sqlite:PATH`.

use std::sync::Arc;

use mainstay_core::{clock::Clock, store::Store};
use mainstay_sqlite::{Options, SqliteStore};

use super::OnFatal;
use crate::Result;

pub(super) fn open(path: &str, clock: &Arc<dyn Clock>, on_fatal: OnFatal) -> Result<Arc<dyn Store>> {
    let options = Options { on_fatal: Some(on_fatal), ..Options::new(path, clock.clone()) };
    Ok(Arc::new(SqliteStore::open(options)?))
}

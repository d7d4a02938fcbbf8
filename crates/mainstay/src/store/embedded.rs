//! `sqlite:PATH`.

use std::sync::Arc;

use mainstay_core::{ErrorKind, clock::Clock, store::Store};
use mainstay_sqlite::{Options, SqliteStore};

use super::{OnFatal, Steps};
use crate::{Error, Result};

pub(super) fn open(
    path: &str,
    clock: &Arc<dyn Clock>,
    on_fatal: OnFatal,
    steps: Steps,
) -> Result<Arc<dyn Store>> {
    let (on_fatal, on_progress) = (Some(on_fatal), Some(Arc::new(move || steps.one()) as _));
    let options = Options { on_fatal, on_progress, ..Options::new(path, clock.clone()) };
    let opened = SqliteStore::open(options).map_err(|error| match error.kind() {
        // No folder, a folder, another program's file: what is there is not a store that can be had now.
        ErrorKind::Invalid | ErrorKind::NotSupported => Error::unavailable(error.to_string()),
        _ => error.into(),
    });
    Ok(Arc::new(opened?))
}

//! `sqlite:PATH` in a build without it.

use std::sync::Arc;

use mainstay_core::{clock::Clock, store::Store};

use super::{OnFatal, Steps};
use crate::{Error, Result};

pub(super) fn open(
    _path: &str,
    _clock: &Arc<dyn Clock>,
    _on_fatal: OnFatal,
    _steps: Steps,
) -> Result<Arc<dyn Store>> {
    Err(Error::config("this build has no `sqlite:` store: enable the crate's feature `sqlite`"))
}

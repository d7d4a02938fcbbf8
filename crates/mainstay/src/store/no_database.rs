//! `postgres://…` in a build without it.

use std::sync::Arc;

use mainstay_core::{clock::Clock, store::Store};

use super::OnFatal;
use crate::{Error, Result};

pub(super) fn open(_url: &str, _clock: &Arc<dyn Clock>, _on_fatal: OnFatal) -> Result<Arc<dyn Store>> {
    Err(missing())
}

pub(super) fn migrate(_url: &str) -> Result<usize> {
    Err(missing())
}

fn missing() -> Error {
    Error::config("this build has no `postgres:` store: enable the crate's feature `postgres`")
}

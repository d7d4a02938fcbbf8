//! `http://…` in a build without it.

use std::sync::Arc;

use mainstay_core::{clock::Clock, store::Store};

use crate::{Error, Result, Secret};

pub(super) fn open(
    _url: &str,
    _token: Option<&Secret<String>>,
    _clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Store>> {
    Err(Error::config("this build has no `http:` store: enable the crate's feature `client`"))
}

//! Without HTTP there is no admin listener.

use std::sync::Arc;
use std::time::Duration;

use crate::Result;
use crate::app::Core;
use crate::tasks::TaskSet;

#[derive(Default)]
pub(crate) struct Admin {}

impl Admin {
    pub fn complete(&self) {}
}

pub(crate) async fn open(_: &Arc<Core>, _: &TaskSet) -> Result<()> {
    Ok(())
}

pub(crate) async fn close(_: &Core, _: Duration) {}

pub(crate) fn adopt_passed_sockets() {}

pub(crate) fn warn_of_unused_sockets() {}

//! For tests of the engine alone: an archive in which nothing is found.

use super::change::{
    Archive, DeadRef, EventMeta, FinishedJob, FinishedKey, FinishedRef, GroupId, Lane, QueueId, TopicId,
};
use crate::{error::Error, id::JobId};

pub(super) struct Nothing;

impl Archive for Nothing {
    fn finished(&mut self, _: JobId) -> Result<Option<FinishedJob>, Error> {
        Ok(None)
    }
    fn is_taken(&mut self, _: FinishedKey) -> Result<bool, Error> {
        Ok(false)
    }
    fn oldest(&mut self, _: QueueId, _: Lane, _: usize) -> Result<Vec<FinishedRef>, Error> {
        Ok(vec![])
    }
    fn events(&mut self, _: Option<TopicId>, _: u64, _: usize) -> Result<Vec<EventMeta>, Error> {
        Ok(vec![])
    }
    fn dead_event(&mut self, _: u64) -> Result<Option<DeadRef>, Error> {
        Ok(None)
    }
    fn dead_events(&mut self, _: GroupId, _: usize) -> Result<Vec<DeadRef>, Error> {
        Ok(vec![])
    }
}

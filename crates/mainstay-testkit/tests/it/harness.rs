use std::sync::Arc;

use mainstay_core::{Store, memory::MemoryStore};
use mainstay_testkit::{Harness, ManualClock, async_trait};

pub(crate) struct Memory(Arc<ManualClock>);

impl Memory {
    pub(crate) fn new() -> Memory {
        Memory(ManualClock::new())
    }
}

#[async_trait]
impl Harness for Memory {
    fn clock(&self) -> &Arc<ManualClock> {
        &self.0
    }

    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(MemoryStore::new(self.0.clone()).without_housekeeping())
    }

    fn acts_between_calls(&self) -> bool {
        false
    }
}

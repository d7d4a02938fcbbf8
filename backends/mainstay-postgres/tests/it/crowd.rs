//! Eight handles of one store, of which one leads: each call goes through the next.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mainstay_core::{Error, Store, store::Over};
use mainstay_postgres::PostgresStore;
use mainstay_testkit::{Harness, ManualClock, async_trait};

use crate::harness::Place;

const HANDLES: usize = 8;

/// Opens them.
pub(crate) struct Eight {
    place: Place,
}

impl Eight {
    pub(crate) fn new() -> Eight {
        Eight { place: Place::new() }
    }
}

#[async_trait]
impl Harness for Eight {
    fn clock(&self) -> &Arc<ManualClock> {
        &self.place.clock
    }

    async fn open(&self) -> Arc<dyn Store> {
        let handles: Vec<_> = (0..HANDLES).map(|_| self.place.open_store()).collect();
        let leads = |handle: &PostgresStore| handle.stats().contains(&("leads", 1.0));
        assert_eq!(handles.iter().filter(|handle| leads(handle)).count(), 1);
        Arc::new(Crowd { handles, turn: AtomicUsize::new(0) })
    }

    fn durable(&self) -> bool {
        true
    }
}

struct Crowd {
    handles: Vec<PostgresStore>,
    turn: AtomicUsize,
}

impl Crowd {
    fn next(&self) -> &PostgresStore {
        &self.handles[self.turn.fetch_add(1, Ordering::Relaxed) % HANDLES]
    }
}

#[async_trait]
impl Over for Crowd {
    fn below(&self) -> &dyn Store {
        self.next()
    }

    /// Those that follow first, so that nobody takes over meanwhile.
    async fn close(&self, at_most: Duration) -> Result<(), Error> {
        let mut ending = Ok(());
        for handle in self.handles.iter().rev() {
            ending = handle.close(at_most).await;
        }
        ending
    }
}

//! Who gets what.

use std::{
    cell::RefCell,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use hashbrown::HashMap;
use mainstay_core::topic::{FilterSet, TopicFilter, TopicName};
use metrics::Counter;

use super::{
    PublishError,
    outlet::Outlet,
    ring::{Reader, Ring},
};

/// So many topics have their subscriptions at hand; with more than that they are looked up anew from time to time.
const CACHED: usize = 10_000;

pub(super) struct Routes {
    table: RwLock<Table>,
    /// Grows with every change of what topics lead to, of any bus: so it tells buses apart, too.
    version: AtomicU64,
}

impl Default for Routes {
    fn default() -> Self {
        Self { table: RwLock::default(), version: AtomicU64::new(next_version()) }
    }
}

fn next_version() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

thread_local! {
    /// The route that this thread found last, and the version that it is of: whoever stays with a topic needs neither
    /// the table's lock nor a hash. Weak, so that no thread keeps what is subscribed no more.
    static LAST: RefCell<(u64, Weak<Route>)> = const { RefCell::new((0, Weak::new())) };
}

#[derive(Default)]
struct Table {
    next: u64,
    closed: bool,
    filters: FilterSet<u64>,
    outlets: HashMap<u64, Arc<Outlet>>,
    /// What listeners read, one for each of their filters.
    rings: HashMap<u64, Arc<Ring>>,
    ring_of: HashMap<TopicFilter, Arc<Ring>>,
    /// What the filters say, by topic.
    cache: HashMap<TopicName, Arc<Route>>,
}

/// The subscriptions of a topic, in the order of their subscribing.
pub(super) struct Route {
    pub topic: TopicName,
    pub outlets: Vec<Arc<Outlet>>,
    pub rings: Vec<Arc<Ring>>,
    pub published: Counter,
}

impl Routes {
    /// # Errors
    /// A topic that is none.
    pub fn route(&self, topic: &str) -> Result<Arc<Route>, PublishError> {
        // Before looking: a route is never taken for newer than it is.
        let version = self.version.load(Ordering::SeqCst);
        // A thread on its way out has no last one any more.
        let last = LAST.try_with(|last| match &*last.borrow() {
            (of, route) if *of == version => route.upgrade(),
            _ => None,
        });
        if let Ok(Some(route)) = last
            && route.topic == *topic
        {
            return Ok(route);
        }
        let route = self.look_up(topic)?;
        let _ = LAST.try_with(|last| last.replace((version, Arc::downgrade(&route))));
        Ok(route)
    }

    fn look_up(&self, topic: &str) -> Result<Arc<Route>, PublishError> {
        if let Some(route) = self.read().cache.get(topic) {
            return Ok(route.clone());
        }
        let name = TopicName::new(topic)
            .map_err(|error| PublishError::Invalid(format!("topic `{topic}`: {error}")))?;
        let mut table = self.write();
        let mut ids = Vec::new();
        table.filters.matches(&name, |id| ids.push(*id));
        ids.sort_unstable();
        let outlets = ids.iter().filter_map(|id| table.outlets.get(id).cloned()).collect();
        let rings = ids.iter().filter_map(|id| table.rings.get(id).cloned()).collect();
        let published = metrics::counter!("mainstay.bus.published", "topic" => topic.to_owned());
        let route = Arc::new(Route { topic: name.clone(), outlets, rings, published });
        if table.cache.len() >= CACHED {
            table.cache.clear();
        }
        table.cache.insert(name, route.clone());
        Ok(route)
    }

    /// # Errors
    /// A bus that is closed.
    pub fn add<T>(
        &self,
        filter: &TopicFilter,
        open: impl FnOnce(u64) -> (Arc<Outlet>, T),
    ) -> Result<(Arc<Outlet>, T), PublishError> {
        let mut table = self.write();
        if table.closed {
            return Err(PublishError::Closed);
        }
        let id = table.next;
        table.next += 1;
        let (outlet, other) = open(id);
        table.filters.insert(filter, id);
        table.outlets.insert(id, outlet.clone());
        self.forget(&mut table, |route| filter.matches(&route.topic));
        Ok((outlet, other))
    }

    /// A reader of what comes by this filter from now on.
    ///
    /// # Errors
    /// A bus that is closed.
    pub fn listen(&self, filter: &TopicFilter, capacity: usize) -> Result<Reader, PublishError> {
        let mut table = self.write();
        if table.closed {
            return Err(PublishError::Closed);
        }
        if let Some(ring) = table.ring_of.get(filter) {
            return Ok(ring.reader(capacity));
        }
        let id = table.next;
        table.next += 1;
        let ring = Ring::new(id, filter.clone());
        let reader = ring.reader(capacity);
        table.filters.insert(filter, id);
        table.rings.insert(id, ring.clone());
        table.ring_of.insert(filter.clone(), ring);
        self.forget(&mut table, |route| filter.matches(&route.topic));
        Ok(reader)
    }

    /// A reader has left: with the last one its ring goes.
    pub fn unlisten(&self, ring: &Arc<Ring>) {
        let mut table = self.write();
        // Another reader may have come since, and a last one may have gone before.
        if ring.readers() == 0 && table.rings.remove(&ring.id).is_some() {
            table.ring_of.remove(&ring.filter);
            table.filters.remove(&ring.filter, &ring.id);
            self.forget(&mut table, |route| ring.filter.matches(&route.topic));
        }
    }

    /// Ends a subscription: nothing new comes into its queue. Whether there was one.
    pub fn remove(&self, id: u64) -> bool {
        let mut table = self.write();
        let Some(outlet) = table.outlets.remove(&id) else { return false };
        table.filters.remove(&outlet.filter, &id);
        self.forget(&mut table, |route| route.outlets.iter().any(|other| other.id == id));
        drop(table);
        // Whoever is publishing right now may still hold it.
        outlet.queue.close();
        true
    }

    /// Ends all, and takes no new ones.
    pub fn close(&self) {
        let mut table = self.write();
        table.closed = true;
        table.filters = FilterSet::default();
        self.forget(&mut table, |_| true);
        let outlets = std::mem::take(&mut table.outlets);
        let rings = std::mem::take(&mut table.rings);
        table.ring_of.clear();
        drop(table);
        rings.values().for_each(|ring| ring.close());
        outlets.values().for_each(|outlet| outlet.queue.close());
    }

    pub fn outlet(&self, id: u64) -> Option<Arc<Outlet>> {
        self.read().outlets.get(&id).cloned()
    }

    /// In the order of their subscribing.
    pub fn outlets(&self) -> Vec<Arc<Outlet>> {
        let mut all: Vec<_> = self.read().outlets.values().cloned().collect();
        all.sort_unstable_by_key(|outlet| outlet.id);
        all
    }

    pub fn len(&self) -> usize {
        let table = self.read();
        table.outlets.len() + table.rings.values().map(|ring| ring.readers()).sum::<usize>()
    }

    /// These routes lead elsewhere from now on.
    fn forget(&self, table: &mut Table, which: impl Fn(&Route) -> bool) {
        table.cache.retain(|_, route| !which(route));
        self.version.store(next_version(), Ordering::SeqCst);
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

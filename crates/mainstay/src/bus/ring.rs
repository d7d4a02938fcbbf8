//! The newest events of a filter, once for all who listen to it.
//!
//! Publishing costs the same however many listen, and reading a stretch of events costs one look at the head: events lie
//! in blocks, a reader holds the block that it reads, and asks the ring (which has a lock) for the next one only. What is
//! too old for every reader goes with its block; a reader that sleeps keeps one block, not the chain.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock, PoisonError, atomic::Ordering::SeqCst},
};

use mainstay_core::topic::TopicFilter;
use metrics::Counter;
use tokio::task::{coop, yield_now};

use super::{
    ListenError,
    sync::{
        Mutex, MutexGuard, Notify,
        atomic::{AtomicBool, AtomicU64},
    },
};
use crate::event::Envelope;

/// In blocks of so many events; the model's are smaller.
pub(super) struct Ring<const BLOCK: usize = 64> {
    pub id: u64,
    pub filter: TopicFilter,
    dropped: Counter,
    state: Mutex<State<BLOCK>>,
    /// The number of the event that comes next, from 0: all before it can be read.
    head: AtomicU64,
    closed: AtomicBool,
    /// A reader sleeps, or is about to, and was not called. Set before it looks a last time, read after the head has
    /// moved: one of the two sees the other.
    asleep: AtomicBool,
    news: Notify,
}

struct State<const BLOCK: usize> {
    /// In their order, the last one with room.
    blocks: VecDeque<Arc<Block<BLOCK>>>,
    /// How far back each reader may be.
    capacities: Vec<u64>,
}

struct Block<const BLOCK: usize> {
    first: u64,
    events: [OnceLock<Envelope>; BLOCK],
}

impl<const BLOCK: usize> Block<BLOCK> {
    const SIZE: u64 = BLOCK as u64;

    fn new(first: u64) -> Arc<Self> {
        Arc::new(Self { first, events: [const { OnceLock::new() }; BLOCK] })
    }

    fn at(&self, number: u64) -> Option<&OnceLock<Envelope>> {
        self.events.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }
}

impl<const BLOCK: usize> Ring<BLOCK> {
    pub fn new(id: u64, filter: TopicFilter) -> Arc<Self> {
        let name = format!("listener {filter}");
        Arc::new(Self {
            id,
            filter,
            dropped: metrics::counter!("mainstay.bus.dropped", "subscriber" => name),
            state: Mutex::new(State { blocks: VecDeque::from([Block::new(0)]), capacities: Vec::new() }),
            head: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            news: Notify::new(),
        })
    }

    /// Puts an event in; answers how many may read it.
    pub fn publish(&self, event: Envelope) -> usize {
        let mut state = self.lock();
        let readers = state.capacities.len();
        let number = self.head.load(SeqCst);
        if let Some(place) = state.blocks.back().and_then(|block| block.at(number)) {
            let _ = place.set(event);
        }
        let next = number + 1;
        let mut old = Vec::new();
        if next.is_multiple_of(Block::<BLOCK>::SIZE) {
            let oldest = next.saturating_sub(state.capacities.iter().copied().max().unwrap_or(0));
            let too_old = state.blocks.partition_point(|block| block.first + Block::<BLOCK>::SIZE <= oldest);
            old.extend(state.blocks.drain(..too_old));
            state.blocks.push_back(Block::new(next));
        }
        self.head.store(next, SeqCst);
        drop(state);
        // Events are dropped outside of the lock.
        drop(old);
        // Called once, not for every event until they run.
        if self.asleep.load(SeqCst) && self.asleep.swap(false, SeqCst) {
            self.news.notify_waiters();
        }
        readers
    }

    /// Somebody who reads what comes from now on, and may be this far back: at least 1.
    pub fn reader(self: &Arc<Self>, capacity: usize) -> Reader<BLOCK> {
        let capacity = u64::try_from(capacity.max(1)).unwrap_or(u64::MAX);
        let mut state = self.lock();
        state.capacities.push(capacity);
        // Under the lock: nothing comes in meanwhile.
        let next = self.head.load(SeqCst);
        drop(state);
        Reader { ring: self.clone(), capacity, next, head: next, block: None }
    }

    /// Nothing comes after what is in it.
    pub fn close(&self) {
        self.closed.store(true, SeqCst);
        self.news.notify_waiters();
    }

    /// How many read it.
    pub fn readers(&self) -> usize {
        self.lock().capacities.len()
    }

    /// How many blocks it holds.
    #[cfg(test)]
    pub fn blocks(&self) -> usize {
        self.lock().blocks.len()
    }

    fn block(&self, number: u64) -> Option<Arc<Block<BLOCK>>> {
        let state = self.lock();
        let blocks_on = number.checked_sub(state.blocks.front()?.first)? / Block::<BLOCK>::SIZE;
        state.blocks.get(usize::try_from(blocks_on).ok()?).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State<BLOCK>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who reads a ring.
pub(super) struct Reader<const BLOCK: usize = 64> {
    ring: Arc<Ring<BLOCK>>,
    capacity: u64,
    /// The number of the event that it gets next.
    next: u64,
    /// The head when it looked last: every look costs publishers time.
    head: u64,
    block: Option<Arc<Block<BLOCK>>>,
}

impl<const BLOCK: usize> Reader<BLOCK> {
    /// Waits for the next event and passes it to `read`. Dropped before it is done, it has taken nothing.
    pub async fn recv<P>(&mut self, read: impl FnOnce(&Envelope) -> P) -> Result<P, ListenError> {
        // Whoever reads in a loop gives others their turn.
        coop::consume_budget().await;
        loop {
            let held = self.block.as_ref().is_some_and(|block| block.at(self.next).is_some());
            if self.head == self.next || !held {
                if self.is_level() {
                    // Others first, publishers among them: news that comes meanwhile calls nobody, and a call costs
                    // its publisher more than this reader's turn.
                    yield_now().await;
                    if self.is_level() {
                        self.wait().await?;
                    }
                }
                self.head = self.ring.head.load(SeqCst);
                let missed = self.missed();
                if missed > 0 {
                    self.next += missed;
                    self.ring.dropped.increment(missed);
                    return Err(ListenError::Lagged(missed));
                }
                if self.block.as_ref().is_none_or(|block| block.at(self.next).is_none()) {
                    self.block = self.ring.block(self.next);
                }
            }
            let place = self.block.as_ref().and_then(|block| block.at(self.next));
            // Gone between the two looks: then it is missed.
            let Some(event) = place.and_then(OnceLock::get) else {
                self.head = self.next;
                continue;
            };
            self.next += 1;
            return Ok(read(event));
        }
    }

    /// Whether it has read all there is.
    fn is_level(&self) -> bool {
        self.ring.head.load(SeqCst) == self.next
    }

    /// Until there is something to read.
    async fn wait(&self) -> Result<(), ListenError> {
        loop {
            let mut news = std::pin::pin!(self.ring.news.notified());
            // Before looking: what comes from now on is heard.
            news.as_mut().enable();
            self.ring.asleep.store(true, SeqCst);
            let closed = self.ring.closed.load(SeqCst);
            if !self.is_level() {
                return Ok(());
            } else if closed {
                return Err(ListenError::Closed);
            }
            news.await;
        }
    }

    /// How many events wait for it.
    pub fn depth(&self) -> usize {
        let depth = (self.ring.head.load(SeqCst) - self.next).min(self.capacity);
        usize::try_from(depth).unwrap_or(usize::MAX)
    }

    pub fn ring(&self) -> &Arc<Ring<BLOCK>> {
        &self.ring
    }

    /// So many events were too many for it.
    fn missed(&self) -> u64 {
        (self.ring.head.load(SeqCst) - self.next).saturating_sub(self.capacity)
    }
}

impl<const BLOCK: usize> Drop for Reader<BLOCK> {
    fn drop(&mut self) {
        let missed = self.missed();
        if missed > 0 {
            self.ring.dropped.increment(missed);
        }
        let mut state = self.ring.lock();
        if let Some(own) = state.capacities.iter().position(|capacity| *capacity == self.capacity) {
            state.capacities.swap_remove(own);
        }
    }
}

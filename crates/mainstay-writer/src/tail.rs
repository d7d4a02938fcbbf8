//! The end of the log in RAM, with what happened: who reads along never touches the tables, and does not wait for them.
//!
//! Beside it, what all readers need to know of topics. The writer adds a group when it is durable, before anybody is
//! answered.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard},
};

use hashbrown::HashMap;
use mainstay_core::{
    TopicFilter, TopicName,
    engine::change::{EventChange, EventMeta, TopicId},
    event::{Event, LogBudget, LogSlice, LoggedEvent},
};

/// The newest events are kept up to this many bytes, and beyond that those that the tables lack.
const TAIL_BYTES: usize = 32 << 20;
/// So many leave under one lock: those who read along do not wait for long.
const TRIM_AT_ONCE: usize = 1_024;
/// What an event costs beside its bytes.
const OVERHEAD: usize = 320;
/// A reading of the tail looks at no more events than this.
const SCAN_LIMIT: usize = 10_000;
/// Among more topics than this, nobody looks for the few that match.
const MANY_TOPICS: usize = 10_000;

pub struct Tail {
    state: RwLock<State>,
}

struct State {
    events: VecDeque<Entry>,
    /// The number of the first of them; there are no gaps.
    first: u64,
    bytes: usize,
    topics: HashMap<TopicId, Topic>,
    names: HashMap<TopicName, TopicId>,
    /// Topics of which retention has removed something, by how far.
    trimmed: BTreeSet<(u64, TopicId)>,
}

/// An event, and what readers get of it: made for the first of them, since most events have none, and a publisher
/// should not pay for it.
struct Entry {
    meta: EventMeta,
    event: Arc<Event>,
    read: OnceLock<Arc<LoggedEvent>>,
}

struct Topic {
    name: TopicName,
    removed_up_to: u64,
}

/// What a group changes here.
pub enum Note {
    Topic(TopicId, TopicName),
    TopicDropped(TopicId),
    Published(EventMeta, Arc<Event>),
    Removed(TopicId, u64),
}

impl Note {
    /// What of a change matters here.
    pub fn of(change: &EventChange) -> Option<Note> {
        Some(match change {
            EventChange::Topic { id, dropped: true, .. } => Note::TopicDropped(*id),
            EventChange::Topic { id, name, .. } => Note::Topic(*id, name.clone()),
            EventChange::Published { meta, event, .. } => Note::Published(*meta, event.clone()),
            EventChange::EventsRemoved { topic, up_to } => Note::Removed(*topic, *up_to),
            _ => return None,
        })
    }
}

/// What the tail says to a reader.
pub enum Reading {
    Here(LogSlice),
    /// It begins before the tail: the tables have everything before `until`.
    Older {
        until: u64,
        head: u64,
    },
}

impl Tail {
    /// The end of a log in which `last_seq` was the last number given.
    pub fn new<'t>(last_seq: u64, topics: impl Iterator<Item = (TopicId, &'t TopicName, u64)>) -> Tail {
        let mut state = State {
            events: VecDeque::new(),
            first: last_seq + 1,
            bytes: 0,
            topics: HashMap::new(),
            names: HashMap::new(),
            trimmed: BTreeSet::new(),
        };
        for (id, name, removed_up_to) in topics {
            state.note(Note::Topic(id, name.clone()));
            if removed_up_to > 0 {
                state.note(Note::Removed(id, removed_up_to));
            }
        }
        Tail { state: RwLock::new(state) }
    }

    /// A group is durable.
    pub fn add(&self, notes: impl Iterator<Item = Note>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        notes.for_each(|note| state.note(note));
    }

    /// The tables have all events up to `in_tables`: what is above the bound goes. It is freed here, which is why whoever
    /// has the time calls this, and not the writer.
    pub fn trim(&self, in_tables: u64) {
        let mut gone = Vec::new();
        loop {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            while gone.len() < TRIM_AT_ONCE && state.bytes > TAIL_BYTES && state.first <= in_tables {
                let Some(entry) = state.events.pop_front() else { break };
                state.bytes -= cost(&entry.meta);
                state.first += 1;
                gone.push(entry);
            }
            drop(state);
            if gone.is_empty() {
                return;
            }
            gone.clear();
        }
    }

    /// The last number given.
    pub fn head(&self) -> u64 {
        self.read_state().head()
    }

    /// Reads from `from` on.
    pub fn read(&self, filters: &[TopicFilter], from: u64, budget: LogBudget) -> Reading {
        self.read_state().read(filters, from, budget)
    }

    /// Runs `get` with a way to find events of the tail by number.
    pub fn with_events<T>(&self, get: impl FnOnce(&dyn Fn(u64) -> Option<Arc<Event>>) -> T) -> T {
        let state = self.read_state();
        get(&|seq| state.event(seq))
    }

    /// The topics that match, if they are no more than `few`.
    pub fn matching(&self, filters: &[TopicFilter], few: usize) -> Matching {
        if filters.is_empty() {
            return Matching::Filtered;
        }
        let literal: Option<Vec<TopicName>> = filters.iter().map(TopicFilter::literal).collect();
        let state = self.read_state();
        let ids: BTreeSet<TopicId> = match literal {
            Some(names) => names.iter().filter_map(|name| state.names.get(name).copied()).collect(),
            None if state.names.len() > MANY_TOPICS => return Matching::Filtered,
            None => {
                let matches = |name: &TopicName| filters.iter().any(|filter| filter.matches(name));
                let matching = state.names.iter().filter(|(name, _)| matches(name));
                matching.map(|(_, id)| *id).take(few + 1).collect()
            }
        };
        if ids.len() > few { Matching::Filtered } else { Matching::These(ids.into_iter().collect()) }
    }

    /// Adds what was read of the tables to a slice, but for what is gone by now; and says of all that is gone. In one
    /// step: whatever the tables lacked when they were read is told.
    pub fn add_living(
        &self,
        filters: &[TopicFilter],
        found: Vec<(TopicId, Arc<LoggedEvent>)>,
        mut slice: LogSlice,
    ) -> LogSlice {
        let state = self.read_state();
        slice.removed = state.removed(filters, slice.from);
        slice.removed_up_to = slice.removed.last().map_or(0, |(_, up_to)| *up_to);
        let lives =
            |(id, event): (TopicId, Arc<LoggedEvent>)| (!state.is_gone(id, event.seq)).then_some(event);
        slice.events.extend(found.into_iter().filter_map(lives));
        slice
    }

    /// Whether events of the table are in the log, and of which topic: `None` if they are gone or do not match.
    pub fn judge(&self, filters: &[TopicFilter], topic: TopicId) -> Option<Judged> {
        let state = self.read_state();
        let Topic { name, removed_up_to } = state.topics.get(&topic)?;
        let fits = filters.is_empty() || filters.iter().any(|filter| filter.matches(name));
        fits.then(|| Judged { name: name.clone(), removed_up_to: *removed_up_to })
    }

    fn read_state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which topics to read of.
pub enum Matching {
    These(Vec<TopicId>),
    /// They are many: those that [`Tail::judge`] does not refuse.
    Filtered,
}

/// A topic that matches.
pub struct Judged {
    pub name: TopicName,
    pub removed_up_to: u64,
}

impl State {
    fn note(&mut self, note: Note) {
        match note {
            Note::Topic(id, name) => {
                self.names.insert(name.clone(), id);
                self.topics.entry(id).or_insert(Topic { name, removed_up_to: 0 });
            }
            Note::TopicDropped(id) => {
                let Some(topic) = self.topics.remove(&id) else { return };
                self.trimmed.remove(&(topic.removed_up_to, id));
                if self.names.get(&topic.name) == Some(&id) {
                    self.names.remove(&topic.name);
                }
            }
            Note::Removed(id, up_to) => {
                let Some(topic) = self.topics.get_mut(&id) else { return };
                let before = std::mem::replace(&mut topic.removed_up_to, up_to);
                self.trimmed.remove(&(before, id));
                self.trimmed.insert((up_to, id));
            }
            Note::Published(meta, event) => {
                self.bytes += cost(&meta);
                self.events.push_back(Entry { meta, event, read: OnceLock::new() });
            }
        }
    }

    fn head(&self) -> u64 {
        self.first + self.events.len() as u64 - 1
    }

    fn event(&self, seq: u64) -> Option<Arc<Event>> {
        let at = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        self.events.get(at).map(|entry| entry.event.clone())
    }

    fn is_gone(&self, topic: TopicId, seq: u64) -> bool {
        self.topics.get(&topic).is_none_or(|topic| seq <= topic.removed_up_to)
    }

    /// Of which topics that match retention has removed something at or behind `from`, and how far; the last is the
    /// highest number.
    fn removed(&self, filters: &[TopicFilter], from: u64) -> Vec<(TopicName, u64)> {
        let matching = |id: &TopicId| {
            let name = &self.topics.get(id)?.name;
            let fits = filters.is_empty() || filters.iter().any(|filter| filter.matches(name));
            fits.then(|| name.clone())
        };
        let behind = self.trimmed.range((from, TopicId(0))..);
        behind.filter_map(|(up_to, id)| Some((matching(id)?, *up_to))).collect()
    }

    fn read(&self, filters: &[TopicFilter], from: u64, budget: LogBudget) -> Reading {
        let head = self.head();
        if from < self.first {
            return Reading::Older { until: self.first, head };
        }
        let removed = self.removed(filters, from);
        let removed_up_to = removed.last().map_or(0, |(_, up_to)| *up_to);
        let mut slice = LogSlice { from, events: vec![], next: from, head, removed_up_to, removed };
        let mut bytes = 0;
        // Most events in a row are of few topics.
        let mut last: Option<(TopicId, Option<&Topic>)> = None;
        let skip = usize::try_from(from - self.first).unwrap_or(usize::MAX).min(self.events.len());
        for (looked, Entry { meta, event, read }) in self.events.range(skip..).enumerate() {
            slice.next = meta.seq;
            if looked == SCAN_LIMIT {
                return Reading::Here(slice);
            }
            let fits = |topic: &&Topic| {
                filters.is_empty() || filters.iter().any(|filter| filter.matches(&topic.name))
            };
            let topic = match last {
                Some((id, topic)) if id == meta.topic => topic,
                _ => self.topics.get(&meta.topic).filter(fits),
            };
            last = Some((meta.topic, topic));
            let Some(topic) = topic.filter(|topic| meta.seq > topic.removed_up_to) else { continue };
            bytes += u64::from(meta.size);
            let full = slice.events.len() as u64 >= u64::from(budget.events) || bytes > budget.bytes;
            if full && !slice.events.is_empty() {
                return Reading::Here(slice);
            }
            let logged = read.get_or_init(|| {
                let (topic, event) = (topic.name.clone(), event.clone());
                Arc::new(LoggedEvent { topic, seq: meta.seq, published_at: meta.at, event })
            });
            slice.events.push(logged.clone());
        }
        slice.next = from.max(head + 1);
        Reading::Here(slice)
    }
}

fn cost(meta: &EventMeta) -> usize {
    meta.size as usize + OVERHEAD
}

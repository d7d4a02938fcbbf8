//! A store held against what its callers were told.

mod work;

use std::{collections::BTreeMap, sync::Arc};

use mainstay_core::{
    JobId, QueueName, Store, Timestamp, Token, TopicFilter, TopicName,
    event::{EventItem, EventKey, EventQuery, GroupRecord, LogBudget, LoggedEvent, Position},
    job::{JobRecord, JobState},
    lock::LockRecord,
    name::Name,
    queue::{Depth, QueueRecord},
    schedule::{ScheduleOrder, ScheduleRecord},
    store::{Key, Page, Query, Record},
};

use super::{
    caller::{short_topic_of, topic_of},
    ledger::{Act, Ledger, Shown, events::ShownEvents},
};

/// What a caller knew when it happened: what it was told, and what it had begun and when.
#[derive(Clone)]
pub(super) struct Witness {
    pub(super) ledger: Ledger,
    pub(super) begun: Option<(Act, Timestamp)>,
}

/// Everything a store shows.
struct Everything {
    jobs: BTreeMap<JobId, JobRecord>,
    queues: Vec<QueueRecord>,
    audit: Vec<(String, String)>,
    /// By topic, ids and numbers in order.
    events: BTreeMap<String, Vec<(String, u64)>>,
    /// The number that the next event gets.
    next_seq: u64,
    groups: BTreeMap<String, (u64, u64, u64)>,
    locks: BTreeMap<Name, LockRecord>,
    schedules: BTreeMap<Name, ScheduleRecord>,
}

/// Holds an open store against all its witnesses, and goes on working with it.
pub(super) async fn judge(store: &dyn Store, witnesses: &[Witness], now: Timestamp) -> Result<(), String> {
    let everything = Everything::of(store).await?;
    let ledgers = everything.fitting(witnesses)?;
    let last = ledgers.iter().map(|ledger| ledger.last_token).max().unwrap_or(Token(0));
    work::numbers_go_on(store, everything.next_seq).await?;
    for (witness, ledger) in witnesses.iter().zip(ledgers) {
        work::work_on(store, witness, ledger, now).await?;
    }
    work::tokens_have_not_gone_back(store, last, now).await
}

/// Holds an open store against its witnesses and touches nothing. Answers what is true now.
pub(super) async fn look(store: &dyn Store, witnesses: &[Witness]) -> Result<Vec<Ledger>, String> {
    Everything::of(store).await?.fitting(witnesses)
}

/// The same of a store whose tables cannot be written: it lists nothing, but shows each job that is asked for.
pub(super) async fn look_at_each(store: &dyn Store, witness: &Witness) -> Result<(), String> {
    let ledger = &witness.ledger;
    let mut jobs = BTreeMap::new();
    for id in ledger.jobs.keys() {
        match store.get(&Key::Job(*id)).await {
            Ok(Some(Record::Job(job))) => drop(jobs.insert(*id, *job)),
            Ok(_) => {}
            Err(e) => return Err(format!("job {id} cannot be read: {e}")),
        }
    }
    let queue = match store.get(&Key::Queue(ledger.queue.clone())).await {
        Ok(Some(Record::Queue(queue))) => Some(queue),
        _ => None,
    };
    let events = ShownEvents {
        log: events_of(store, topic_of(&ledger.queue)).await?,
        short: events_of(store, short_topic_of(&ledger.queue)).await?,
        group: group_of(store, &ledger.queue).await?,
    };
    let (mut locks, mut schedules) = (BTreeMap::new(), BTreeMap::new());
    for name in ledger.locks.lines.keys() {
        match store.get(&Key::Lock(name.clone())).await {
            Ok(Some(Record::Lock(lock))) => drop(locks.insert(name.clone(), *lock)),
            Ok(_) => {}
            Err(e) => return Err(format!("lock {name} cannot be read: {e}")),
        }
    }
    for name in ledger.schedules.known.keys() {
        match store.get(&Key::Schedule(name.clone())).await {
            Ok(Some(Record::Schedule(record))) => drop(schedules.insert(name.clone(), record)),
            Ok(_) => {}
            Err(e) => return Err(format!("schedule {name} cannot be read: {e}")),
        }
    }
    ledger.fits(&Shown { jobs, queue, audit: ledger.audit.clone(), events, locks, schedules })
}

impl Witness {
    /// What happened to what was begun: all of it or nothing.
    fn fitting(&self, everything: &Everything) -> Result<Ledger, String> {
        let shown = everything.of_queue(&self.ledger);
        let Err(not_before) = self.ledger.fits(&shown) else { return Ok(self.ledger.clone()) };
        let Some((act, at)) = &self.begun else { return Err(not_before) };
        let after = self.ledger.after(act, *at);
        match after.fits(&shown) {
            Ok(()) => Ok(after),
            Err(not_after) => Err(format!(
                "{act:?} was begun, but not answered.\n  That it has not happened does not fit: {not_before}\n  That \
                 it has does not fit either: {not_after}"
            )),
        }
    }
}

impl Everything {
    async fn of(store: &dyn Store) -> Result<Everything, String> {
        let mut jobs = BTreeMap::new();
        for record in list(store, &Query::Jobs(Default::default())).await? {
            if let Record::Job(job) = record
                && jobs.insert(job.id, *job).is_some()
            {
                return Err("a job is listed twice".into());
            }
        }
        let queue = |record| match record {
            Record::Queue(queue) => Some(queue),
            _ => None,
        };
        let audit = |record| match record {
            Record::Audit(record) => Some((record.subject, record.detail)),
            _ => None,
        };
        let (mut events, mut groups) = (BTreeMap::<String, Vec<_>>::new(), BTreeMap::new());
        let (log, next_seq) = log(store, &[]).await?;
        for event in log {
            events.entry(event.topic.to_string()).or_default().push((event.event.id.to_string(), event.seq));
        }
        for record in list(store, &Query::Event(EventQuery::Groups)).await? {
            if let Record::Event(EventItem::Group(group)) = record {
                groups.insert(group.name.to_string(), shown(&group));
            }
        }
        let lock = |record| match record {
            Record::Lock(lock) => Some((lock.name.clone(), *lock)),
            _ => None,
        };
        let schedule = |record| match record {
            Record::Schedule(record) => Some((record.name().clone(), record)),
            _ => None,
        };
        let locks = list(store, &Query::Locks { prefix: None }).await?;
        let schedules = list(store, &Query::Schedules(ScheduleOrder::Name)).await?;
        Ok(Everything {
            events,
            next_seq,
            groups,
            locks: locks.into_iter().filter_map(lock).collect(),
            schedules: schedules.into_iter().filter_map(schedule).collect(),
            jobs,
            queues: list(store, &Query::Queues).await?.into_iter().filter_map(queue).collect(),
            audit: list(store, &Query::Audit).await?.into_iter().filter_map(audit).collect(),
        })
    }

    /// What is true for each of the callers, and together.
    fn fitting(&self, witnesses: &[Witness]) -> Result<Vec<Ledger>, String> {
        self.counts_are_right()?;
        let ledgers: Vec<_> =
            witnesses.iter().map(|witness| witness.fitting(self)).collect::<Result<_, _>>()?;
        self.numbers_are_all_there(&ledgers)?;
        Ok(ledgers)
    }

    /// The log has no gaps but where the bound of a topic has removed something.
    fn numbers_are_all_there(&self, ledgers: &[Ledger]) -> Result<(), String> {
        let shown: usize = self.events.values().map(Vec::len).sum();
        let removed = ledgers.iter().map(|ledger| {
            let short = self.events.get(short_topic_of(&ledger.queue).as_str()).map_or(0, Vec::len);
            ledger.events.short.len() - short
        });
        let (published, last) = (shown + removed.sum::<usize>(), self.next_seq - 1);
        if published as u64 == last {
            return Ok(());
        }
        Err(format!("the last number of the log is {last}, and {published} events were published"))
    }

    fn of_queue(&self, ledger: &Ledger) -> Shown {
        let name = &ledger.queue;
        let events_in = |topic: &TopicName| self.events.get(topic.as_str()).cloned().unwrap_or_default();
        let prefix = format!("{name}.");
        Shown {
            jobs: self
                .jobs
                .iter()
                .filter(|(_, job)| job.queue == *name)
                .map(|(id, job)| (*id, job.clone()))
                .collect(),
            queue: self.queues.iter().find(|queue| queue.name == *name).cloned(),
            audit: self
                .audit
                .iter()
                .filter(|(to, _)| to == name.as_str())
                .map(|(_, what)| what.clone())
                .collect(),
            events: ShownEvents {
                log: events_in(&topic_of(name)),
                short: events_in(&short_topic_of(name)),
                group: self.groups.get(name.as_str()).copied(),
            },
            locks: named(&self.locks, &prefix),
            schedules: named(&self.schedules, &prefix),
        }
    }

    fn counts_are_right(&self) -> Result<(), String> {
        for queue in &self.queues {
            let mut depth = Depth::default();
            for job in self.jobs.values().filter(|job| job.queue == queue.name) {
                match job.state {
                    JobState::Scheduled => depth.scheduled += 1,
                    JobState::Blocked => depth.blocked += 1,
                    JobState::Available => depth.available += 1,
                    JobState::Running => depth.running += 1,
                    JobState::Retryable => depth.retryable += 1,
                    JobState::Dead => depth.dead += 1,
                    JobState::Completed | JobState::Cancelled => {}
                }
            }
            if depth != queue.depth {
                return Err(format!("queue {} counts {:?}, its jobs are {depth:?}", queue.name, queue.depth));
            }
        }
        Ok(())
    }
}

/// Those whose name begins so.
fn named<T: Clone>(all: &BTreeMap<Name, T>, prefix: &str) -> BTreeMap<Name, T> {
    let fits = all.iter().filter(|(name, _)| name.as_str().starts_with(prefix));
    fits.map(|(name, record)| (name.clone(), record.clone())).collect()
}

/// The whole log in its order, and the number that the next event gets.
async fn log(store: &dyn Store, filters: &[TopicFilter]) -> Result<(Vec<Arc<LoggedEvent>>, u64), String> {
    let (mut all, mut from) = (Vec::<Arc<LoggedEvent>>::new(), 1);
    loop {
        let slice = store.read_log(filters, Position::Seq(from), LogBudget::default()).await;
        let slice = slice.map_err(|e| format!("the log cannot be read: {e}"))?;
        all.extend(slice.events);
        from = slice.next;
        if from > slice.head {
            break;
        }
    }
    if !all.is_sorted_by(|one, next| one.seq < next.seq) || all.last().is_some_and(|last| last.seq >= from) {
        return Err("the log is not in its order".into());
    }
    Ok((all, from))
}

async fn events_of(store: &dyn Store, topic: TopicName) -> Result<Vec<(String, u64)>, String> {
    let filter = TopicFilter::new(topic.as_str()).map_err(|e| e.to_string())?;
    let (log, _) = log(store, &[filter]).await?;
    Ok(log.iter().map(|event| (event.event.id.to_string(), event.seq)).collect())
}

async fn group_of(store: &dyn Store, queue: &QueueName) -> Result<Option<(u64, u64, u64)>, String> {
    match store.get(&Key::Event(EventKey::Group(queue.clone()))).await {
        Ok(Some(Record::Event(EventItem::Group(group)))) => Ok(Some(shown(&group))),
        Ok(_) => Ok(None),
        Err(e) => Err(format!("a group cannot be read: {e}")),
    }
}

fn shown(group: &GroupRecord) -> (u64, u64, u64) {
    (group.lag, group.in_flight, group.dead)
}

async fn list(store: &dyn Store, query: &Query) -> Result<Vec<Record>, String> {
    let mut all = vec![];
    let mut page = Page { limit: 1_000, cursor: None };
    loop {
        let slice = store.list(query, &page).await.map_err(|e| format!("{query:?} cannot be listed: {e}"))?;
        all.extend(slice.items);
        match slice.next {
            Some(cursor) => page.cursor = Some(cursor),
            None => return Ok(all),
        }
    }
}

//! A store held against what its callers were told.

use std::{collections::BTreeMap, sync::Arc};

use mainstay_core::{
    JobId, QueueName, Store, Timestamp, Token, TopicFilter,
    event::{EventItem, EventKey, EventOp, EventQuery, LogBudget, LoggedEvent, Position},
    job::{JobRecord, JobState},
    op::{Commit, Committed, Op, Reply, Settle},
    queue::{Depth, QueueRecord},
    store::{Batch, Key, Page, Query, Record},
};
use mainstay_testkit::world::COMPLETE;

use super::{
    caller::{Caller, Chance, topic_of},
    ledger::{Act, Ledger, Shown},
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
    /// By topic, the ids in order.
    events: BTreeMap<String, Vec<String>>,
    groups: BTreeMap<String, (u64, u64)>,
}

/// Holds an open store against all its witnesses, and goes on working with it.
pub(super) async fn judge(store: &dyn Store, witnesses: &[Witness], now: Timestamp) -> Result<(), String> {
    let everything = Everything::of(store).await?;
    everything.counts_are_right()?;
    let mut last = Token(0);
    for witness in witnesses {
        let ledger = witness.fitting(&everything)?;
        last = last.max(ledger.last_token);
        work_on(store, witness, ledger, now).await?;
    }
    tokens_have_not_gone_back(store, last, now).await
}

/// Holds an open store against its witnesses and touches nothing. Answers what is true now.
pub(super) async fn look(store: &dyn Store, witnesses: &[Witness]) -> Result<Vec<Ledger>, String> {
    let everything = Everything::of(store).await?;
    everything.counts_are_right()?;
    witnesses.iter().map(|witness| witness.fitting(&everything)).collect()
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
    let events = events_of(store, &ledger.queue).await?;
    let group = group_of(store, &ledger.queue).await?;
    ledger.fits(&Shown { jobs, queue, audit: ledger.audit.clone(), events, group })
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
        let (mut events, mut groups) = (BTreeMap::<String, Vec<String>>::new(), BTreeMap::new());
        for event in log(store, &[]).await? {
            events.entry(event.topic.to_string()).or_default().push(event.event.id.to_string());
        }
        for record in list(store, &Query::Event(EventQuery::Groups)).await? {
            if let Record::Event(EventItem::Group(group)) = record {
                groups.insert(group.name.to_string(), (group.lag, group.in_flight));
            }
        }
        Ok(Everything {
            events,
            groups,
            jobs,
            queues: list(store, &Query::Queues).await?.into_iter().filter_map(queue).collect(),
            audit: list(store, &Query::Audit).await?.into_iter().filter_map(audit).collect(),
        })
    }

    fn of_queue(&self, ledger: &Ledger) -> Shown {
        let name = &ledger.queue;
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
            events: self.events.get(name.as_str()).cloned().unwrap_or_default(),
            group: self.groups.get(name.as_str()).copied(),
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

/// The whole log, which must have no gaps: nothing is ever removed from it here.
async fn log(store: &dyn Store, filters: &[TopicFilter]) -> Result<Vec<Arc<LoggedEvent>>, String> {
    let (mut all, mut from) = (vec![], 1);
    loop {
        let slice = store.read_log(filters, Position::Seq(from), LogBudget::default()).await;
        let slice = slice.map_err(|e| format!("the log cannot be read: {e}"))?;
        all.extend(slice.events);
        from = slice.next;
        if from > slice.head {
            break;
        }
    }
    if filters.is_empty() && !all.iter().map(|event| event.seq).eq(1..from) {
        return Err("the log has a gap".into());
    }
    Ok(all)
}

async fn events_of(store: &dyn Store, queue: &QueueName) -> Result<Vec<String>, String> {
    let filter = TopicFilter::new(topic_of(queue).as_str()).map_err(|e| e.to_string())?;
    Ok(log(store, &[filter]).await?.iter().map(|event| event.event.id.to_string()).collect())
}

async fn group_of(store: &dyn Store, queue: &QueueName) -> Result<Option<(u64, u64)>, String> {
    match store.get(&Key::Event(EventKey::Group(queue.clone()))).await {
        Ok(Some(Record::Event(EventItem::Group(group)))) => Ok(Some((group.lag, group.in_flight))),
        Ok(_) => Ok(None),
        Err(e) => Err(format!("a group cannot be read: {e}")),
    }
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

/// What was granted can be settled, and what came under a key comes again, once.
async fn work_on(store: &dyn Store, witness: &Witness, ledger: Ledger, now: Timestamp) -> Result<(), String> {
    if let Some((Act::Commit(commit), at)) = &witness.begun
        && commit.key.is_some()
    {
        submit(store, commit.clone()).await.map_err(|e| format!("the unanswered {commit:?} again: {e}"))?;
        let everything = Everything::of(store).await?;
        // It happened when it was asked for first, or only now.
        let fits = |at| {
            let after = witness.ledger.after(&Act::Commit(commit.clone()), at);
            after.fits(&everything.of_queue(&after))
        };
        fits(*at)
            .or_else(|_| fits(now))
            .map_err(|e| format!("{commit:?} asked again did not happen once: {e}"))?;
    }
    if let Some(commit) = &witness.ledger.keyed {
        let again =
            submit(store, commit.clone()).await.map_err(|e| format!("the answered {commit:?} again: {e}"))?;
        // A claim whose grants have all ended, or that got none, is tried anew.
        if !again.repeated && !matches!(commit.ops[0], Op::Claim(_)) {
            return Err(format!("{commit:?} was answered under its key, and the key is forgotten"));
        }
    }
    for (id, lease) in ledger.running() {
        let Some(lease) = lease else { continue };
        let settle = Settle { id, lease, outcome: COMPLETE, repeat_is_ok: true };
        let done = submit(store, Commit::of(Op::Settle(settle), 1)).await;
        done.map_err(|e| format!("the live lease {lease:?} of job {id} cannot be settled: {e}"))?;
    }
    for (_, lease) in &ledger.deliveries {
        let Some(lease) = *lease else { continue };
        let ack = Op::Event(EventOp::Ack { group: ledger.queue.clone(), lease });
        let done = submit(store, Commit::of(ack, 1)).await;
        done.map_err(|e| format!("the live delivery {lease:?} cannot be acknowledged: {e}"))?;
    }
    Ok(())
}

async fn tokens_have_not_gone_back(store: &dyn Store, last: Token, now: Timestamp) -> Result<(), String> {
    let mut newcomer = Caller::new(&format!("after-{}", last.0), Chance::new(last.0).next());
    let mut granted = 0;
    while granted < 3 {
        let commit = newcomer.next(now);
        let replies = submit(store, commit.clone()).await?.replies;
        for reply in &replies {
            let Reply::Claimed(grants) = reply else { continue };
            granted += grants.len();
            if let Some(old) = grants.iter().find(|grant| grant.lease.token <= last) {
                return Err(format!("token {:?} was granted after {last:?}", old.lease.token));
            }
        }
        newcomer.heard(&Act::Commit(commit), &replies, now);
    }
    Ok(())
}

async fn submit(store: &dyn Store, commit: Commit) -> Result<Committed, String> {
    let mut answers = store.submit(Batch::one(commit)).await.map_err(|e| e.to_string())?;
    answers.remove(0).map_err(|e| e.to_string())
}

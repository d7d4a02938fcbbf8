//! A store in a test: what is taken out of it waits for its cue, and the test hears of what happens to it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use mainstay_core::{
    Error, LeaseId,
    event::{EventInterest, EventItem, EventKey, EventOp, EventReply},
    op::{Commit, Committed, Failure, Op, Reply},
    store::{Batch, Interest, Key, Over, Record, Store, Wake},
};
use tokio::time::{sleep, timeout};

use super::cues::{Allowance, Cues, Delivered};
use crate::{client::Client, clock, event::Envelope, secs};

/// Between two looks when nothing is heard.
const LOOK: Duration = secs(60);

pub(super) fn around(client: &Client, cues: Cues) -> Client {
    Client::on(Arc::new(Played { store: client.store().clone(), cues }), clock::current())
}

struct Played {
    store: Arc<dyn Store>,
    cues: Cues,
}

/// What becomes of a commit.
enum Way {
    /// It goes to the store, having taken so much.
    There { jobs: u32, events: u32 },
    /// It takes something that may not begin: nothing is there.
    Empty(Reply),
}

impl Played {
    /// Cuts what a commit takes down to what may begin.
    fn cue(&self, commit: &mut Commit) -> Way {
        match &mut commit.ops[..] {
            [Op::Claim(claim)] => {
                let jobs = self.cues.jobs().map_or(claim.max, |jobs| jobs.take(claim.max));
                if jobs == 0 && claim.max > 0 {
                    return Way::Empty(Reply::Claimed(Vec::new()));
                }
                claim.max = jobs;
                Way::There { jobs, events: 0 }
            }
            [Op::Event(EventOp::Fetch(fetch))] => {
                let events = self.cues.events().map_or(fetch.max, |events| events.take(fetch.max));
                if events == 0 && fetch.max > 0 {
                    return Way::Empty(Reply::Event(EventReply::Fetched(Vec::new())));
                }
                fetch.max = events;
                Way::There { jobs: 0, events }
            }
            _ => Way::There { jobs: 0, events: 0 },
        }
    }

    /// Notes what was begun, and gives back what was taken in vain.
    fn begun(&self, commit: &Commit, way: &Way, answer: &Result<Committed, Failure>) {
        let Way::There { jobs, events } = way else { return };
        let (mut unused_jobs, mut unused_events) = (*jobs, *events);
        for reply in answer.iter().flat_map(|committed| &committed.replies) {
            match reply {
                Reply::Claimed(grants) => {
                    unused_jobs = unused_jobs.saturating_sub(grants.len() as u32);
                    grants.iter().for_each(|grant| self.cues.job_begun(grant.id));
                }
                Reply::Event(EventReply::Fetched(deliveries)) => {
                    unused_events = unused_events.saturating_sub(deliveries.len() as u32);
                    let [Op::Event(EventOp::Fetch(fetch))] = &commit.ops[..] else { continue };
                    for delivery in deliveries {
                        let Some(event) = &delivery.event else { continue };
                        let (topic, at) = (delivery.topic.clone(), delivery.published_at);
                        let delivered = Delivered {
                            subscriber: fetch.group.to_string(),
                            event: Envelope::stored(topic, delivery.seq, at, event),
                            attempt: delivery.attempt,
                            result: Ok(()),
                        };
                        self.cues.delivery_begun(delivery.lease, delivered);
                    }
                }
                _ => {}
            }
        }
        if let Some(jobs) = self.cues.jobs() {
            jobs.give_back(unused_jobs);
        }
        if let Some(events) = self.cues.events() {
            events.give_back(unused_events);
        }
    }

    /// Notes the deliveries that a commit has ended.
    fn ended(&self, ends: &[(LeaseId, Result<(), String>)], answer: &Result<Committed, Failure>) {
        if answer.is_ok() {
            ends.iter().for_each(|(lease, result)| self.cues.delivery_ended(*lease, result));
        }
    }

    /// Resolves when nothing that somebody here works on is due or running.
    async fn quiet(&self) {
        let Some(mut moved) = self.cues.watch() else { return };
        loop {
            moved.mark_unchanged();
            match self.is_busy().await {
                // A store that does not answer has nothing to wait for.
                Ok(false) | Err(_) => return,
                Ok(true) => {}
            }
            let _ = timeout(LOOK, moved.changed()).await;
        }
    }

    async fn is_busy(&self) -> Result<bool, Error> {
        for queue in self.cues.queues() {
            if let Some(Record::Queue(queue)) = self.store.get(&Key::Queue(queue)).await?
                && !queue.paused
                && queue.depth.available + queue.depth.running > 0
            {
                return Ok(true);
            }
        }
        for group in self.cues.groups() {
            if let Some(Record::Event(EventItem::Group(group))) =
                self.store.get(&Key::Event(EventKey::Group(group))).await?
                && group.lag.saturating_sub(group.waiting) + group.in_flight > 0
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The deliveries that a commit ends if it is done.
fn ends(commit: &Commit) -> Vec<(LeaseId, Result<(), String>)> {
    let mut ends = Vec::new();
    for op in &commit.ops {
        match op {
            Op::Event(EventOp::Settle(settle)) => {
                ends.extend(settle.ack.iter().map(|lease| (*lease, Ok(()))));
                ends.extend(settle.nack.iter().map(|nack| {
                    let said = nack.error.as_ref().map_or("it was put off", |error| &error.message);
                    (nack.lease, Err(said.to_owned()))
                }));
            }
            Op::Event(EventOp::Ack { lease, .. }) => ends.push((*lease, Ok(()))),
            Op::Event(EventOp::Release { leases, delay_ms }) => {
                let said = if *delay_ms > 0 { "it was put off" } else { "it was given back" };
                ends.extend(leases.iter().map(|lease| (*lease, Err(said.to_owned()))));
            }
            _ => {}
        }
    }
    ends
}

fn makes_work(commit: &Commit) -> bool {
    commit.ops.iter().any(|op| matches!(op, Op::Enqueue(_) | Op::Event(EventOp::Publish(_))))
}

#[async_trait]
impl Over for Played {
    fn below(&self) -> &dyn Store {
        &*self.store
    }

    async fn submit(&self, mut batch: Batch) -> Result<Vec<Result<Committed, Failure>>, Error> {
        let ways: Vec<Way> = batch.commits.iter_mut().map(|commit| self.cue(commit)).collect();
        let all = std::mem::take(&mut batch.commits);
        let ends: Vec<_> = all.iter().map(ends).collect();
        let makes_work = all.iter().any(makes_work);
        let there = |(_, way): &(&Commit, &Way)| matches!(way, Way::There { .. });
        batch.commits = all.iter().zip(&ways).filter(there).map(|(commit, _)| commit.clone()).collect();
        // Dropped here, the batch may still happen; then what was taken for it is gone, which no test waits for.
        let answered = match batch.commits.is_empty() {
            true => Ok(Vec::new()),
            false => self.store.submit(batch).await,
        };
        let mut answered = match answered {
            Ok(answered) => answered.into_iter(),
            Err(error) => {
                let failed = Err(Failure::Failed(error.clone()));
                all.iter().zip(&ways).for_each(|(commit, way)| self.begun(commit, way, &failed));
                return Err(error);
            }
        };
        let mut answers = Vec::with_capacity(all.len());
        for ((commit, way), ends) in all.iter().zip(&ways).zip(&ends) {
            let answer = match way {
                Way::Empty(reply) => Ok(Committed { replies: vec![reply.clone()], repeated: false }),
                Way::There { .. } => match answered.next() {
                    Some(answer) => answer,
                    None => break,
                },
            };
            self.begun(commit, way, &answer);
            self.ended(ends, &answer);
            answers.push(answer);
        }
        self.cues.moved();
        if makes_work {
            self.cues.inline(self.quiet()).await;
        }
        Ok(answers)
    }

    async fn wait(&self, on: &[Interest], at_most: Duration) -> Result<Wake, Error> {
        let held = |interest: &Interest| match interest {
            Interest::Queue(_) => self.cues.jobs().filter(|jobs| jobs.is_none()),
            Interest::Event(EventInterest::Group(_)) => self.cues.events().filter(|events| events.is_none()),
            _ => None,
        };
        let Some(allowance) = on.iter().find_map(held) else {
            return self.store.wait(on, at_most).await;
        };
        // Who waits for what may not begin waits for the cue; for the rest as well, where there is any.
        let rest: Vec<_> = on.iter().filter(|interest| held(interest).is_none()).cloned().collect();
        let rest = async {
            match rest.is_empty() {
                true => {
                    sleep(at_most).await;
                    Ok(Wake::timed_out())
                }
                false => self.store.wait(&rest, at_most).await,
            }
        };
        tokio::select! {
            biased;
            () = Allowance::any(allowance) => Ok(Wake::woken(None)),
            wake = rest => wake,
        }
    }
}

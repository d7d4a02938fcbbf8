//! Events that nobody else publishes, and the group that reads them, as their only caller knows them.

use std::collections::BTreeMap;

use mainstay_core::{
    LeaseId,
    event::{EventOp, EventReply, GroupConfig, Settled},
    job::Retry,
    op::Reply,
};

/// So many of the caller's second topic are kept at least.
pub(in crate::crash) const SHORT: usize = 3;

/// The id of an event, and its number if anybody was told.
pub(in crate::crash) type Known = (String, Option<u64>);

#[derive(Clone, Debug, Default)]
pub(in crate::crash) struct Events {
    /// All that were published to the caller's topic, in order.
    pub(in crate::crash) log: Vec<Known>,
    /// The same of the topic of which only the newest are kept.
    pub(in crate::crash) short: Vec<Known>,
    /// There is a group for the first.
    pub(in crate::crash) has_group: bool,
    /// How many of them it has looked at.
    fetched: usize,
    /// Of those, what is handed out.
    pub(in crate::crash) deliveries: Vec<Delivery>,
    /// What it will hand out again, with the deliveries so far.
    again: BTreeMap<usize, u32>,
    dead: u64,
}

#[derive(Clone, Debug)]
pub(in crate::crash) struct Delivery {
    place: usize,
    attempt: u32,
    /// `None`: nobody was told.
    pub(in crate::crash) lease: Option<LeaseId>,
}

/// What a store shows of them.
#[derive(Debug, Default)]
pub(in crate::crash) struct ShownEvents {
    pub(in crate::crash) log: Vec<(String, u64)>,
    pub(in crate::crash) short: Vec<(String, u64)>,
    /// What the group has to hand out, what it has handed out, its dead letters.
    pub(in crate::crash) group: Option<(u64, u64, u64)>,
}

impl Events {
    /// `op` happened, to a caller whose second topic ends like this.
    pub(super) fn change(&mut self, op: &EventOp, reply: Option<&Reply>) {
        let reply = reply.map(|reply| match reply {
            Reply::Event(reply) => Some(reply),
            _ => None,
        });
        match op {
            EventOp::Publish(publish) => {
                let seq = match reply {
                    Some(Some(EventReply::Published { seq, deduplicated: false })) => Some(*seq),
                    None => None,
                    other => panic!("an event was answered with {other:?}"),
                };
                let log = if is_short(publish.topic.as_str()) { &mut self.short } else { &mut self.log };
                log.push((publish.event.id.to_string(), seq));
            }
            EventOp::PutTopic { .. } => {}
            EventOp::PutGroup { .. } => self.has_group = true,
            EventOp::Fetch(fetch) => {
                let new = self.fetched..self.log.len();
                let again = self.again.iter().map(|(place, attempts)| (*place, attempts + 1));
                let expected: Vec<_> =
                    again.chain(new.map(|place| (place, 1))).take(fetch.max as usize).collect();
                let mut leases = vec![None; expected.len()];
                if let Some(Some(EventReply::Fetched(deliveries))) = reply {
                    assert_eq!(deliveries.len(), expected.len(), "what there was to hand out");
                    for (delivery, (place, attempt)) in deliveries.iter().zip(&expected) {
                        let (id, seq) = &self.log[*place];
                        assert_eq!(delivery.attempt, *attempt, "the delivery of event {id}");
                        assert!(seq.is_none_or(|seq| seq == delivery.seq), "events come in their order");
                        // From another process comes no more than a lease.
                        let shown = delivery.event.as_ref().map(|event| event.id.to_string());
                        assert!(shown.is_none_or(|shown| shown == *id), "events come in their order");
                    }
                    leases = deliveries.iter().map(|delivery| Some(delivery.lease)).collect();
                }
                for ((place, attempt), lease) in expected.into_iter().zip(leases) {
                    self.again.remove(&place);
                    self.fetched = self.fetched.max(place + 1);
                    self.deliveries.push(Delivery { place, attempt, lease });
                }
            }
            EventOp::Ack { lease, .. } => drop(self.take(*lease)),
            EventOp::Settle(settle) => {
                let nack = settle.nack.first().expect("callers settle one that failed");
                let delivery = self.take(nack.lease);
                let dies = nack.retry == Retry::Never || delivery.attempt >= max_deliver();
                if let Some(reply) = reply {
                    let Some(EventReply::Settled(settled)) = reply else { panic!("answered with {reply:?}") };
                    assert_eq!(matches!(settled[..], [Settled::Dead]), dies, "{delivery:?}: {settled:?}");
                }
                if dies {
                    self.dead += 1;
                } else {
                    self.again.insert(delivery.place, delivery.attempt);
                }
            }
            other => panic!("callers do not do this: {other:?}"),
        }
    }

    fn take(&mut self, lease: LeaseId) -> Delivery {
        let at = self.deliveries.iter().position(|delivery| delivery.lease == Some(lease));
        self.deliveries.remove(at.expect("callers settle what they know"))
    }

    pub(super) fn fits(&self, shown: &ShownEvents) -> Result<(), String> {
        are_those(&self.log, &shown.log)?;
        let removed = self.short.len().checked_sub(shown.short.len());
        let Some(removed) = removed.filter(|_| shown.short.len() >= SHORT.min(self.short.len())) else {
            return Err(format!("of the short topic there are {:?}, of {:?}", shown.short, self.short));
        };
        are_those(&self.short[removed..], &shown.short)?;
        let lag = (self.log.len() - self.fetched + self.again.len()) as u64;
        let group = self.has_group.then_some((lag, self.deliveries.len() as u64, self.dead));
        if shown.group != group {
            return Err(format!("the group shows {:?}, not {group:?}", shown.group));
        }
        Ok(())
    }
}

fn are_those(known: &[Known], shown: &[(String, u64)]) -> Result<(), String> {
    let same =
        |((id, seq), (shown, at)): (&Known, &(String, u64))| id == shown && seq.is_none_or(|seq| seq == *at);
    let all = known.len() == shown.len() && known.iter().zip(shown).all(same);
    if all { Ok(()) } else { Err(format!("the log has {shown:?}, not {known:?}")) }
}

pub(in crate::crash) fn is_short(topic: &str) -> bool {
    topic.ends_with(".short")
}

fn max_deliver() -> u32 {
    GroupConfig::new(vec![]).max_deliver
}

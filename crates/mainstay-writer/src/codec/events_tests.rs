//! Changes of events from chance, for the tests of [`super`].

use std::sync::Arc;

use mainstay_core::{
    StoreTime, TopicFilter, TopicName,
    engine::change::{
        Change, DeadLetter, DeadRef, DeliveryLease, DeliveryState, EventChange, EventMeta, GroupId,
        GroupPlace, GroupRow, TopicId, Unsettled,
    },
    event::{DedupKey, Event, EventData, GroupConfig, TopicConfig, TopicRetention},
    job::JobFailure,
};

use super::{Chance, REASONS, VERBS};

/// How many kinds of changes there are, with the tags 50 and following.
pub(super) const KINDS: u64 = 15;

impl Chance {
    fn topic(&mut self) -> TopicName {
        TopicName::new(&format!("t.{}", self.number())).unwrap()
    }

    fn meta(&mut self) -> EventMeta {
        EventMeta {
            seq: self.number(),
            topic: TopicId(self.small()),
            size: self.small(),
            ord: self.number(),
            total: self.number(),
            at: self.time(),
            key: self.number(),
        }
    }

    fn an_event(&mut self) -> Arc<Event> {
        let data = match self.below(3) {
            0 => EventData::None,
            1 => EventData::Json(self.text()),
            _ => EventData::Binary(self.text().as_bytes().into()),
        };
        Arc::new(Event {
            id: self.text().into(),
            source: self.text().into(),
            kind: self.text().into(),
            subject: self.opt(Self::text),
            time: self.opt(Self::text),
            partition_key: self.opt(Self::text),
            content_type: self.opt(Self::text),
            data_schema: self.opt(Self::text),
            extensions: (0..self.below(4)).map(|_| (self.text(), self.text())).collect(),
            data,
        })
    }

    fn place(&mut self) -> GroupPlace {
        GroupPlace { cursor: self.number(), skipped: self.number(), redelivered: self.number() }
    }

    fn failure(&mut self) -> Arc<JobFailure> {
        let (kind, message, backtrace) = (self.opt(Self::text), self.text(), self.opt(Self::text));
        Arc::new(JobFailure { kind, message, backtrace })
    }

    fn dead(&mut self) -> DeadRef {
        DeadRef {
            number: self.number(),
            group: GroupId(self.small()),
            seq: self.number(),
            topic: self.topic(),
            size: self.small(),
            key: self.number(),
            at: self.time(),
            died_at: self.time(),
        }
    }

    fn unsettled(&mut self) -> Unsettled {
        let state = match self.below(3) {
            0 => DeliveryState::Waiting { due: StoreTime(self.number()) },
            1 => DeliveryState::Parked,
            _ => DeliveryState::Leased(DeliveryLease {
                id: self.lease(),
                until: StoreTime(self.number()),
                ms: self.number(),
                consumer: self.opt(Self::name),
            }),
        };
        Unsettled {
            topic: TopicId(self.small()),
            size: self.small(),
            attempt: self.small(),
            key: self.number(),
            at: self.time(),
            dead: self.opt(|chance| Arc::new(chance.dead())),
            error: self.opt(Self::failure),
            state,
        }
    }

    pub(super) fn event_change(&mut self) -> Change {
        let (id, group, n) = (TopicId(self.small()), GroupId(self.small()), self.number());
        Change::Event(match self.below(KINDS) {
            0 => {
                let retention = TopicRetention { count: self.opt(Self::number), ..TopicRetention::default() };
                let config = TopicConfig { retention, schema: self.opt(Self::text) };
                EventChange::Topic { id, name: self.topic(), config, dropped: self.flag() }
            }
            1 => EventChange::TopicRemoved(id),
            2 => {
                let (meta, event) = (self.meta(), self.an_event());
                let dedup = self.opt(|chance| DedupKey([chance.small() as u8; 16]));
                EventChange::Published { meta, event, dedup, topic: self.topic() }
            }
            3 => EventChange::EventsRemoved { topic: id, up_to: n },
            4 => EventChange::DedupForgotten { up_to: n },
            5 => {
                let mut config = GroupConfig::new(vec![TopicFilter::new("a.*.>").unwrap()]);
                (config.max_deliver, config.ordered_by_key) = (self.small(), self.flag());
                let row =
                    GroupRow { id: group, name: self.name(), config: Arc::new(config), place: self.place() };
                EventChange::Group(row)
            }
            6 => EventChange::GroupMoved { id: group, place: self.place() },
            7 => EventChange::GroupRemoved(group),
            8 => EventChange::Delivery { group, seq: n, row: self.unsettled(), new: self.flag() },
            9 => EventChange::DeliveryRemoved { group, seq: n },
            10 => EventChange::Settled { group, n, lease: self.lease(), verb: self.pick(&VERBS) },
            11 => {
                let (place, attempts, reason) = (self.dead(), self.small(), self.pick(&REASONS));
                let letter = Box::new(DeadLetter { place, attempts, reason, error: self.opt(Self::failure) });
                EventChange::Died { letter, from: self.opt(Self::number) }
            }
            12 => EventChange::DeadRevived { number: n },
            13 => EventChange::DeadReturned { number: n },
            _ => EventChange::DeadRemoved { number: n },
        })
    }
}

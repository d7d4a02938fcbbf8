//! What the service has published, and handling it.

use mainstay_core::{
    event::{GroupRecord, LogBudget, Position},
    topic::TopicFilter,
};

use super::{TestApp, jobs::but};
use crate::{
    Event,
    bus::Bus,
    event::Envelope,
    stage::{Cues, Delivered},
};

impl TestApp {
    /// All events of type `E` that the service has published: those in the log of its stores, in order, then those of
    /// its buses. (A bus tells once [`Boot::subscribe`](crate::Boot::subscribe) or [`Boot::bus`](crate::Boot::bus) has
    /// made it part of the service.)
    ///
    /// # Panics
    /// If the store does not answer, or one is not an `E`.
    pub async fn published<E: Event>(&self) -> Vec<E> {
        let events = self.events_of(Some(E::TOPIC)).await;
        events.iter().map(|event| event.read().unwrap_or_else(|error| panic!("{error}"))).collect()
    }

    /// Fails unless an event of type `E` has been published for which `fits` says yes; answers the first.
    ///
    /// # Panics
    /// With what was published instead.
    pub async fn assert_published<E: Event>(&self, fits: impl Fn(&E) -> bool) -> E {
        let mut all = self.published::<E>().await;
        match all.iter().position(fits) {
            Some(at) => all.swap_remove(at),
            None => {
                let (mine, others): (Vec<_>, Vec<_>) =
                    self.events_of(None).await.into_iter().partition(|event| event.topic() == E::TOPIC);
                let line = |event: &Envelope| match event.json() {
                    Ok(json) => format!("\n  {json}"),
                    Err(error) => format!("\n  {error}"),
                };
                let seen: Vec<_> = mine.iter().map(line).collect();
                let but = but(&seen, others.iter().map(Envelope::topic));
                panic!("no event `{}` that fits was published, but {but}", E::TOPIC)
            }
        }
    }

    /// Lets handlers run until no event waits for one: retries are waited for.
    ///
    /// # Panics
    /// If one is left after a day (30 s on real time).
    pub async fn run_events(&self) {
        self.settle(false, true).await;
    }

    /// Lets one delivery of an event begin, waits for the end of that attempt, and answers how it ended. The next that
    /// is due is begun; if none is, time passes until one is. Of several handlers of an event, each is a step of its own.
    /// Needs [`manual`](super::TestBoot::manual).
    ///
    /// # Panics
    /// If there is no event to be handled; if none is begun within six days (30 s on real time).
    pub async fn step_event(&self) -> Delivered {
        self.must_be_manual("step_event");
        assert!(!self.unhandled().await.is_empty(), "there is no event to be handled");
        let cues = self.cues();
        cues.take_ended();
        let _one = cues.open(Cues::events, Some(1));
        let delivered = self.when_moved(async || cues.take_ended().pop());
        match self.step(delivered).await {
            Ok(delivered) => delivered,
            Err(limit) => {
                panic!("no delivery has ended within {limit:?}; left: {}", self.unhandled().await.join(", "))
            }
        }
    }

    /// Who still has events to handle.
    pub(super) async fn unhandled(&self) -> Vec<String> {
        let mut busy = Vec::new();
        for group in self.groups().await {
            let left = group.lag + group.in_flight;
            if left > 0 {
                busy.push(format!("{left} of group `{}`", group.name));
            }
        }
        if self.busy_bus().is_some() {
            busy.push("some of a bus".to_owned());
        }
        busy
    }

    pub(super) fn busy_bus(&self) -> Option<Bus> {
        use futures_util::FutureExt;
        self.stage.offered::<Bus>().into_iter().find(|bus| bus.idle().now_or_never().is_none())
    }

    /// The groups whose events the service handles.
    async fn groups(&self) -> Vec<GroupRecord> {
        let mut all = Vec::new();
        for store in self.stores() {
            for name in self.cues().groups() {
                all.extend(store.group_record(&name).await.expect("the store answers"));
            }
        }
        all
    }

    async fn events_of(&self, topic: Option<&str>) -> Vec<Envelope> {
        let filter =
            topic.map(|topic| TopicFilter::new(topic).unwrap_or_else(|error| panic!("`{topic}`: {error}")));
        let filters: Vec<_> = filter.into_iter().collect();
        let mut all = Vec::new();
        for store in self.stores() {
            let mut from = Position::Earliest;
            loop {
                let slice =
                    store.read_log(&filters, from, LogBudget::default()).await.expect("the store answers");
                all.extend(slice.events.iter().map(|event| Envelope::logged(event)));
                if slice.next > slice.head {
                    break;
                }
                from = Position::Seq(slice.next);
            }
        }
        let buses = self.cues().all_published().into_iter();
        all.extend(buses.filter(|event| topic.is_none_or(|topic| event.topic() == topic)));
        all
    }
}

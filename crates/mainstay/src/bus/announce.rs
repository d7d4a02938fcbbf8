//! What can be published.

use mainstay_core::TopicName;

use crate::event::{Envelope, Event, EventBuilder};

/// What a bus can publish: an [`Event`], one with other attributes ([`Event::with`]), or an [`Envelope`] from elsewhere.
pub trait Announce {
    /// Where.
    fn topic(&self) -> &str;

    /// What, under its topic's checked name.
    fn envelope(self, topic: &TopicName) -> Envelope;
}

impl<E: Event> Announce for &E {
    fn topic(&self) -> &str {
        E::TOPIC
    }

    fn envelope(self, _: &TopicName) -> Envelope {
        Envelope::of(self)
    }
}

impl Announce for EventBuilder {
    fn topic(&self) -> &str {
        self.topic_text()
    }

    fn envelope(self, topic: &TopicName) -> Envelope {
        self.into_envelope(topic.clone())
    }
}

impl Announce for Envelope {
    fn topic(&self) -> &str {
        Envelope::topic(self)
    }

    fn envelope(self, _: &TopicName) -> Envelope {
        self
    }
}

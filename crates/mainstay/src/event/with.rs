//! An event with other attributes than its type says.

use std::{borrow::Cow, sync::Arc, sync::OnceLock};

use mainstay_core::TopicName;

use super::{
    Envelope, Event,
    envelope::{Data, Message, Value, now},
    type_of,
};
use crate::context::Context;

/// An event with attributes of its own; made by [`Event::with`], published like an event.
#[must_use = "an event is published by a bus or in a commit"]
pub struct EventBuilder(pub(super) Attributes<Box<dyn Data>>);

/// All that an event is but its place and time.
pub(super) struct Attributes<D> {
    pub(super) topic: Cow<'static, str>,
    pub(super) kind: Cow<'static, str>,
    pub(super) source: Cow<'static, str>,
    pub(super) id: Option<Arc<str>>,
    pub(super) key: Option<Arc<str>>,
    pub(super) subject: Option<Arc<str>>,
    pub(super) data: D,
}

impl<D: Data + 'static> Attributes<D> {
    /// Those that its type says.
    pub(super) fn of<E: Event>(event: &E, data: D) -> Self {
        Self {
            topic: Cow::Borrowed(E::TOPIC),
            kind: type_of::<E>(),
            source: Cow::Borrowed("/mainstay"),
            id: None,
            key: event.key().map(Into::into),
            subject: None,
            data,
        }
    }

    pub(super) fn into_envelope(self, topic: TopicName) -> Envelope {
        let id = self.id.map_or_else(OnceLock::new, OnceLock::from);
        Envelope::new(Message {
            topic,
            kind: self.kind,
            source: self.source,
            id,
            time: now(),
            key: self.key,
            subject: self.subject,
            seq: None,
            context: Context::current().carried_on(),
            told: OnceLock::new(),
            data: self.data,
        })
    }
}

impl EventBuilder {
    pub(super) fn new<E: Event>(event: &E) -> Self {
        let data: Box<dyn Data> = Box::new(Value::new(event.clone()));
        Self(Attributes::of(event, data))
    }

    /// Another topic than the type's, as where a topic has a part for each tenant.
    pub fn topic(mut self, topic: impl Into<Cow<'static, str>>) -> Self {
        self.0.topic = topic.into();
        self
    }

    /// An id of the publisher's. In the log, the same topic, source and id within two minutes is the same event, and is
    /// not stored again. Defaults to a UUIDv7.
    pub fn id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.0.id = Some(id.into());
        self
    }

    /// Who announces it: a URI reference. Defaults to `/mainstay`.
    pub fn source(mut self, source: impl Into<Cow<'static, str>>) -> Self {
        self.0.source = source.into();
        self
    }

    /// What it must keep its order with. Defaults to [`Event::key`].
    pub fn key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.0.key = Some(key.into());
        self
    }

    /// What of the source it is about. Defaults to nothing.
    pub fn subject(mut self, subject: impl Into<Arc<str>>) -> Self {
        self.0.subject = Some(subject.into());
        self
    }

    pub(crate) fn topic_text(&self) -> &str {
        &self.0.topic
    }

    pub(crate) fn into_envelope(self, topic: TopicName) -> Envelope {
        self.0.into_envelope(topic)
    }
}

impl std::fmt::Debug for EventBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventBuilder")
            .field("topic", &self.0.topic)
            .field("id", &self.0.id)
            .finish_non_exhaustive()
    }
}

//! An event with other attributes than its type says.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use mainstay_core::TopicName;

use super::{
    Envelope, Event,
    envelope::{Asked, Data, Message, Own, Place, SOURCE, Value, now},
    type_of,
};
use crate::context::Context;

/// An event with attributes of its own; made by [`Event::with`], published like an event.
#[must_use = "an event is published by a bus or in a commit"]
pub struct EventBuilder(pub(super) Attributes);

/// All that an event is but its place and time.
pub(super) struct Attributes {
    pub(super) topic: Cow<'static, str>,
    pub(super) kind: Cow<'static, str>,
    pub(super) source: Cow<'static, str>,
    pub(super) id: Option<Arc<str>>,
    pub(super) key: Option<Arc<str>>,
    pub(super) subject: Option<Arc<str>>,
    pub(super) data: Box<dyn Data>,
}

impl EventBuilder {
    pub(super) fn new<E: Event>(event: &E) -> Self {
        Self(Attributes {
            topic: Cow::Borrowed(E::TOPIC),
            kind: type_of::<E>(),
            source: Cow::Borrowed(SOURCE),
            id: None,
            key: event.key().map(Into::into),
            subject: None,
            data: Box::new(Value(event.clone())),
        })
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
        let Attributes { kind, source, id, key, subject, data, .. } = self.0;
        Envelope::new(Message {
            place: Place::Named(topic),
            time: now(),
            key,
            context: Context::peek(Context::carried_on),
            own: Some(Box::new(Own { kind, source, subject, seq: None })),
            asked: id.map_or_else(OnceLock::new, Asked::with_id),
            data,
        })
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

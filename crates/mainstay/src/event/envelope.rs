//! An event as it travels: what every subscriber sees, whatever its type.

use std::{
    any::Any,
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use mainstay_core::{
    JobId, TopicName,
    event::{Event as Stored, EventData, LoggedEvent},
    job::Json,
    time::Timestamp,
};

use super::{Event, Unreadable, version_of, with::Attributes};
use crate::{clock::quick_random, context::Context};

/// An event with its attributes, on a bus or from the log. What a handler of many topics takes instead of a type of its
/// own. Cheap to clone; the data of a typed event becomes JSON when somebody asks for it, once for all.
#[derive(Clone)]
pub struct Envelope(Arc<Message>);

/// What was announced, shared by all who get it: one allocation with what it says.
pub(crate) struct Message<D: ?Sized = dyn Data> {
    pub topic: TopicName,
    /// The CloudEvents `type`.
    pub kind: Cow<'static, str>,
    pub source: Cow<'static, str>,
    /// Made when somebody asks for it, unless the event came with one.
    pub id: OnceLock<Arc<str>>,
    pub time: Timestamp,
    pub key: Option<Arc<str>>,
    pub subject: Option<Arc<str>>,
    /// Its place in the log.
    pub seq: Option<u64>,
    /// What travels with it.
    pub context: Context,
    /// The same with the event's own fields, for log lines.
    pub told: OnceLock<Context>,
    pub data: D,
}

/// What an event says.
pub(crate) trait Data: Send + Sync {
    /// A value of this process.
    fn value(&self) -> Option<&dyn Any>;
    /// As JSON, or why not.
    fn written(&self) -> Result<Json, String>;
    /// As it is, where it is not JSON.
    fn bytes(&self) -> Option<&[u8]>;
}

/// A value of this process, which is written down if that is needed.
pub(super) struct Value<E> {
    value: E,
    json: OnceLock<Result<Json, String>>,
}

impl<E> Value<E> {
    pub fn new(value: E) -> Self {
        Self { value, json: OnceLock::new() }
    }
}

impl<E: Event> Data for Value<E> {
    fn value(&self) -> Option<&dyn Any> {
        Some(&self.value)
    }

    fn written(&self) -> Result<Json, String> {
        let write = || serde_json::to_string(&self.value).map(Into::into).map_err(|error| error.to_string());
        self.json.get_or_init(write).clone()
    }

    fn bytes(&self) -> Option<&[u8]> {
        None
    }
}

/// From the log, or written down by its publisher.
impl Data for EventData {
    fn value(&self) -> Option<&dyn Any> {
        None
    }

    fn written(&self) -> Result<Json, String> {
        match self {
            Self::Json(json) => Ok(json.clone()),
            Self::None => Ok("null".into()),
            Self::Binary(_) => Err("is not JSON".to_owned()),
        }
    }

    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Binary(bytes) => Some(bytes),
            _ => None,
        }
    }
}

impl Data for Box<dyn Data> {
    fn value(&self) -> Option<&dyn Any> {
        (**self).value()
    }

    fn written(&self) -> Result<Json, String> {
        (**self).written()
    }

    fn bytes(&self) -> Option<&[u8]> {
        (**self).bytes()
    }
}

impl Envelope {
    /// An event of this process, now.
    pub(crate) fn of<E: Event>(event: &E, topic: TopicName) -> Self {
        Attributes::of(event, Value::new(event.clone())).into_envelope(topic)
    }

    /// An event as it was read from the log.
    pub fn logged(event: &LoggedEvent) -> Self {
        Self::stored(event.topic.clone(), event.seq, event.published_at, &event.event)
    }

    pub(crate) fn stored(topic: TopicName, seq: u64, time: Timestamp, event: &Stored) -> Self {
        let id = OnceLock::new();
        let _ = id.set(event.id.clone());
        Self::new(Message {
            topic,
            kind: String::from(&*event.kind).into(),
            source: String::from(&*event.source).into(),
            id,
            time,
            key: event.partition_key.clone(),
            subject: event.subject.clone(),
            seq: Some(seq),
            context: Context::of_event(event),
            told: OnceLock::new(),
            data: event.data.clone(),
        })
    }

    pub(crate) fn new<D: Data + 'static>(message: Message<D>) -> Self {
        Self(Arc::new(message))
    }

    /// Where it was announced.
    pub fn topic(&self) -> &str {
        self.0.topic.as_str()
    }

    /// Its id: a UUIDv7, unless its publisher gave it another. The same on every delivery and replay, so it is what an
    /// idempotent handler remembers.
    pub fn id(&self) -> &str {
        self.0.id.get_or_init(|| new_id(self.0.time))
    }

    /// The CloudEvents `type`: the topic, unless its publisher said otherwise.
    pub fn kind(&self) -> &str {
        &self.0.kind
    }

    /// The version of its type, from 1; see [`Event::VERSION`].
    pub fn version(&self) -> u32 {
        version_of(self.topic(), &self.0.kind)
    }

    /// Who announced it: a URI reference, `/mainstay` unless its publisher said otherwise.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// When it was announced.
    pub fn time(&self) -> Timestamp {
        self.0.time
    }

    /// What it must keep its order with.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// What of the source it is about.
    pub fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// Its place in the log, from 1; `None` on a bus.
    pub fn seq(&self) -> Option<u64> {
        self.0.seq
    }

    /// The data as JSON text.
    ///
    /// # Errors
    /// A value that cannot be written as JSON, or data of another kind ([`bytes`](Self::bytes)).
    pub fn json(&self) -> Result<Json, Unreadable> {
        self.0.data.written().map_err(|why| self.unreadable("has data that is not JSON", why))
    }

    /// The data as an event of this type, or of an older version that it can read.
    ///
    /// # Errors
    /// Data that does not fit, and a version above [`Event::VERSION`].
    pub fn read<E: Event>(&self) -> Result<E, Unreadable> {
        if let Some(event) = self.0.data.value().and_then(|value| value.downcast_ref::<E>()) {
            return Ok(event.clone());
        }
        let does_not_fit = |why| self.unreadable(&format!("does not fit {}", E::TOPIC), why);
        let version = self.version();
        if version > E::VERSION {
            return Err(does_not_fit(format!(
                "it is of version {version}, and this reader knows up to {}",
                E::VERSION
            )));
        }
        E::read(version, &self.json()?).map_err(|error| does_not_fit(error.to_message()))
    }

    fn unreadable(&self, what: &str, why: String) -> Unreadable {
        Unreadable::new(format!("{} {} {what}", self.topic(), self.id()), why)
    }

    /// The data as it is, where it is not JSON.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.0.data.bytes()
    }

    /// What its deliveries run in: what was there when it was announced, without the deadline, and the event's own
    /// fields.
    pub(crate) fn context(&self) -> &Context {
        self.0.told.get_or_init(|| {
            let context = if self.0.context.is_empty() { Context::new() } else { self.0.context.clone() };
            let context = context.with_field("event.id", self.id()).with_field("event.topic", self.topic());
            if let Some(seq) = self.seq() {
                context.set("event.seq", seq);
            }
            context
        })
    }
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The data is the service's own business, and may be secret.
        let mut fields = f.debug_struct("Envelope");
        fields.field("topic", &self.topic()).field("id", &self.id()).field("type", &self.kind());
        fields.field("seq", &self.seq()).finish_non_exhaustive()
    }
}

pub(crate) fn now() -> Timestamp {
    let since = crate::time::wall();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A UUIDv7 of this time.
pub(super) fn new_id(time: Timestamp) -> Arc<str> {
    let ms = (time.0.max(0) as u128) & 0xffff_ffff_ffff;
    let chance = u128::from(quick_random()) << 64 | u128::from(quick_random());
    let bits = ms << 80 | (chance & 0x0fff_3fff_ffff_ffff_ffff) | 0x7000_8000_0000_0000_0000;
    match JobId::from_bytes(bits.to_be_bytes()) {
        Ok(id) => id.to_string().into(),
        Err(_) => unreachable!("version and variant are those of a UUIDv7"),
    }
}

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

use super::{Event, Unreadable, type_of, version_of};
use crate::{clock::quick_random, context::Context};

/// Who announces an event that does not say so.
pub(super) const SOURCE: &str = "/mainstay";

/// An event with its attributes, on a bus or from the log. What a handler of many topics takes instead of a type of its
/// own. Cheap to clone; the data of a typed event becomes JSON when somebody asks for it, once for all.
#[derive(Clone)]
pub struct Envelope(Arc<Message>);

/// What was announced, shared by all who get it: one allocation with what it says, and a small one, since a bus makes
/// and frees it for every event. What few events have, or are asked for, lies elsewhere.
pub(crate) struct Message<D: ?Sized = dyn Data> {
    pub place: Place,
    pub time: Timestamp,
    pub key: Option<Arc<str>>,
    /// What travels with it.
    pub context: Context,
    /// `None`: an event of version 1 that says nothing of its own.
    pub own: Option<Box<Own>>,
    pub asked: OnceLock<Box<Asked>>,
    pub data: D,
}

/// Where an event was announced.
pub(crate) enum Place {
    /// The topic of its type, which somebody has checked.
    Typed(&'static str),
    Named(TopicName),
}

impl Place {
    fn as_str(&self) -> &str {
        match self {
            Self::Typed(topic) => topic,
            Self::Named(topic) => topic.as_str(),
        }
    }
}

/// Attributes that an event has beside those of every event.
pub(crate) struct Own {
    /// The CloudEvents `type`.
    pub kind: Cow<'static, str>,
    pub source: Cow<'static, str>,
    pub subject: Option<Arc<str>>,
    /// Its place in the log.
    pub seq: Option<u64>,
}

/// What is made when somebody asks for it.
#[derive(Default)]
pub(crate) struct Asked {
    /// Here from the beginning if the event came with one.
    id: OnceLock<Arc<str>>,
    /// The context with the event's own fields, for log lines.
    told: OnceLock<Context>,
    /// A value, written down.
    json: OnceLock<Result<Json, String>>,
}

impl Asked {
    /// Of an event that has this id.
    pub fn with_id(id: Arc<str>) -> OnceLock<Box<Self>> {
        OnceLock::from(Box::new(Self { id: OnceLock::from(id), ..Self::default() }))
    }
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

/// A value of this process.
pub(super) struct Value<E>(pub E);

impl<E: Event> Data for Value<E> {
    fn value(&self) -> Option<&dyn Any> {
        Some(&self.0)
    }

    fn written(&self) -> Result<Json, String> {
        serde_json::to_string(&self.0).map(Into::into).map_err(|error| error.to_string())
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
    /// An event of this process, now, in the topic of its type.
    pub(crate) fn of<E: Event>(event: &E) -> Self {
        let own = |kind| Own { kind, source: SOURCE.into(), subject: None, seq: None };
        Self::new(Message {
            place: Place::Typed(E::TOPIC),
            time: now(),
            key: event.key().map(Into::into),
            context: Context::peek(Context::carried_on),
            own: (E::VERSION > 1).then(|| Box::new(own(type_of::<E>()))),
            asked: OnceLock::new(),
            data: Value(event.clone()),
        })
    }

    /// An event as it was read from the log.
    pub fn logged(event: &LoggedEvent) -> Self {
        Self::stored(event.topic.clone(), event.seq, event.published_at, &event.event)
    }

    pub(crate) fn stored(topic: TopicName, seq: u64, time: Timestamp, event: &Stored) -> Self {
        Self::new(Message {
            place: Place::Named(topic),
            time,
            key: event.partition_key.clone(),
            context: Context::of_event(event),
            own: Some(Box::new(Own {
                kind: String::from(&*event.kind).into(),
                source: String::from(&*event.source).into(),
                subject: event.subject.clone(),
                seq: Some(seq),
            })),
            asked: Asked::with_id((&event.id).into()),
            data: event.data.clone(),
        })
    }

    pub(crate) fn new<D: Data + 'static>(message: Message<D>) -> Self {
        Self(Arc::new(message))
    }

    /// Where it was announced.
    pub fn topic(&self) -> &str {
        self.0.place.as_str()
    }

    /// Its id: a UUIDv7, unless its publisher gave it another. The same on every delivery and replay, so it is what an
    /// idempotent handler remembers.
    pub fn id(&self) -> &str {
        self.asked().id.get_or_init(|| new_id(self.0.time))
    }

    /// The CloudEvents `type`: the topic, unless its publisher said otherwise.
    pub fn kind(&self) -> &str {
        self.0.own.as_ref().map_or(self.topic(), |own| &own.kind)
    }

    /// The version of its type, from 1; see [`Event::VERSION`].
    pub fn version(&self) -> u32 {
        version_of(self.topic(), self.kind())
    }

    /// Who announced it: a URI reference, `/mainstay` unless its publisher said otherwise.
    pub fn source(&self) -> &str {
        self.0.own.as_ref().map_or(SOURCE, |own| &own.source)
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
        self.0.own.as_ref()?.subject.as_deref()
    }

    /// Its place in the log, from 1; `None` on a bus.
    pub fn seq(&self) -> Option<u64> {
        self.0.own.as_ref()?.seq
    }

    /// The data as JSON text.
    ///
    /// # Errors
    /// A value that cannot be written as JSON, or data of another kind ([`bytes`](Self::bytes)).
    pub fn json(&self) -> Result<Json, Unreadable> {
        let data = &self.0.data;
        let written = match data.value() {
            Some(_) => self.asked().json.get_or_init(|| data.written()).clone(),
            None => data.written(),
        };
        written.map_err(|why| self.unreadable("has data that is not JSON", why))
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
        self.asked().told.get_or_init(|| {
            let context = if self.0.context.is_empty() { Context::new() } else { self.0.context.clone() };
            let context = context.with_field("event.id", self.id()).with_field("event.topic", self.topic());
            if let Some(seq) = self.seq() {
                context.set("event.seq", seq);
            }
            context
        })
    }
}

impl Envelope {
    fn asked(&self) -> &Asked {
        self.0.asked.get_or_init(Box::default)
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
    // Of seconds and their part: a publisher's every event asks, and the whole in 128 bits takes longer.
    let ms = since.as_secs().saturating_mul(1_000).saturating_add(u64::from(since.subsec_millis()));
    Timestamp(i64::try_from(ms).unwrap_or(i64::MAX))
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

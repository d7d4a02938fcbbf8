//! Events as a program sees them: a type with a topic and a version.
//!
//! ```
//! use mainstay::Event;
//! # use std::borrow::Cow;
//! # use serde::{Deserialize, Serialize};
//! #[derive(Clone, Serialize, Deserialize)]
//! struct OrderPlaced { order: String, customer: u64 }
//!
//! impl Event for OrderPlaced {
//!     const TOPIC: &'static str = "orders.placed";
//!
//!     fn key(&self) -> Option<Cow<'_, str>> {
//!         Some(self.order.as_str().into()) // events of one order keep their order
//!     }
//! }
//! ```

mod consumer;
mod context;
mod delivery;
mod envelope;
mod error;
mod handler;
mod payload;
mod plan;
mod publish;
mod with;

use std::borrow::Cow;

pub(crate) use consumer::Consumer;
pub use context::EventContext;
pub(crate) use context::{Around, Proof};
pub use delivery::Delivery;
pub use envelope::Envelope;
pub(crate) use envelope::now;
pub(crate) use error::Hopeless;
pub use error::Unreadable;
pub(crate) use handler::Answer;
pub use payload::Payload;
pub(crate) use plan::Plan;
pub use publish::IntoPublish;
use serde::{Serialize, de::DeserializeOwned};
pub use with::EventBuilder;

use crate::job::JobError;

/// Something that has happened. The type is the data; the constants say where it is announced and which edition of the
/// type it is. Every subscriber gets a value of its own, and a retry gets another: that is what `Clone` is for.
pub trait Event: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Where it is announced: 1 to 16 words of `[A-Za-z0-9_-]` joined by `.`, 255 characters at most.
    const TOPIC: &'static str;

    /// The edition of the type, from 1. Raise it when older readers would misread the data, and teach
    /// [`read`](Self::read) the older editions. It stands in the event's `type`: the topic alone for version 1,
    /// `TOPIC.vN` from 2 on.
    const VERSION: u32 = 1;

    /// Events with the same key are delivered one after another by a subscription that is ordered by key; it is the
    /// event's `partitionkey`. Defaults to none.
    fn key(&self) -> Option<Cow<'_, str>> {
        None
    }

    /// Reads an event of this version or an older one. By default, whatever parses.
    ///
    /// # Errors
    /// The data does not fit. It never will, so whatever is returned, the delivery becomes a dead letter.
    fn read(version: u32, data: &str) -> Result<Self, JobError> {
        let _ = version;
        Ok(serde_json::from_str(data)?)
    }

    /// The event with other attributes than its type says.
    fn with(&self) -> EventBuilder {
        EventBuilder::new(self)
    }
}

/// The CloudEvents `type` of an event: the topic, with the version from 2 on.
pub(crate) fn type_of<E: Event>() -> Cow<'static, str> {
    match E::VERSION {
        0 | 1 => Cow::Borrowed(E::TOPIC),
        version => Cow::Owned(format!("{}.v{version}", E::TOPIC)),
    }
}

/// The version that a `type` names; 1 where it names none, as events of foreign publishers do.
pub(crate) fn version_of(topic: &str, kind: &str) -> u32 {
    let version = kind.strip_prefix(topic).and_then(|rest| rest.strip_prefix(".v"));
    version.and_then(|version| version.parse().ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::version_of;

    #[test]
    fn the_version_stands_in_the_type() {
        for (kind, version) in [
            ("orders.placed", 1),
            ("orders.placed.v2", 2),
            ("orders.placed.v17", 17),
            ("orders.placed.vx", 1),
            ("com.example.order", 1),
        ] {
            assert_eq!(version_of("orders.placed", kind), version, "{kind}");
        }
    }
}

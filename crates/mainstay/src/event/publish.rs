//! An event on its way into the log.

use mainstay_core::{
    TopicName,
    event::{Event as Stored, EventData, Publish},
};

use super::{
    Event, EventBuilder,
    envelope::{new_id, now},
};
use crate::{client::StoreError, context::Context};

/// What can be published into the log: an [`Event`], or one with other attributes ([`Event::with`]).
pub trait IntoPublish {
    /// The event as a store takes it, with the current [`Context`], but for its deadline, as extension attributes.
    ///
    /// # Errors
    /// A topic or an attribute that is not valid, named.
    fn into_publish(self) -> Result<Publish, StoreError>;
}

impl<E: Event> IntoPublish for &E {
    fn into_publish(self) -> Result<Publish, StoreError> {
        EventBuilder::new(self).into_publish()
    }
}

impl IntoPublish for EventBuilder {
    fn into_publish(self) -> Result<Publish, StoreError> {
        let own = self.0;
        let topic = TopicName::new(&own.topic)
            .map_err(|error| StoreError::invalid("topic", format!("`{}`: {error}", own.topic)))?;
        let data = own.data.written().map_err(|error| StoreError::invalid("data", error))?;
        let (has_id, id) = match own.id {
            Some(id) => (true, id.into()),
            None => (false, new_id(now()).into()),
        };
        let event = Stored {
            id,
            source: (*own.source).into(),
            kind: (*own.kind).into(),
            subject: own.subject,
            time: None,
            partition_key: own.key,
            content_type: None,
            data_schema: None,
            extensions: Context::peek(Context::extensions),
            data: EventData::Json(data),
        };
        if let Some(problem) = event.problems().into_iter().next() {
            let detail = format!("`{}` {}", problem.attribute, problem.detail);
            return Err(StoreError::invalid("event", detail));
        }
        Ok(if has_id { Publish::new(topic, event) } else { Publish::with_fresh_id(topic, event) })
    }
}

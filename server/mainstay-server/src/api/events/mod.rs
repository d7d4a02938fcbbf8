//! Events, topics and consumer groups.

pub(super) mod convert;
mod dead;
mod deliver;
mod groups;
mod publish;
mod read;
mod schemas;
mod stream;
mod topics;
mod write;

pub(super) use dead::{list as dead, requeue};
pub(super) use deliver::{fetch, release, settle};
pub(super) use groups::{
    delete as delete_group, list as groups, may_use, one as group, put as put_group, seek,
};
pub(super) use publish::{answered_before, named, publish, published};
pub(super) use read::{list as events, log};
pub use schemas::Schemas;
pub(super) use stream::stream;
pub(super) use topics::{delete as delete_topic, list as topics, one as topic, put as put_topic};

use mainstay::core::topic::TopicName;
use mainstay_api::{FieldError, Place, TOPIC_RULE, is_topic};

use super::Input;

impl Input<'_> {
    /// The topic in the path.
    pub fn topic(&mut self) -> Option<TopicName> {
        let named =
            self.segment("topic").filter(|text| is_topic(text)).and_then(|text| TopicName::new(text).ok());
        if named.is_none() {
            self.is_wrong(FieldError::outside(Place::Path, "topic", TOPIC_RULE));
        }
        named
    }
}

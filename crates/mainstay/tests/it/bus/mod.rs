//! The event bus of a process.

mod ask;
mod failures;
#[cfg(feature = "testing")]
mod followed;
mod overflow;
mod routes;
mod service;

use std::{
    borrow::Cow,
    sync::{Arc, Mutex},
};

use mainstay::{Event, EventContext, JobError};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Placed {
    pub order: u32,
}
impl Event for Placed {
    const TOPIC: &'static str = "orders.placed";
    fn key(&self) -> Option<Cow<'_, str>> {
        Some(self.order.to_string().into())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paid {
    pub order: u32,
}
impl Event for Paid {
    const TOPIC: &'static str = "orders.paid";
}

/// What handlers have seen, in order.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    pub fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Notes the order.
pub async fn note(event: Placed, cx: EventContext<Seen>) -> Result<(), JobError> {
    cx.add(event.order.to_string());
    Ok(())
}

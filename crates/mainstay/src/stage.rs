//! Where an app plays: on the machine, or in a test that has it in its process.

mod cues;
mod played;

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_core::{GroupName, name::QueueName};

pub use cues::Delivered;
pub(crate) use cues::{Cues, Mode};

use crate::client::Client;

/// The machine unless said otherwise. In a test, parts offer what the test needs of them instead of sockets.
#[derive(Clone, Default)]
pub(crate) struct Stage(Option<Arc<InATest>>);

struct InATest {
    offers: Mutex<Vec<Box<dyn Any + Send>>>,
    cues: Cues,
    scene: Scene,
}

/// How a test has its service play.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scene {
    pub mode: Mode,
    /// Listeners are bound, to free ports of the loopback address.
    pub sockets: bool,
    /// Health checks are not run.
    pub without_checks: bool,
}

impl Stage {
    pub fn in_a_test(scene: Scene) -> Self {
        Self(Some(Arc::new(InATest { offers: Mutex::default(), cues: Cues::of(scene.mode), scene })))
    }

    pub fn is_a_test(&self) -> bool {
        self.0.is_some()
    }

    pub fn has_sockets(&self) -> bool {
        self.0.as_ref().is_some_and(|test| test.scene.sockets)
    }

    pub fn is_without_checks(&self) -> bool {
        self.0.as_ref().is_some_and(|test| test.scene.without_checks)
    }

    /// Where a listener is bound that is to be bound there.
    pub fn address<'a>(&self, listen: &'a str) -> &'a str {
        if self.is_a_test() { "127.0.0.1:0" } else { listen }
    }

    /// Who says what may begin.
    pub fn cues(&self) -> Cues {
        self.0.as_ref().map_or_else(Cues::default, |test| test.cues.clone())
    }

    /// Puts something where the test finds it.
    pub fn offer<T: Any + Send>(&self, thing: T) {
        if let Some(test) = &self.0 {
            test.offers.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(thing));
        }
    }

    /// The things of this type, in the order of their coming.
    pub fn offered<T: Any + Clone>(&self) -> Vec<T> {
        let Some(test) = &self.0 else { return Vec::new() };
        let offers = test.offers.lock().unwrap_or_else(PoisonError::into_inner);
        offers.iter().filter_map(|thing| thing.downcast_ref().cloned()).collect()
    }

    /// The store as the service gets it: in a test, what is taken out of it waits for its cue.
    pub fn around(&self, client: Client) -> Client {
        match &self.0 {
            Some(test) => played::around(&client, test.cues.clone()),
            None => client,
        }
    }

    /// Somebody here works on these queues.
    pub fn works_on(&self, queues: &[QueueName]) {
        self.cues().works_on(queues);
    }

    /// Somebody here handles the events of this group.
    pub fn consumes(&self, group: &GroupName) {
        self.cues().consumes(group);
    }
}

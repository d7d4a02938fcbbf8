//! Where an app plays: on the machine, or in a test that has it in its process.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

/// The machine unless said otherwise. In a test, parts offer what the test needs of them instead of sockets.
#[derive(Clone, Default)]
pub(crate) struct Stage(Option<Arc<Offers>>);

type Offers = Mutex<Vec<Box<dyn Any + Send>>>;

impl Stage {
    pub fn in_a_test() -> Self {
        Self(Some(Arc::default()))
    }

    pub fn is_a_test(&self) -> bool {
        self.0.is_some()
    }

    /// Puts something where the test finds it.
    pub fn offer<T: Any + Send>(&self, thing: T) {
        if let Some(offers) = &self.0 {
            offers.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(thing));
        }
    }

    /// The things of this type, in the order of their coming.
    pub fn offered<T: Any + Clone>(&self) -> Vec<T> {
        let Some(offers) = &self.0 else { return Vec::new() };
        let offers = offers.lock().unwrap_or_else(PoisonError::into_inner);
        offers.iter().filter_map(|thing| thing.downcast_ref().cloned()).collect()
    }
}

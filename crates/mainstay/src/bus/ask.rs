//! Events that somebody wants answers to.

use std::{
    future::{Future, IntoFuture},
    marker::PhantomData,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mainstay_core::job::Json;
use serde::de::DeserializeOwned;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{AskError, Bus, PublishError, Running, outlet::Ticket, routes::Route};
use crate::{
    context::Context,
    event::{Answer, Envelope},
    secs,
};

/// How long answers are waited for, unless something else is said.
const PATIENCE: Duration = secs(5);

type Prepared = Result<(Arc<Route>, Envelope), PublishError>;

/// What becomes of an event, by subscription with a handler, in the order of their subscribing.
#[derive(Default)]
pub(super) struct Receipt {
    slots: Mutex<Vec<Slot>>,
    changed: Notify,
}

struct Slot {
    subscriber: Arc<str>,
    state: State,
}

enum State {
    Open,
    Answered(Option<Json>),
    Failed(String),
    /// Its queue was full, or the subscription has ended.
    Dropped,
}

impl Receipt {
    /// One more is asked.
    pub fn ticket(self: &Arc<Self>, subscriber: &Arc<str>) -> Ticket {
        let mut slots = self.lock();
        slots.push(Slot { subscriber: subscriber.clone(), state: State::Open });
        Ticket::new(self.clone(), slots.len() - 1)
    }

    pub fn settle(&self, at: usize, answer: &Answer) {
        let state = match answer {
            Ok(json) => State::Answered(json.clone()),
            Err(error) => State::Failed(error.to_message()),
        };
        self.put(at, state);
    }

    pub fn dropped(&self, at: usize) {
        self.put(at, State::Dropped);
    }

    /// The first word on a slot counts.
    fn put(&self, at: usize, state: State) {
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(at).filter(|slot| matches!(slot.state, State::Open)) else { return };
        slot.state = state;
        drop(slots);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the slots whenever one has changed, until `found` has seen enough.
    async fn until<T>(&self, found: impl Fn(&[Slot]) -> Option<T>) -> T {
        loop {
            let found = found(&self.lock());
            match found {
                Some(found) => return found,
                None => self.changed.notified().await,
            }
        }
    }
}

/// An event that is published when this is awaited, with its first answer. Made by [`Bus::request`].
#[must_use = "a request is made when it is awaited"]
pub struct Request<R>(Ask<R>);

/// An event that is published when this is awaited, with all answers. Made by [`Bus::gather`].
#[must_use = "a request is made when it is awaited"]
pub struct Gather<R>(Ask<R>);

struct Ask<R> {
    bus: Bus,
    event: Prepared,
    limit: Duration,
    _answer: PhantomData<fn() -> R>,
}

/// What a subscription made of an event.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reply<R> {
    /// Whose it is.
    pub subscriber: Arc<str>,
    /// What its handler answered, or why there is nothing.
    pub answer: Result<R, AskError>,
}

impl<R> Ask<R> {
    fn new(bus: &Bus, event: Prepared) -> Self {
        Self { bus: bus.clone(), event, limit: PATIENCE, _answer: PhantomData }
    }

    fn until(&self) -> Option<Instant> {
        let own = Instant::now().checked_add(self.limit);
        own.into_iter().chain(Context::current().deadline()).min()
    }

    /// Publishes, and gives what `found` makes of the slots; `late` if it has not seen enough in time.
    async fn run<T>(
        self,
        found: impl Fn(&[Slot]) -> Option<T>,
        late: impl FnOnce(&[Slot]) -> T,
    ) -> Result<T, AskError> {
        let until = self.until();
        let (route, envelope) = self.event?;
        let receipt = Arc::<Receipt>::default();
        let work = async {
            let running = Running::begin(&self.bus.0);
            let (published, full) = self.bus.offer(&route, envelope, Some(&receipt));
            self.bus.wait(published, full).await?;
            drop(running);
            Ok(receipt.until(found).await)
        };
        let ended = match until {
            Some(until) => timeout_at(until, work).await,
            None => Ok(work.await),
        };
        match ended {
            Ok(ended) => ended,
            Err(_) => Ok(late(&receipt.lock())),
        }
    }
}

impl<R> Request<R> {
    pub(super) fn new(bus: &Bus, event: Prepared) -> Self {
        Self(Ask::new(bus, event))
    }

    /// Waits this long for an answer. Defaults to 5 s.
    pub fn within(mut self, limit: Duration) -> Self {
        self.0.limit = limit;
        self
    }
}

impl<R> Gather<R> {
    pub(super) fn new(bus: &Bus, event: Prepared) -> Self {
        Self(Ask::new(bus, event))
    }

    /// Waits this long for the answers. Defaults to 5 s.
    pub fn within(mut self, limit: Duration) -> Self {
        self.0.limit = limit;
        self
    }
}

impl<R: DeserializeOwned + Send + 'static> IntoFuture for Request<R> {
    type Output = Result<R, AskError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// Dropped before it is done, the event may have been published; an answer goes nowhere.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.0.run(first, |_| Err(AskError::TimedOut)).await? })
    }
}

/// The first answer there is; else, when nobody is left who could give one, why.
fn first<R: DeserializeOwned>(slots: &[Slot]) -> Option<Result<R, AskError>> {
    let answered = slots.iter().find_map(|slot| match &slot.state {
        State::Answered(Some(json)) => Some(parse(json)),
        _ => None,
    });
    if answered.is_some() || slots.iter().any(|slot| matches!(slot.state, State::Open)) {
        return answered;
    }
    let failed = slots.iter().find_map(|slot| match &slot.state {
        State::Failed(why) => Some(AskError::Failed(why.clone())),
        _ => None,
    });
    let handled = slots.iter().any(|slot| matches!(slot.state, State::Answered(None)));
    Some(match failed {
        Some(failed) => Err(failed),
        // Handlers that answer `()`: fine for who asks for nothing else.
        None if handled => parse("null").map_err(|_| AskError::NoAnswer),
        None => Err(AskError::NoAnswer),
    })
}

impl<R: DeserializeOwned + Send + 'static> IntoFuture for Gather<R> {
    type Output = Result<Vec<Reply<R>>, AskError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// Dropped before it is done, the event may have been published; answers go nowhere.
    fn into_future(self) -> Self::IntoFuture {
        let all = |slots: &[Slot]| {
            let open = slots.iter().any(|slot| matches!(slot.state, State::Open));
            (!open).then(|| replies(slots))
        };
        Box::pin(self.0.run(all, replies))
    }
}

fn replies<R: DeserializeOwned>(slots: &[Slot]) -> Vec<Reply<R>> {
    let reply = |slot: &Slot| {
        let answer = match &slot.state {
            State::Answered(json) => parse(json.as_deref().unwrap_or("null")),
            State::Failed(why) => Err(AskError::Failed(why.clone())),
            State::Dropped => Err(AskError::NoAnswer),
            State::Open => Err(AskError::TimedOut),
        };
        Reply { subscriber: slot.subscriber.clone(), answer }
    };
    slots.iter().map(reply).collect()
}

fn parse<R: DeserializeOwned>(json: &str) -> Result<R, AskError> {
    serde_json::from_str(json).map_err(|error| AskError::Unreadable(error.to_string()))
}

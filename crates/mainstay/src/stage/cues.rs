//! What may begin in a test, and what has become of it.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mainstay_core::{GroupName, LeaseId, id::JobId, name::QueueName};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use crate::{
    context::Context,
    event::{Answer, Envelope},
    job::JobError,
    secs,
};

/// How the work of a service under test is begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As on the machine.
    #[default]
    Free,
    /// By the test.
    Manual,
    /// Before the call answers that made it.
    Inline,
}

/// A test keeps at most so many events of buses; the oldest go.
const MOST: usize = 100_000;
/// How long a call waits for what it has caused, in a test that has it run inline.
const INLINE_LIMIT: std::time::Duration = secs(86_400);

/// Shared by everything that begins work. Without a test, everything may begin at any time.
#[derive(Clone, Default)]
pub(crate) struct Cues(Option<Arc<Shared>>);

struct Shared {
    mode: Mode,
    jobs: Allowance,
    events: Allowance,
    /// Raised by whatever moves the work on.
    moved: watch::Sender<u64>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    queues: Vec<QueueName>,
    groups: Vec<GroupName>,
    published: VecDeque<Envelope>,
    /// The jobs that were begun, until the test has taken them.
    begun: VecDeque<JobId>,
    /// Deliveries of groups in hand.
    in_hand: Vec<(LeaseId, Delivered)>,
    /// Deliveries that have ended, until the test has taken them.
    ended: VecDeque<Delivered>,
}

/// One delivery of an event, and how it ended: what [`step_event`](crate::testing::TestApp::step_event) answers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Delivered {
    /// Whose handler it was: the subscription's name, or the group.
    pub subscriber: String,
    /// The event.
    pub event: Envelope,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// What the handler said: the text of its error. Whether it comes again is the subscription's affair.
    pub result: Result<(), String>,
}

impl Cues {
    pub fn of(mode: Mode) -> Self {
        let at_first = || Allowance::of(if mode == Mode::Manual { Some(0) } else { None });
        let (jobs, events) = (at_first(), at_first());
        Self(Some(Arc::new(Shared {
            mode,
            jobs,
            events,
            moved: watch::Sender::default(),
            told: Mutex::default(),
        })))
    }

    pub fn mode(&self) -> Mode {
        self.0.as_ref().map_or(Mode::Free, |shared| shared.mode)
    }

    /// Lets jobs begin, or events be handled: so many (`None`: any number), until the guard is dropped.
    pub fn open(&self, what: fn(&Self) -> Option<&Allowance>, most: Option<u32>) -> Open<'_> {
        let allowance = what(self).filter(|_| self.mode() == Mode::Manual);
        if let Some(allowance) = allowance {
            allowance.set(most);
        }
        Open(allowance)
    }

    pub fn jobs(&self) -> Option<&Allowance> {
        self.0.as_ref().map(|shared| &shared.jobs)
    }

    pub fn events(&self) -> Option<&Allowance> {
        self.0.as_ref().map(|shared| &shared.events)
    }

    /// What is queued on a bus is handled: the service is on its way out.
    pub fn close(&self) {
        if let Some(shared) = &self.0 {
            shared.events.let_go();
        }
    }

    pub fn works_on(&self, queues: &[QueueName]) {
        self.tell(|told| told.queues.extend_from_slice(queues));
    }

    pub fn consumes(&self, group: &GroupName) {
        self.tell(|told| told.groups.push(group.clone()));
    }

    /// The queues that somebody works on.
    pub fn queues(&self) -> Vec<QueueName> {
        self.told().map_or_else(Vec::new, |told| told.queues.clone())
    }

    /// The groups whose events somebody handles.
    pub fn groups(&self) -> Vec<GroupName> {
        self.told().map_or_else(Vec::new, |told| told.groups.clone())
    }

    /// An event was announced on a bus.
    pub fn published(&self, event: &Envelope) {
        self.tell(|told| {
            if told.published.len() == MOST {
                told.published.pop_front();
            }
            told.published.push_back(event.clone());
        });
    }

    /// What was announced on buses.
    pub fn all_published(&self) -> Vec<Envelope> {
        self.told().map_or_else(Vec::new, |told| told.published.iter().cloned().collect())
    }

    /// One attempt at a delivery of a bus: waits for its cue.
    pub async fn turn(&self, subscriber: &str, event: &Envelope, attempt: u32) -> Turn {
        let Some(shared) = &self.0 else { return Turn(None) };
        let delivered = Delivered {
            subscriber: subscriber.to_owned(),
            event: event.clone(),
            attempt,
            result: Err("the handler was cut".to_owned()),
        };
        shared.events.pass().await;
        Turn(Some((self.clone(), delivered)))
    }

    pub fn job_begun(&self, id: JobId) {
        self.note(|told| told.begun.push_back(id));
    }

    pub fn delivery_begun(&self, lease: LeaseId, delivered: Delivered) {
        self.note(|told| told.in_hand.push((lease, delivered)));
    }

    /// A delivery of a group has ended.
    pub fn delivery_ended(&self, lease: LeaseId, result: &Result<(), String>) {
        self.note(|told| {
            if let Some(at) = told.in_hand.iter().position(|(known, _)| *known == lease) {
                let (_, delivered) = told.in_hand.remove(at);
                told.ended.push_back(Delivered { result: result.clone(), ..delivered });
            }
        });
    }

    /// The jobs that were begun since the last time.
    pub fn take_begun(&self) -> Vec<JobId> {
        self.told().map_or_else(Vec::new, |mut told| told.begun.drain(..).collect())
    }

    /// The deliveries that have ended since the last time.
    pub fn take_ended(&self) -> Vec<Delivered> {
        self.told().map_or_else(Vec::new, |mut told| told.ended.drain(..).collect())
    }

    /// Something has moved on.
    pub fn moved(&self) {
        if let Some(shared) = &self.0 {
            shared.moved.send_modify(|count| *count += 1);
        }
    }

    /// Tells whenever something moves on.
    pub fn watch(&self) -> Option<watch::Receiver<u64>> {
        self.0.as_ref().map(|shared| shared.moved.subscribe())
    }

    /// Waits for `done` where a call waits for what it has caused. An attempt does not: it would wait for itself.
    pub async fn inline(&self, done: impl Future<Output = ()>) {
        if self.mode() == Mode::Inline && !in_an_attempt() {
            let done = timeout(INLINE_LIMIT, done).await;
            assert!(
                done.is_ok(),
                "after {INLINE_LIMIT:?}, what this call has caused is not done: it is run inline"
            );
        }
    }

    /// For a test that steps: nobody else takes it out again.
    fn note(&self, note: impl FnOnce(&mut Told)) {
        if self.mode() == Mode::Manual {
            self.tell(note);
        }
    }

    fn tell(&self, tell: impl FnOnce(&mut Told)) {
        if let Some(mut told) = self.told() {
            tell(&mut told);
        }
    }

    fn told(&self) -> Option<MutexGuard<'_, Told>> {
        self.0.as_ref().map(|shared| shared.told.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether a job or an event is being handled here.
fn in_an_attempt() -> bool {
    let mut is = false;
    Context::current().each_line_field(&mut |name, _| is |= matches!(name, "job.id" | "event.subscriber"));
    is
}

/// Something may begin until this is dropped.
#[must_use = "dropped, nothing begins any more"]
pub(crate) struct Open<'c>(Option<&'c Allowance>);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Some(allowance) = self.0 {
            allowance.set(Some(0));
        }
    }
}

/// An attempt at a delivery of a bus.
pub(crate) struct Turn(Option<(Cues, Delivered)>);

impl Turn {
    pub fn ended(mut self, answer: &Answer) {
        if let Some((_, delivered)) = &mut self.0 {
            delivered.result = answer.as_ref().map(drop).map_err(JobError::to_message);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some((cues, delivered)) = self.0.take() {
            cues.note(|told| told.ended.push_back(delivered));
            cues.moved();
        }
    }
}

/// How much may begin.
pub(crate) struct Allowance {
    left: Mutex<Left>,
    /// Tells who waits, in the order of their coming.
    changed: Notify,
}

struct Left {
    /// `None`: any number.
    most: Option<u32>,
    /// The service is on its way out.
    over: bool,
}

impl Allowance {
    fn of(most: Option<u32>) -> Self {
        Self { left: Mutex::new(Left { most, over: false }), changed: Notify::new() }
    }

    fn set(&self, most: Option<u32>) {
        self.lock().most = most;
        self.changed.notify_waiters();
    }

    fn let_go(&self) {
        self.lock().over = true;
        self.changed.notify_waiters();
    }

    /// Takes up to so many; answers how many.
    pub fn take(&self, wanted: u32) -> u32 {
        let most = &mut self.lock().most;
        let Some(left) = most else { return wanted };
        let taken = wanted.min(*left);
        *left -= taken;
        taken
    }

    /// What was taken and not used.
    pub fn give_back(&self, unused: u32) {
        if unused > 0
            && let Some(left) = &mut self.lock().most
        {
            *left += unused;
        }
        if unused > 0 {
            self.changed.notify_waiters();
        }
    }

    /// Resolves when there is something to take. Cancel safe.
    pub async fn any(&self) {
        self.until(|left| left.most != Some(0)).await;
    }

    pub fn is_none(&self) -> bool {
        self.lock().most == Some(0)
    }

    /// Takes one, or goes on because the service is on its way out.
    async fn pass(&self) {
        self.until(|left| {
            let passes = left.over || left.most != Some(0);
            if let Some(most) = left.most.as_mut().filter(|_| passes) {
                *most = most.saturating_sub(1);
            }
            passes
        })
        .await;
    }

    async fn until(&self, mut enough: impl FnMut(&mut Left) -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // In line before the look.
            changed.as_mut().enable();
            if enough(&mut self.lock()) {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Scripts for what a service depends on.

mod asserts;
mod history;
mod service;
mod step;

use std::{
    collections::VecDeque,
    fmt::Debug,
    panic::Location,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{Gate, wait::until};
use history::{Counts, Fate, Record};
use step::{Outcome, Step, Wait};

/// Stands in for an async dependency: answers each call as the script says, and remembers it.
///
/// `A` are the arguments of a call (a tuple if there are several), `R` is what it returns: a
/// `Script<u64, Result<User, DbError>>` stands for `async fn find(&self, id: u64) -> Result<User, DbError>`.
///
/// ```
/// use mainstay::{millis, testing::{Script, block_on_virtual}};
/// # #[derive(Clone, Debug, PartialEq)] struct User(&'static str);
/// # #[derive(Clone, Debug, PartialEq)] enum DbError { Busy }
///
/// trait Users {
///     fn find(&self, id: u64) -> impl Future<Output = Result<User, DbError>> + Send;
/// }
/// struct MockUsers {
///     find: Script<u64, Result<User, DbError>>,
/// }
/// impl Users for MockUsers {
///     async fn find(&self, id: u64) -> Result<User, DbError> {
///         self.find.call(id).await
///     }
/// }
///
/// block_on_virtual(async {
///     let find = Script::named("find").err(DbError::Busy).delay(millis(50)).ok(User("ann")).repeat_last();
///     let users = MockUsers { find };
///     assert_eq!(users.find(7).await, Err(DbError::Busy));
///     assert_eq!(users.find(7).await, Ok(User("ann"))); // 50 virtual milliseconds later
///     users.find.assert_calls([7, 7]);
/// });
/// ```
///
/// Steps are used in the order they were written, one a call; what is said of a step ([`delay`](Self::delay),
/// [`pending_until`](Self::pending_until)) comes before it. A call beyond the last step panics and names the script
/// and the call. All clones are one script: give one to the service, keep one for the assertions.
///
/// Also a `tower::Service` if it returns a `Result`, and a closure by [`into_fn`](Self::into_fn).
/// Every call is kept, with its arguments.
pub struct Script<A, R>(Arc<Inner<A, R>>);

struct Inner<A, R> {
    name: String,
    state: Mutex<State<A, R>>,
    counts: watch::Sender<Counts>,
}

struct State<A, R> {
    steps: VecDeque<Step<A, R>>,
    /// What has been said of the step that is not written yet.
    waits: Vec<Wait>,
    /// Makes the step of every call beyond the last.
    rest: Option<Rest<A, R>>,
    calls: Vec<Record<A>>,
    began: Option<Instant>,
}

type Rest<A, R> = Box<dyn Fn() -> Step<A, R> + Send>;

/// What a call does now, and who writes down how it ended.
type Begun<A, R> = (Step<A, R>, UnderWay<A, R>);

/// A call of a [`Script`] under way. Dropped before its end it counts as cancelled, also if it was never polled.
#[must_use = "a call that is not awaited counts as cancelled"]
pub struct Call<R>(Pin<Box<dyn Future<Output = R> + Send>>);

impl<A, R> Script<A, R> {
    /// An empty script, called after the place where it was made.
    #[track_caller]
    pub fn new() -> Script<A, R> {
        Script::named(format!("made at {}", Location::caller()))
    }

    /// An empty script with a name for messages.
    pub fn named(name: impl Into<String>) -> Script<A, R> {
        let (steps, waits, calls) = (VecDeque::new(), Vec::new(), Vec::new());
        let state = Mutex::new(State { steps, waits, rest: None, calls, began: None });
        Script(Arc::new(Inner { name: name.into(), state, counts: watch::Sender::default() }))
    }

    /// The next step returns this.
    #[track_caller]
    pub fn returns(self, value: R) -> Self {
        self.step(Outcome::Value(value))
    }

    /// The next step returns what `answer` makes of its arguments.
    #[track_caller]
    pub fn answer(self, answer: impl Fn(&A) -> R + Send + Sync + 'static) -> Self {
        self.step(Outcome::Answer(Arc::new(answer)))
    }

    /// The next step runs what `answer` makes of its arguments: anything async, as long as it takes. A call that is
    /// dropped meanwhile is cancelled, and drops it.
    #[track_caller]
    pub fn answer_async<Fut>(self, answer: impl Fn(Arc<A>) -> Fut + Send + Sync + 'static) -> Self
    where
        Fut: Future<Output = R> + Send + 'static,
    {
        self.step(Outcome::Run(Arc::new(move |args| Box::pin(answer(args)))))
    }

    /// The next step never ends.
    #[track_caller]
    pub fn hang(self) -> Self {
        self.step(Outcome::Hang)
    }

    /// The next step panics with this message.
    #[track_caller]
    pub fn panic(self, message: impl Into<String>) -> Self {
        self.step(Outcome::Panic(message.into()))
    }

    /// The next step takes at least this long, by `tokio::time`.
    #[track_caller]
    pub fn delay(self, delay: Duration) -> Self {
        self.wait(Wait::For(delay))
    }

    /// The next step waits at this gate.
    #[track_caller]
    pub fn pending_until(self, gate: &Gate) -> Self {
        self.wait(Wait::At(gate.clone()))
    }

    /// Every call beyond the last step returns what `answer` makes of its arguments.
    #[track_caller]
    pub fn otherwise(self, answer: impl Fn(&A) -> R + Send + Sync + 'static) -> Self
    where
        A: 'static,
        R: 'static,
    {
        let mut state = self.unfinished();
        let (waits, answer) = (std::mem::take(&mut state.waits), Arc::new(answer));
        state.rest =
            Some(Box::new(move || Step { waits: waits.clone(), outcome: Outcome::Answer(answer.clone()) }));
        drop(state);
        self
    }

    /// The last step is that of every further call, with its delay and its gate.
    ///
    /// # Panics
    /// If there is no step yet.
    #[track_caller]
    pub fn repeat_last(self) -> Self
    where
        A: 'static,
        R: Clone + Send + 'static,
    {
        let mut state = self.unfinished();
        match (state.steps.pop_back(), state.waits.is_empty()) {
            (Some(last), true) => state.rest = Some(Box::new(move || last.clone())),
            _ => {
                drop(state);
                panic!("script `{}`: repeat_last() stands behind a step that returns something", self.0.name);
            }
        }
        drop(state);
        self
    }

    /// Takes the next step. The call is counted and recorded here, the rest happens when it is awaited.
    ///
    /// # Panics
    /// If the script has no step left.
    #[track_caller]
    pub fn call(&self, args: A) -> Call<R>
    where
        A: Debug + Send + Sync + 'static,
        R: Send + 'static,
    {
        let args = Arc::new(args);
        match self.0.begin(&args, Location::caller()) {
            Ok((step, under_way)) => Call(Box::pin(step.play(args, under_way))),
            Err(why) => panic!("{why}"),
        }
    }

    /// The script as a closure, for what asks for a function that returns a future, or for an async one.
    pub fn into_fn(self) -> impl Fn(A) -> Call<R> + AsyncFn(A) -> R + Clone + Send + Sync
    where
        A: Debug + Send + Sync + 'static,
        R: Send + 'static,
    {
        move |args| self.call(args)
    }

    /// Resolves when `n` calls have been made. Cancel safe, as those below.
    ///
    /// # Panics
    /// After 30 seconds, on virtual time after six days, as those below.
    #[track_caller]
    pub fn until_called(&self, n: usize) -> impl Future<Output = ()> + Send + use<A, R>
    where
        A: Send + Sync,
        R: Send,
    {
        self.until(n, "called", |counts| counts.called)
    }

    /// Resolves when `n` calls have returned.
    #[track_caller]
    pub fn until_awaited(&self, n: usize) -> impl Future<Output = ()> + Send + use<A, R>
    where
        A: Send + Sync,
        R: Send,
    {
        self.until(n, "awaited", |counts| counts.awaited)
    }

    /// Resolves when `n` calls have been dropped before their end.
    #[track_caller]
    pub fn until_cancelled(&self, n: usize) -> impl Future<Output = ()> + Send + use<A, R>
    where
        A: Send + Sync,
        R: Send,
    {
        self.until(n, "cancelled", |counts| counts.cancelled)
    }

    #[track_caller]
    fn until(
        &self,
        n: usize,
        what: &'static str,
        count: fn(&Counts) -> usize,
    ) -> impl Future<Output = ()> + Send + use<A, R>
    where
        A: Send + Sync,
        R: Send,
    {
        let (inner, at) = (self.0.clone(), Location::caller());
        async move {
            let tell = |counts: &Counts| {
                format!("script `{}` was {what} {} instead of {n} times", inner.name, count(counts))
            };
            until(&inner.counts, at, |counts| count(counts) >= n, tell).await;
        }
    }

    #[track_caller]
    fn step(self, outcome: Outcome<A, R>) -> Self {
        let mut state = self.unfinished();
        let waits = std::mem::take(&mut state.waits);
        state.steps.push_back(Step { waits, outcome });
        drop(state);
        self
    }

    #[track_caller]
    fn wait(self, wait: Wait) -> Self {
        self.unfinished().waits.push(wait);
        self
    }

    #[track_caller]
    fn unfinished(&self) -> MutexGuard<'_, State<A, R>> {
        let state = self.0.lock();
        if state.rest.is_some() {
            drop(state);
            panic!("script `{}`: nothing can follow repeat_last() or otherwise()", self.0.name);
        }
        state
    }
}

impl<A, T, E> Script<A, Result<T, E>> {
    /// The next step returns `Ok` of this.
    #[track_caller]
    pub fn ok(self, value: T) -> Self {
        self.returns(Ok(value))
    }

    /// The next step returns `Err` of this.
    #[track_caller]
    pub fn err(self, error: E) -> Self {
        self.returns(Err(error))
    }
}

impl<A, R> Inner<A, R> {
    fn lock(&self) -> MutexGuard<'_, State<A, R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the call and takes its step, or says why there is none.
    fn begin(self: &Arc<Self>, args: &Arc<A>, from: &'static Location<'static>) -> Result<Begun<A, R>, String>
    where
        A: Debug,
    {
        let now = Instant::now();
        let mut state = self.lock();
        let step = state.steps.pop_front().or_else(|| state.rest.as_ref().map(|next| next()));
        let fate = if step.is_some() { Fate::Pending } else { Fate::Beyond };
        let at = now.saturating_duration_since(*state.began.get_or_insert(now));
        let index = state.calls.len();
        state.calls.push(Record { args: args.clone(), fate, at, from });
        let why = step.is_none().then(|| {
            let dangling = if state.waits.is_empty() {
                ""
            } else {
                " (its last delay or gate belongs to no step: write what is returned behind it)"
            };
            let history = history::told(&state.calls);
            format!("script `{}` has no step left for call {}{dangling}\n{history}", self.name, index + 1)
        });
        drop(state);
        self.counts.send_modify(|counts| counts.called += 1);
        match (step, why) {
            (Some(step), _) => Ok((step, UnderWay { script: self.clone(), index, fate: Fate::Cancelled })),
            (None, why) => Err(why.unwrap_or_default()),
        }
    }
}

/// Writes down how a call ended, also if it is dropped.
struct UnderWay<A, R> {
    script: Arc<Inner<A, R>>,
    index: usize,
    fate: Fate,
}

impl<A, R> Drop for UnderWay<A, R> {
    fn drop(&mut self) {
        self.script.lock().calls[self.index].fate = self.fate;
        self.script.counts.send_modify(|counts| match self.fate {
            Fate::Awaited => counts.awaited += 1,
            Fate::Cancelled => counts.cancelled += 1,
            Fate::Pending | Fate::Panicked | Fate::Beyond => (),
        });
    }
}

impl<R> Future for Call<R> {
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        self.0.as_mut().poll(cx)
    }
}

impl<R> Debug for Call<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Call")
    }
}

impl<A, R> Clone for Script<A, R> {
    fn clone(&self) -> Self {
        Script(self.0.clone())
    }
}

impl<A, R> Default for Script<A, R> {
    #[track_caller]
    fn default() -> Self {
        Script::new()
    }
}

impl<A, R> Debug for Script<A, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Script({})", self.0.name)
    }
}

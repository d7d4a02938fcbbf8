//! What a test needs around it, taken down however the test ends.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    runtime::Builder,
    sync::{Mutex, oneshot},
    time::timeout,
};

use super::wait;
use crate::secs;

/// How long set-up and tear-down may take each, by `tokio::time`.
const LIMIT: Duration = secs(60);

/// Something with a start and an end in async code: a database with its schema, a server, a folder of files.
///
/// ```
/// use mainstay::testing::{Fixture, block_on_virtual, with_fixture};
///
/// struct Inbox { mails: Vec<&'static str> }
///
/// impl Fixture for Inbox {
///     async fn set_up() -> Self {
///         Inbox { mails: vec!["welcome"] }
///     }
///     async fn tear_down(self) {
///         // also when the test has failed
///     }
/// }
///
/// block_on_virtual(with_fixture(async |inbox: &Inbox| {
///     assert_eq!(inbox.mails.len(), 1);
/// }));
/// ```
///
/// A tuple of fixtures is one: set up in its order, torn down in reverse, each of them whatever the others do.
pub trait Fixture: Sized {
    /// Makes it. A failure is a panic: it fails the test, which is not run then.
    fn set_up() -> impl Future<Output = Self>;

    /// Ends it.
    fn tear_down(self) -> impl Future<Output = ()> {
        async {}
    }
}

/// Runs a test with a fixture of its own. Tears it down at the end, also when the test panics or waits for something
/// that never comes; a panic then goes on.
///
/// Not cancel safe: dropped under way, as by a shorter [limit](super::Runtime::limit) of the runtime, the fixture is
/// dropped without its tear-down.
///
/// # Panics
/// As the test does, or set-up or tear-down, or if one of the two takes more than 60 seconds.
pub async fn with_fixture<F: Fixture, T>(test: impl AsyncFnOnce(&F) -> T) -> T {
    let fixture = limited("set-up", F::set_up()).await;
    let tested = caught(ended(test(&fixture))).await;
    let torn_down = caught(limited("tear-down", fixture.tear_down())).await;
    after(tested, torn_down)
}

/// A fixture that several tests share: it is set up for the first of them, and torn down when the last that uses it has
/// ended. So tests that run at the same time use one; after a while without any it is made anew.
///
/// It lives on a thread and a runtime of its own, on real time: what it has spawned there goes on whatever the runtime
/// of a test does.
///
/// ```
/// # use mainstay::testing::Fixture;
/// use mainstay::testing::{Shared, block_on_virtual};
/// # struct Database; impl Database { async fn ping(&self) -> bool { true } }
/// # impl Fixture for Database { async fn set_up() -> Self { Database } }
///
/// static DATABASE: Shared<Database> = Shared::new();
///
/// block_on_virtual(DATABASE.with(async |db| assert!(db.ping().await)));
/// ```
pub struct Shared<F>(Mutex<Option<Live<F>>>);

struct Live<F> {
    fixture: Arc<F>,
    users: usize,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<Result<(), Panic>>,
}

type Panic = Box<dyn Any + Send>;

impl<F: Fixture + Send + Sync + 'static> Shared<F> {
    /// Not set up yet.
    #[expect(clippy::new_without_default, reason = "it belongs into a static, which needs a const fn")]
    pub const fn new() -> Shared<F> {
        Shared(Mutex::const_new(None))
    }

    /// Runs a test with it. As [`with_fixture`], also in not being cancel safe: a use that was dropped keeps the
    /// fixture for as long as the process lives.
    ///
    /// # Panics
    /// As the test does, or set-up, or for its last user tear-down.
    pub async fn with<T>(&self, test: impl AsyncFnOnce(&F) -> T) -> T {
        let fixture = crate::clock::real(self.enter()).await;
        let tested = caught(ended(test(&fixture))).await;
        drop(fixture);
        after(tested, crate::clock::real(self.leave()).await)
    }

    async fn enter(&self) -> Arc<F> {
        // Held while it is set up or torn down: nobody enters one that is half there.
        let mut live = self.0.lock().await;
        if let Some(live) = &mut *live {
            live.users += 1;
            return live.fixture.clone();
        }
        let new = live.insert(start().await.unwrap_or_else(|panic| resume_unwind(panic)));
        new.fixture.clone()
    }

    async fn leave(&self) -> Result<(), Panic> {
        let mut live = self.0.lock().await;
        match &mut *live {
            Some(used) if used.users > 1 => used.users -= 1,
            _ => {
                if let Some(Live { fixture, stop, ended, .. }) = live.take() {
                    drop(fixture);
                    let _ = stop.send(());
                    return ended.await.unwrap_or(Ok(()));
                }
            }
        }
        Ok(())
    }
}

async fn start<F: Fixture + Send + Sync + 'static>() -> Result<Live<F>, Panic> {
    let (up, is_up) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let (end, ended) = oneshot::channel();
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime for a fixture");
        runtime.block_on(async {
            let set_up = caught(async { Arc::new(limited("set-up", F::set_up()).await) }).await;
            let fixture = set_up.as_ref().ok().cloned();
            let _ = up.send(set_up);
            let Some(fixture) = fixture else { return };
            let _ = stopped.await;
            // The last user has given back its own before it said stop.
            if let Some(fixture) = Arc::into_inner(fixture) {
                let _ = end.send(caught(limited("tear-down", fixture.tear_down())).await);
            }
        });
    });
    let fixture = is_up.await.unwrap_or_else(|_| Err(Box::new("the fixture's thread has died")))?;
    Ok(Live { fixture, users: 1, stop, ended })
}

impl<A: Fixture, B: Fixture> Fixture for (A, B) {
    async fn set_up() -> Self {
        let first = A::set_up().await;
        match caught(B::set_up()).await {
            Ok(second) => (first, second),
            Err(panic) => {
                let _ = caught(first.tear_down()).await;
                resume_unwind(panic)
            }
        }
    }

    async fn tear_down(self) {
        let second = caught(self.1.tear_down()).await;
        let first = caught(self.0.tear_down()).await;
        after(second, first);
    }
}

impl<A: Fixture, B: Fixture, C: Fixture> Fixture for (A, B, C) {
    async fn set_up() -> Self {
        let ((a, b), c) = <((A, B), C)>::set_up().await;
        (a, b, c)
    }

    async fn tear_down(self) {
        let (a, b, c) = self;
        ((a, b), c).tear_down().await;
    }
}

async fn limited<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = timeout(LIMIT, work).await;
    done.unwrap_or_else(|_| panic!("the fixture's {what} has not ended after {LIMIT:?}"))
}

/// A test that waits for ever ends here, not at the runtime's own limit: the tear-down could not run any more then.
async fn ended<T>(test: impl Future<Output = T>) -> T {
    let done = timeout(wait::VIRTUAL, test).await;
    done.unwrap_or_else(|_| {
        panic!("the test has not ended after {:?}: it waits for something that never comes", wait::VIRTUAL)
    })
}

async fn caught<T>(work: impl Future<Output = T>) -> Result<T, Panic> {
    AssertUnwindSafe(work).catch_unwind().await
}

/// The first of two panics goes on; both have been printed.
fn after<T>(first: Result<T, Panic>, then: Result<(), Panic>) -> T {
    match (first, then) {
        (Ok(value), Ok(())) => value,
        (Err(panic), _) | (Ok(_), Err(panic)) => resume_unwind(panic),
    }
}

//! A whole service in a test.

mod answer;
mod build;
mod events;
mod jobs;
mod steps;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use http::{Method, Request, header};
use serde::Serialize;
use tokio::sync::watch;

pub use answer::Answer;
pub use build::TestBoot;

pub use crate::stage::Delivered;

use crate::admin::Desk;
use crate::health::Health;
use crate::http::Inlet;
use crate::shutdown::Phase;
use crate::stage::Stage;
use crate::{Boot, Client, Ended, Result, Shutdown};

/// Asked to see whether the listener answers: no route of the service's, so that none is called.
const NOWHERE: &str = "/-/is-anybody-there";

/// A service that runs in the test's process: the same `boot` that `main` runs, without sockets, signals and files.
///
/// ```
/// use axum::{Router, extract::State, routing::post};
/// use mainstay::{Boot, Client, Job, JobContext, JobError, Workers, testing::{Script, TestApp, block_on_virtual}};
/// # use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Welcome { to: String }
/// impl Job for Welcome {
///     const KIND: &'static str = "welcome";
///     const QUEUE: &'static str = "mail";
/// }
/// #[derive(Clone)]
/// struct Shop { store: Client, mail: Script<String, Result<(), std::io::Error>> }
///
/// async fn signup(State(shop): State<Shop>, to: String) -> Result<(), mainstay::http::ApiError> {
///     shop.store.enqueue(Welcome { to }).await?;
///     Ok(())
/// }
/// async fn welcome(job: Welcome, cx: JobContext<Shop>) -> Result<(), JobError> {
///     Ok(cx.mail.call(job.to).await?)
/// }
///
/// let mail = Script::named("mail").err(std::io::ErrorKind::TimedOut.into()).ok(());
/// let sent = mail.clone();
/// let boot = async move |b: &mut Boot<()>| {
///     let shop = Shop { store: b.store("sqlite:shop.db").await?, mail };
///     b.http("0.0.0.0:80", Router::new().route("/signup", post(signup)).with_state(shop.clone()));
///     b.workers(Workers::new("mail", shop).on(welcome));
///     Ok(())
/// };
/// block_on_virtual(TestApp::new(boot).run(async |app| {
///     app.post("/signup", &"ada@example.org").await.assert_status(200);
///     app.assert_enqueued(|job: &Welcome| job.to.contains("ada")).await;
///     app.run_jobs().await; // to their ends, with all retries
/// }));
/// sent.assert_awaited_times(2);
/// ```
///
/// What is different from the machine:
/// - `b.http(…)` binds no socket: requests come by [`request`](Self::request), through the whole pipeline. Bodies are
///   read to their end; for event streams, WebSockets and real clients there is [`TestBoot::with_sockets`].
/// - `b.store(…)` opens `memory:` whatever the URL says.
/// - Configuration comes from [`TestBoot::set`] alone, not from variables or files; the admin listener is off, and what
///   it would answer is asked by [`ask_admin`](Self::ask_admin).
/// - No signals, watchdog and panic hook.
///
/// Jobs and events are worked on as on the machine, by tasks beside the test, unless it says
/// [`manual`](TestBoot::manual) (it lets each begin) or [`inline`](TestBoot::inline) (they are done when the call answers
/// that made them).
pub struct TestApp {
    stage: Stage,
    shutdown: Shutdown,
    ended: watch::Receiver<Option<Arc<Ended>>>,
}

impl TestApp {
    /// A service that `boot` builds; [`TestBoot::run`] runs it.
    #[expect(
        clippy::new_ret_no_self,
        reason = "the call site of `App::new`; the app itself is what the test gets"
    )]
    pub fn new<C, B>(boot: B) -> TestBoot<C>
    where
        C: Serialize + serde::de::DeserializeOwned + Default + Send + Sync + 'static,
        B: AsyncFnOnce(&mut Boot<C>) -> Result<()> + 'static,
    {
        TestBoot::new(boot)
    }

    /// Asks the service, as if over HTTP.
    ///
    /// # Panics
    /// If it does not answer: it has closed its listener, has none, or the request was cut. See
    /// [`try_request`](Self::try_request).
    #[track_caller]
    pub fn request(&self, request: Request<Body>) -> impl Future<Output = Answer> {
        let what = format!("{} {}", request.method(), request.uri());
        let asked = self.try_request(request);
        async move {
            asked.await.unwrap_or_else(|| {
                panic!("{what} was not answered: the service has closed its listener, or cut the request")
            })
        }
    }

    /// Asks the service, as if over HTTP. `None` if it has closed its listener, or cut the request. A request goes to
    /// the listener that was registered first.
    ///
    /// # Panics
    /// If the service has no listener.
    pub async fn try_request(&self, request: Request<Body>) -> Option<Answer> {
        let inlets = self.stage.offered::<Inlet>();
        let inlet = inlets.first().expect("the service has a listener: `b.http(…)`");
        inlet.ask(request).await.map(Answer::new)
    }

    /// Asks what the admin listener answers: probes, `/metrics`, `/admin/…`, and what `b.admin(…)` has added. `None` once
    /// the service has ended.
    ///
    /// # Panics
    /// If `boot` has not begun.
    pub async fn ask_admin(&self, request: Request<Body>) -> Option<Answer> {
        let desk = self.stage.offered::<Desk>().into_iter().next().expect("the service has begun");
        desk.ask(request).await.map(Answer::new)
    }

    /// `GET path`. Panics as [`request`](Self::request).
    #[track_caller]
    pub fn get<'a>(&'a self, path: &str) -> impl Future<Output = Answer> + use<'a> {
        self.request(plain(Method::GET, path, Body::empty()))
    }

    /// `POST path` with `body` as JSON; a string is sent as it is, as text. Panics as [`request`](Self::request), and if
    /// `body` is nothing that JSON can say.
    #[track_caller]
    pub fn post<'a, T: Serialize>(
        &'a self,
        path: &str,
        body: &T,
    ) -> impl Future<Output = Answer> + use<'a, T> {
        self.request(with_body(Method::POST, path, body))
    }

    /// `PUT path`, as [`post`](Self::post).
    #[track_caller]
    pub fn put<'a, T: Serialize>(
        &'a self,
        path: &str,
        body: &T,
    ) -> impl Future<Output = Answer> + use<'a, T> {
        self.request(with_body(Method::PUT, path, body))
    }

    /// `PATCH path`, as [`post`](Self::post).
    #[track_caller]
    pub fn patch<'a, T: Serialize>(
        &'a self,
        path: &str,
        body: &T,
    ) -> impl Future<Output = Answer> + use<'a, T> {
        self.request(with_body(Method::PATCH, path, body))
    }

    /// `DELETE path`. Panics as [`request`](Self::request).
    #[track_caller]
    pub fn delete<'a>(&'a self, path: &str) -> impl Future<Output = Answer> + use<'a> {
        self.request(plain(Method::DELETE, path, Body::empty()))
    }

    /// The store that the service opened first.
    ///
    /// # Panics
    /// If it has none.
    pub fn store(&self) -> Client {
        self.stage.offered::<Client>().into_iter().next().expect("the service has a store: `b.store(…)`")
    }

    /// Where the service listens: its first listener, bound by [`TestBoot::with_sockets`].
    ///
    /// # Panics
    /// If it has no socket.
    pub fn address(&self) -> SocketAddr {
        let bound = self.stage.offered::<SocketAddr>().into_iter().next();
        bound.expect("the service has a socket: `TestApp::new(boot).with_sockets()`, and `b.http(…)`")
    }

    /// Whether a balancer would send requests here.
    pub fn is_ready(&self) -> bool {
        self.stage.offered::<Health>().first().is_some_and(|health| health.ready().is_ok())
    }

    /// The service's end, to be begun and followed.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Stops the service in good order, and waits for its end.
    pub async fn stop(&self) -> Arc<Ended> {
        self.shutdown.begin();
        self.end().await
    }

    async fn end(&self) -> Arc<Ended> {
        let mut ended = self.ended.clone();
        let ended = ended.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
        ended.expect("the app has ended in order")
    }

    /// Stops the service, and fails unless everything that it had begun came to its end.
    ///
    /// # Panics
    /// If something was cut, with what it was.
    pub async fn assert_drained(&self) {
        assert_drained(&*self.stop().await);
    }

    /// The service takes no new requests.
    ///
    /// # Panics
    /// If it answers one.
    pub async fn assert_refuses_new(&self) {
        let answer = self.try_request(plain(Method::GET, NOWHERE, Body::empty())).await;
        assert!(answer.is_none(), "the service still answers: {answer:?}");
    }

    /// Begins the stop, and fails unless the service first says that it is not ready while it still answers, so that a
    /// balancer has time to notice, and refuses only then.
    ///
    /// # Panics
    /// If it does one of these too early or too late; if its `lame_duck_ms` is 0, which leaves a balancer no time.
    pub async fn assert_unready_before_closing(&self) {
        assert!(self.is_ready(), "the service is not ready before its stop");
        self.shutdown.begin();
        self.shutdown.draining().await;
        assert!(!self.is_ready(), "the service is to stop and says that it is ready");
        let answer = self.try_request(plain(Method::GET, NOWHERE, Body::empty())).await;
        assert!(answer.is_some(), "the service closed its listener at once: is `lame_duck_ms` 0?");
        self.shutdown.reached(Phase::Draining).await;
        self.assert_refuses_new().await;
    }
}

fn assert_drained(ended: &Ended) {
    if let Some(error) = &ended.error {
        panic!("the service failed: {}", error.chain());
    }
    let cut: Vec<_> = ended.cut.iter().map(|cut| format!("\n  {cut}")).collect();
    assert!(cut.is_empty(), "the service's time to drain was up, and this was cut:{}", cut.concat());
}

fn plain(method: Method, path: &str, body: Body) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).body(body);
    request.unwrap_or_else(|error| panic!("`{path}` is no path of a request: {error}"))
}

fn with_body(method: Method, path: &str, body: &impl Serialize) -> Request<Body> {
    let value = serde_json::to_value(body).expect("the body can be JSON");
    let (kind, text) = match value {
        serde_json::Value::String(text) => ("text/plain; charset=utf-8", text),
        value => ("application/json", value.to_string()),
    };
    let mut request = plain(method, path, Body::from(text));
    request.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    request
}

impl std::fmt::Debug for TestApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestApp").field("phase", &self.shutdown.phase()).finish_non_exhaustive()
    }
}

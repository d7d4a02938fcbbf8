//! A service as a user would write it, tested with the kit alone: a library that lends books and reminds of them.

use std::io;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, post};
use axum::{Json, Router};
use mainstay::core::job::JobState;
use mainstay::http::ApiError;
use mainstay::policy::{Classified, PolicyError, Target, Verdict};
use mainstay::testing::{
    Gate, Level, Logs, Metrics, Script, TestApp, TestBoot, assert_logged, block_on_virtual,
};
use mainstay::{
    Boot, Client, Event, EventContext, Job, JobContext, JobError, Result, Weight, Workers, millis, secs,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

/// Books are for the reading room.
const LOAN: u64 = 2 * 3_600;

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
enum Trouble {
    #[error("the catalogue is down")]
    Down,
    #[error("there is no such book")]
    NoSuchBook,
}

impl Classified for Trouble {
    fn verdict(&self) -> Verdict {
        match self {
            Trouble::Down => Verdict::Retry,
            Trouble::NoSuchBook => Verdict::Permanent,
        }
    }
}

trait Catalogue: Clone + Send + Sync + 'static {
    fn copies(&self, book: String) -> impl Future<Output = std::result::Result<u32, Trouble>> + Send;
}

trait Mail: Clone + Send + Sync + 'static {
    fn send(&self, to: String, text: String) -> impl Future<Output = io::Result<()>> + Send;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Loan {
    book: String,
    reader: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Remind(Loan);
impl Job for Remind {
    const KIND: &'static str = "remind";
    const QUEUE: &'static str = "reminders";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Lent(Loan);
impl Event for Lent {
    const TOPIC: &'static str = "books.lent";
}

#[derive(Clone)]
struct Library<C, M> {
    store: Client,
    catalogue: C,
    mail: M,
    asking: Target,
}

async fn lend<C: Catalogue, M: Mail>(
    State(library): State<Library<C, M>>,
    Json(loan): Json<Loan>,
) -> std::result::Result<(StatusCode, String), ApiError> {
    let copies = library.asking.run(|_| library.catalogue.copies(loan.book.clone())).await;
    let copies = copies.map_err(|error| match error {
        PolicyError::Failed { error: Trouble::NoSuchBook, .. } => {
            ApiError::new(StatusCode::NOT_FOUND, "there is no such book")
        }
        PolicyError::Failed { .. } => ApiError::new(StatusCode::BAD_GATEWAY, "the catalogue is down"),
        PolicyError::TimedOut { .. } => ApiError::new(StatusCode::GATEWAY_TIMEOUT, "the catalogue is slow"),
        other => other.into(),
    })?;
    if copies == 0 {
        return Err(ApiError::new(StatusCode::CONFLICT, "all copies are lent"));
    }
    let remind = Remind(loan.clone()).with().delay(secs(LOAN));
    let replies = library.store.commit().enqueue(remind).publish(&Lent(loan)).await?;
    match &replies[0] {
        mainstay::core::op::Reply::Enqueued(job) => Ok((StatusCode::CREATED, job.id.to_string())),
        other => unreachable!("{other:?}"),
    }
}

async fn give_back<C: Catalogue, M: Mail>(
    State(library): State<Library<C, M>>,
    Path(id): Path<String>,
) -> std::result::Result<StatusCode, ApiError> {
    let id = id.parse().map_err(|_| ApiError::new(StatusCode::NOT_FOUND, "no such loan"))?;
    library.store.cancel(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remind<C: Catalogue, M: Mail>(
    Remind(loan): Remind,
    cx: JobContext<Library<C, M>>,
) -> std::result::Result<(), JobError> {
    tokio::select! {
        sent = cx.mail.send(loan.reader, format!("{} is due", loan.book)) => Ok(sent?),
        () = cx.cancelled() => Err(JobError::cancel()),
    }
}

async fn thank<C: Catalogue, M: Mail>(
    Lent(loan): Lent,
    cx: EventContext<Library<C, M>>,
) -> std::result::Result<(), JobError> {
    tracing::info!(reader = loan.reader, "thanking");
    metrics::counter!("library.thanks").increment(1);
    Ok(cx.mail.send(loan.reader, "enjoy it".into()).await?)
}

fn boot<C: Catalogue, M: Mail>(
    catalogue: C,
    mail: M,
) -> impl AsyncFnOnce(&mut Boot<()>) -> Result<()> + 'static {
    async move |b: &mut Boot<()>| {
        let store = b.store("sqlite:library.db").await?;
        let asking = b.policies().target("catalogue");
        let library = Library { store: store.clone(), catalogue: catalogue.clone(), mail, asking };
        b.check("catalogue", Weight::Degraded, move || {
            let catalogue = catalogue.clone();
            async move { catalogue.copies("any".into()).await.map(drop) }
        });
        let router = Router::new()
            .route("/loans", post(lend::<C, M>))
            .route("/loans/{id}", delete(give_back::<C, M>))
            .with_state(library.clone());
        b.http("0.0.0.0:80", router);
        b.subscribe(store.group("thanks").with(library.clone()).on(thank::<C, M>));
        b.workers(Workers::new("reminders", library).on(remind::<C, M>));
        Ok(())
    }
}

#[derive(Clone)]
struct Mocks {
    copies: Script<String, std::result::Result<u32, Trouble>>,
    send: Script<(String, String), io::Result<()>>,
}

impl Mocks {
    fn new() -> Self {
        Self { copies: Script::named("copies"), send: Script::named("send") }
    }

    fn service(&self) -> TestBoot<()> {
        TestApp::new(boot(self.clone(), self.clone())).without_checks()
    }
}

impl Catalogue for Mocks {
    async fn copies(&self, book: String) -> std::result::Result<u32, Trouble> {
        self.copies.call(book).await
    }
}

impl Mail for Mocks {
    async fn send(&self, to: String, text: String) -> io::Result<()> {
        self.send.call((to, text)).await
    }
}

fn loan() -> Loan {
    Loan { book: "Emma".into(), reader: "ada@example.org".into() }
}

fn mail(text: &str) -> (String, String) {
    ("ada@example.org".into(), text.into())
}

#[test]
fn a_loan_is_thanked_for_at_once_and_reminded_of_in_two_hours() {
    let mocks = Mocks { copies: Script::named("copies").ok(2), send: Script::named("send").ok(()).ok(()) };
    let (logs, metrics) = (Logs::capture(), Metrics::capture());
    block_on_virtual(mocks.service().manual().run(async |app| {
        app.post("/loans", &loan()).await.assert_status(201);
        app.assert_enqueued(|Remind(of)| *of == loan()).await;
        app.assert_published(|Lent(of)| *of == loan()).await;
        mocks.send.assert_not_called();

        assert_eq!(app.step_event().await.result, Ok(()));
        mocks.send.assert_called_with(mail("enjoy it"));
        let began = Instant::now();
        assert_eq!(app.step_job().await.state, JobState::Completed);
        assert!(began.elapsed() >= secs(LOAN) - millis(10) && began.elapsed() < secs(LOAN + 60));
    }));
    mocks.send.assert_calls([mail("enjoy it"), mail("Emma is due")]);
    assert_logged!(logs, INFO, "thanking", reader = "ada@example.org", event.subscriber = "thanks");
    logs.assert_not_logged(Level::ERROR, "");
    metrics.assert_counter("library.thanks", &[], 1);
}

#[test]
fn a_catalogue_that_fails_is_asked_again_and_then_given_up() {
    let copies = Script::named("copies").err(Trouble::Down).ok(1).err(Trouble::NoSuchBook);
    let mocks = Mocks { copies: copies.err(Trouble::Down).repeat_last(), ..Mocks::new() };
    let metrics = Metrics::capture();
    block_on_virtual(mocks.service().manual().run(async |app| {
        app.post("/loans", &loan()).await.assert_status(201);
        app.post("/loans", &loan()).await.assert_status(404);
        app.post("/loans", &loan()).await.assert_status(502);
        assert_eq!(app.enqueued::<Remind>().await.len(), 1, "only the first was lent");
    }));
    mocks.copies.assert_called_times(2 + 1 + 3);
    let gave_up = |reason| metrics.counter("mainstay.policy.gave_up", &[("reason", reason)]);
    assert_eq!((gave_up("permanent"), gave_up("attempts")), (1, 1));
}

#[test]
fn a_slow_catalogue_costs_its_time_limit_and_no_more() {
    let mocks = Mocks { copies: Script::named("copies").hang().repeat_last(), ..Mocks::new() };
    let service = mocks.service().set("policies.catalogue.attempt_ms", 300);
    block_on_virtual(service.set("policies.catalogue.total_ms", 1_000).run(async |app| {
        let began = Instant::now();
        app.post("/loans", &loan()).await.assert_status(504);
        assert!(began.elapsed() <= secs(1), "{:?}", began.elapsed());
    }));
    assert_eq!(mocks.copies.cancelled(), mocks.copies.called(), "nothing is left hanging");
}

#[test]
fn mail_that_fails_is_sent_again_by_jobs_and_by_events() {
    let send = Script::named("send").err(io::ErrorKind::TimedOut.into()).ok(());
    let send = send.err(io::ErrorKind::TimedOut.into()).ok(());
    let mocks = Mocks { copies: Script::named("copies").ok(1), send };
    block_on_virtual(mocks.service().manual().run(async |app| {
        app.post("/loans", &loan()).await.assert_status(201);
        let thanks = [app.step_event().await, app.step_event().await];
        assert_eq!(thanks.map(|done| (done.attempt, done.result.is_ok())), [(1, false), (2, true)]);
        let first = app.step_job().await;
        assert_eq!((first.state, first.attempt), (JobState::Retryable, 1));
        let second = app.step_job().await;
        assert_eq!((second.state, second.attempt), (JobState::Completed, 2));
    }));
    mocks.send.assert_used_up();
}

#[test]
fn who_leaves_takes_the_call_along_and_who_gives_back_is_not_reminded() {
    let copies = Script::named("copies").hang().ok(1);
    let mocks = Mocks { copies, send: Script::named("send").ok(()) };
    block_on_virtual(mocks.service().run(async |app| {
        assert!(timeout(secs(1), app.post("/loans", &loan())).await.is_err());
        mocks.copies.until_cancelled(1).await;
        let lent = app.post("/loans", &loan()).await;
        app.delete(&format!("/loans/{}", lent.text())).await.assert_status(204);
        app.run_until_idle().await;
        assert_eq!(
            app.store().job(lent.text().parse().unwrap()).await.unwrap().unwrap().state,
            JobState::Cancelled
        );
    }));
    mocks.send.assert_calls([mail("enjoy it")]);
}

#[test]
fn a_reminder_under_way_can_be_called_off() {
    let mocks = Mocks { send: Script::named("send").hang(), ..Mocks::new() };
    block_on_virtual(mocks.service().run(async |app| {
        let job = app.store().enqueue(Remind(loan())).await.unwrap();
        mocks.send.until_called(1).await;
        app.store().cancel(job.id).await.unwrap();
        app.run_jobs().await;
        assert_eq!(app.store().job(job.id).await.unwrap().unwrap().state, JobState::Cancelled);
    }));
    mocks.send.assert_cancelled_times(1);
}

#[test]
fn a_stop_answers_what_was_asked_and_finishes_what_was_begun() {
    let (asked, sending) = (Gate::new(), Gate::new());
    let mocks = Mocks {
        copies: Script::named("copies").pending_until(&asked).ok(0),
        send: Script::named("send").pending_until(&sending).ok(()),
    };
    block_on_virtual(mocks.service().run(async |app| {
        app.store().enqueue(Remind(loan())).await.unwrap();
        let (answer, ()) = tokio::join!(app.post("/loans", &loan()), async {
            tokio::join!(asked.until_arrived(1), sending.until_arrived(1));
            app.assert_unready_before_closing().await;
            asked.open();
            sending.open();
            app.assert_drained().await;
        });
        answer.assert_status(409);
    }));
    mocks.send.assert_awaited_once_with(mail("Emma is due"));
}

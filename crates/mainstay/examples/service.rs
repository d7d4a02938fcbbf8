//! A small service that can be asked to misbehave, to watch what its end looks like:
//!
//! ```sh
//! SERVICE_LISTEN=127.0.0.1:8080 SERVICE_GRACE_MS=5000 cargo run -p mainstay --example service
//! curl 127.0.0.1:8080/              # answers
//! curl 127.0.0.1:8080/never         # never answers: is cut and named when the service stops
//! curl 127.0.0.1:8080/block         # blocks its thread: with SERVICE_THREADS=1 only the watchdog ends that
//! curl 127.0.0.1:8080/hash          # leaves a blocking task behind
//! curl -N 127.0.0.1:8080/events     # is told, and ends; /events-deaf is not
//! SERVICE_MISBEHAVE=hang-stop …     # a component that does not stop; see `misbehave` for the others
//! ```
//!
//! The failure table of `docs/operations.md` is made and tested with it.

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::{StreamExt, stream};
use mainstay::{App, Boot, Error, Restart, Result, Shutdown, TaskSet, millis, secs};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Config {
    listen: String,
    /// Starts a component that never comes up.
    hang: bool,
    /// `hang-start`, `fail-start`, `hang-stop`, `fail-loop` or `restart-loop`.
    misbehave: String,
    /// What a reload can change.
    greeting: String,
}

impl Default for Config {
    fn default() -> Self {
        let [misbehave, greeting] = ["", "hello"].map(str::to_owned);
        Self { listen: "127.0.0.1:0".into(), hang: false, misbehave, greeting }
    }
}

async fn boot(b: &mut Boot<Config>) -> Result<()> {
    let stop = async |_| println!("greeter stopped");
    b.component("greeter", async { Ok::<_, Error>("hello") }).stop(stop).await?;
    if b.config.hang {
        println!("hanging");
        b.component("hanging", std::future::pending::<Result<()>>()).await?;
    }
    misbehave(b).await?;
    let greeting = Arc::new(Mutex::new(b.config.greeting.clone()));
    let greet = greeting.clone();
    let changed = move |config: Arc<Config>| {
        *greet.lock().unwrap_or_else(PoisonError::into_inner) = config.greeting.clone();
        std::future::ready(())
    };
    b.on_reload("greeting", changed).applies(["greeting"]);
    let greeting = get(async move || greeting.lock().unwrap_or_else(PoisonError::into_inner).clone());
    let http = b.http(&b.config.listen, routes(b.tasks()).route("/greeting", greeting));
    let admin = b.admin_address();
    b.on_ready(async move {
        let admin = admin.map(|address| address.to_string()).unwrap_or_default();
        println!("{} {admin}", http.bound().await);
        Ok::<_, Error>(())
    });
    Ok(())
}

async fn misbehave(b: &Boot<Config>) -> Result<()> {
    match b.config.misbehave.as_str() {
        "hang-start" => {
            let never = std::future::pending::<Result<()>>();
            b.component("slow db", never).within(millis(300)).await
        }
        "fail-start" => b.component("db", async { Err(Error::unavailable("connection refused")) }).await,
        "hang-stop" => {
            b.component("bus", async { Ok::<_, Error>(()) }).stop(|()| std::future::pending::<()>()).await
        }
        "fail-loop" => {
            b.background("tail", |_| async {
                tokio::time::sleep(millis(200)).await;
                Err::<(), _>("the log is gone")
            });
            Ok(())
        }
        "restart-loop" => {
            b.supervise("tail", Restart::default(), |_| async { Err::<(), _>("the log is gone") });
            Ok(())
        }
        _ => Ok(()),
    }
}

fn routes(tasks: TaskSet) -> Router {
    Router::new()
        .route("/", get(|| async { "hello\n" }))
        .route("/never", get(std::future::pending::<()>))
        .route("/slow", get(slow))
        .route("/block", get(|| async { std::thread::sleep(secs(3600)) }))
        .route("/hash", get(hash))
        .route("/echo", post(|body: Bytes| async move { body }))
        .route("/big", get(|| async { Body::from(vec![b'x'; 64 << 20]) }))
        .route("/log", get(log))
        .route("/events", get(async |shutdown: Shutdown| shutdown.sse(ticks())))
        .route("/events-deaf", get(async || Sse::new(ticks())))
        .route("/ws", get(chat))
        .route("/ws-deaf", get(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(deaf)))
        .with_state(tasks)
}

async fn slow() -> &'static str {
    tokio::time::sleep(millis(700)).await;
    "slow\n"
}

async fn hash(State(tasks): State<TaskSet>) -> &'static str {
    tasks.spawn_blocking("hash", || std::thread::sleep(secs(3600)));
    "begun\n"
}

async fn log() -> &'static str {
    (0..20_000).for_each(|n| tracing::info!(n, "a line that somebody may or may not read"));
    "logged\n"
}

fn ticks() -> impl futures_util::Stream<Item = Result<Event, Infallible>> + Send {
    let tick = |n: u64| async move {
        tokio::time::sleep(millis(if n == 0 { 0 } else { 200 })).await;
        Some((Ok(Event::default().data("tick")), n + 1))
    };
    stream::unfold(0, tick)
}

async fn chat(upgrade: WebSocketUpgrade, shutdown: Shutdown) -> Response {
    let chat = async move |socket| {
        let away = CloseFrame { code: close_code::AWAY, reason: "restarting".into() };
        let mut socket = shutdown.end_socket(socket, Message::Close(Some(away)));
        while let Some(Ok(message)) = socket.recv().await {
            if matches!(message, Message::Text(_)) && socket.send(message).await.is_err() {
                return;
            }
        }
    };
    upgrade.on_upgrade(chat).into_response()
}

/// Hears nothing but what its client says.
async fn deaf(mut socket: WebSocket) {
    while let Some(Ok(_)) = socket.next().await {}
}

fn main() -> ExitCode {
    App::new("service").run(boot)
}

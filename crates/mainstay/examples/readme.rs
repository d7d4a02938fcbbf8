//! The program of the crate's README, word for word. Run with `cargo run -p mainstay --example readme`, then
//! `curl --json '{"id":7,"email":"ada@example.org"}' localhost:8080/users`, `curl localhost:8080/users/7`, and Ctrl-C.

use std::{collections::BTreeMap, process::ExitCode, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use mainstay::{
    App, Boot, Client, Job, JobContext, JobError, Pool, PoolStatus, Result, Weight, Workers, http::ApiError,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

async fn sign_up(State(app): State<Shop>, Json(user): Json<User>) -> Result<StatusCode, ApiError> {
    let welcome = Welcome { id: user.id };
    app.db.insert(user).await?;
    app.store.enqueue(welcome).await?; // from here on it will be sent, whatever happens to this process
    Ok(StatusCode::CREATED)
}

async fn user(State(app): State<Shop>, Path(id): Path<u64>) -> Result<Json<User>, ApiError> {
    let found = app.db.find(id).await?;
    found.map(Json).ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, format!("there is no user {id}")))
}

async fn welcome(job: Welcome, cx: JobContext<Shop>) -> Result<(), JobError> {
    let user = cx.db.find(job.id).await?; // any error: tried again later, with back-off
    let user = user.ok_or_else(|| JobError::permanent("the user is gone"))?; // this one: not again
    println!("welcome, {}", user.email);
    Ok(())
}

async fn boot(b: &mut Boot<Config>) -> Result<()> {
    // The order of the lines is the order of the start. The end takes it in reverse, as does a start that fails.
    let db = b.pool("db", Db::connect(&b.config.db)).await?; // works, is watched, and is closed after its users
    let store = b.store(&b.config.store).await?;
    let shop = Shop { db, store };
    let routes = Router::new().route("/users", post(sign_up)).route("/users/{id}", get(user));
    b.check("mail", Weight::Degraded, async || mail_is_up()); // told by /readyz, which answers all the same
    b.http(&b.config.listen, routes.with_state(shop.clone())); // behind limits, a panic guard, access log, metrics
    b.workers(Workers::new("mail", shop).on(welcome).concurrency(1..=64));
    Ok(())
}

fn main() -> ExitCode {
    App::new("shop").run(boot) // until SIGTERM or Ctrl-C; then everything in flight is finished
}

// Its own types.

#[derive(Clone)]
struct Shop {
    db: Db,
    store: Client,
}

#[derive(Clone, Serialize, Deserialize)]
struct User {
    id: u64,
    email: String,
}

#[derive(Serialize, Deserialize)]
struct Welcome {
    id: u64,
}
impl Job for Welcome {
    const KIND: &'static str = "welcome";
    const QUEUE: &'static str = "mail";
}

/// Read from a file, from `SHOP_LISTEN` and its like, and from flags; everything that is wrong is told at once.
#[derive(Serialize, Deserialize)]
struct Config {
    listen: String,
    store: String,
    db: String,
}
impl Default for Config {
    fn default() -> Self {
        Config { listen: "127.0.0.1:8080".into(), store: "memory:".into(), db: "shop.example:5432".into() }
    }
}

/// Stands for a real pool; one of deadpool's is adapted in as many lines.
#[derive(Clone)]
struct Db(Arc<Mutex<BTreeMap<u64, User>>>);
impl Db {
    fn connect(_address: &str) -> Db {
        Db(Arc::default())
    }
    async fn insert(&self, user: User) -> std::io::Result<()> {
        self.0.lock().await.insert(user.id, user);
        Ok(())
    }
    async fn find(&self, id: u64) -> std::io::Result<Option<User>> {
        Ok(self.0.lock().await.get(&id).cloned())
    }
}
impl Pool for Db {
    fn status(&self) -> PoolStatus {
        let mut status = PoolStatus::default();
        (status.max, status.size, status.idle) = (1, 1, usize::from(self.0.try_lock().is_ok()));
        status
    }
    async fn check(&self) -> Result<()> {
        drop(self.0.lock().await);
        Ok(())
    }
    async fn close(&self) {}
}

fn mail_is_up() -> std::io::Result<()> {
    Ok(())
}

//! A whole service: a route that enqueues a job and publishes an event in one commit, a worker that runs it under a lock
//! and a policy, a health check, and an orderly end. Run with `cargo run -p mainstay --example shop`, then
//! `curl -d '{"id":7,"email":"ada@example.org"}' -H 'content-type: application/json' localhost:8080/signup`,
//! and stop it with Ctrl-C.

use std::process::ExitCode;

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use mainstay::{
    App, Boot, Client, Event, Job, JobContext, JobError, Result, Weight, Workers, http::ApiError, secs,
};
use serde::{Deserialize, Serialize};

// The service: this is all that mainstay asks for.

#[derive(Serialize, Deserialize)]
struct SendEmail {
    user: u64,
    to: String,
}
impl Job for SendEmail {
    const KIND: &'static str = "send_email";
    const QUEUE: &'static str = "mail";
}

#[derive(Clone)]
struct Shop {
    db: Pool,
    store: Client,
    mail: Mailer,
}

async fn signup(State(s): State<Shop>, Json(u): Json<User>) -> Result<StatusCode, ApiError> {
    // Both or neither.
    s.store
        .commit()
        .enqueue(SendEmail { user: u.id, to: u.email })
        .publish(&UserCreated { id: u.id })
        .await?;
    Ok(StatusCode::ACCEPTED)
}

async fn send_email(job: SendEmail, cx: JobContext<Shop>) -> Result<(), JobError> {
    // Any error = retry by policy.
    let lock = cx.store().lock(&format!("mail:{}", job.user))?.ttl(secs(30)).acquire().await?;
    lock.run(cx.policy("smtp").run(|_| cx.mail.send(&job.to))).await??; // lost lock cancels the send
    Ok(())
}

async fn boot(b: &mut Boot<Config>) -> Result<()> {
    // Order of lines = order of start; stopped in reverse; undone if a later line fails.
    let db = b.component("db", db::open(&b.config.db)).await?;
    let store = b.store(&b.config.store).await?;
    let shop = Shop { db, store, mail: Mailer::new() };
    b.check("db", Weight::Degraded, ping(shop.db.clone()));
    b.http(&b.config.listen, Router::new().route("/signup", post(signup)).with_state(shop.clone()));
    b.workers(Workers::new("mail", shop).on(send_email).concurrency(1..=64));
    Ok(())
}

fn main() -> ExitCode {
    App::new("shop").run(boot) // owns runtime, signals, logs, metrics, probes, drain, exit code
}

// Its own types, as every service has them.

#[derive(Clone, Serialize, Deserialize)]
struct UserCreated {
    id: u64,
}
impl Event for UserCreated {
    const TOPIC: &'static str = "user.created";
}

#[derive(Deserialize)]
struct User {
    id: u64,
    email: String,
}

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

/// Stands for a real mail transport.
#[derive(Clone)]
struct Mailer;
impl Mailer {
    fn new() -> Self {
        Mailer
    }
    async fn send(&self, to: &str) -> std::io::Result<()> {
        println!("mail sent to {to}");
        Ok(())
    }
}

/// Stands for a real connection pool.
#[derive(Clone)]
struct Pool {
    address: String,
}
mod db {
    use super::Pool;
    pub async fn open(address: &str) -> std::io::Result<Pool> {
        Ok(Pool { address: address.to_owned() })
    }
}
fn ping(db: Pool) -> impl Fn() -> std::future::Ready<std::io::Result<()>> {
    move || {
        std::future::ready(match db.address.is_empty() {
            true => Err(std::io::Error::other("no address")),
            false => Ok(()),
        })
    }
}

//! One id from a request to all that it causes: a task, a job, the job's attempts, and what other libraries say.
//!
//! ```sh
//! TRACED_LISTEN=127.0.0.1:8080 TRACED_LOG_FORMAT=logfmt cargo run -p mainstay --example traced
//! curl -H 'x-request-id: me-1' 127.0.0.1:8080/order
//! ```

use std::process::ExitCode;

use axum::{Router, extract::State, routing::get};
use mainstay::{
    App, Boot, Client, Context, Job, JobContext, JobError, Result, TaskSet, Workers, http::ApiError,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Config {
    listen: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: "127.0.0.1:0".into() }
    }
}

#[derive(Serialize, Deserialize)]
struct Ship {
    order: u64,
}
impl Job for Ship {
    const KIND: &'static str = "ship";
    const QUEUE: &'static str = "shipping";
}

#[derive(Clone)]
struct Shop {
    store: Client,
    tasks: TaskSet,
}

async fn order(State(shop): State<Shop>) -> Result<&'static str, ApiError> {
    let mail = shop.tasks.spawn("mail", async {
        tracing::info!("sending a mail");
        // What somebody else's library would say.
        log::info!(target: "smtp", "mail sent");
    });
    Context::current().set("order", 7); // on every line from here on, whoever writes it
    let _ = mail.await;
    shop.store.enqueue(Ship { order: 7 }).await?;
    tracing::info!("order taken");
    Ok("thank you\n")
}

async fn ship(job: Ship, cx: JobContext<()>) -> Result<(), JobError> {
    tracing::info!(job.order, "shipping");
    if cx.attempt() == 1 {
        return Err(JobError::retry("no van"));
    }
    Ok(())
}

async fn boot(b: &mut Boot<Config>) -> Result<()> {
    let store = b.store("memory:").await?;
    let shop = Shop { store, tasks: b.tasks() };
    let routes = Router::new()
        .route("/order", get(order))
        .route("/hello", get(|| async { "hello\n" }))
        .route(
            "/panic",
            get(|| async {
                if true {
                    panic!("oh no")
                }
            }),
        )
        .route(
            "/noise",
            get(|| async { (0..60_000).for_each(|n| tracing::info!(n, filler = "x".repeat(200), "noise")) }),
        );
    let http = b.http(&b.config.listen, routes.with_state(shop));
    b.workers(Workers::new("shipping", ()).on(ship));
    b.on_ready(async move {
        println!("{}", http.bound().await);
        Ok::<_, mainstay::Error>(())
    });
    Ok(())
}

fn main() -> ExitCode {
    App::new("traced").run(boot)
}

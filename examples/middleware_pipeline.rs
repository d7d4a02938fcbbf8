//! Authentication and a rate limit around a handler.
//!
//! Layers run in the order of their lines, and again in reverse on the way out. What goes wrong below comes out of
//! `next.run`: passed on here by `?`, but each layer may catch it.

use std::process::ExitCode;

use mainstay::pipeline::{Next, Pipeline};
use mainstay::rate::{Rate, RateLimiter};

struct Request {
    user: &'static str,
    token: &'static str,
}

type Response = &'static str;
type Error = Box<dyn std::error::Error + Send + Sync>;

async fn auth(request: Request, next: Next<Request, Response, Error>) -> Result<Response, Error> {
    println!("[auth] checking token");
    if request.token != "secret" {
        return Err("unauthenticated".into());
    }
    let response = next.run(request).await?;
    println!("[auth] done");
    Ok(response)
}

async fn rate_limit(
    limiter: RateLimiter,
    request: Request,
    next: Next<Request, Response, Error>,
) -> Result<Response, Error> {
    println!("[rate_limit] checking rate");
    if !limiter.check(request.user).await.is_allowed() {
        return Err("too many requests".into());
    }
    let response = next.run(request).await?;
    println!("[rate_limit] done");
    Ok(response)
}

async fn handler(_: Request) -> Result<Response, Error> {
    println!("[handler] processing request");
    Ok("ok")
}

async fn run() -> Result<(), Error> {
    let limiter = RateLimiter::new("users", Rate::per_second(10))?;
    let service = Pipeline::new()
        .middleware("auth", "nobody unknown gets further", auth)
        .middleware("rate_limit", "who is known may still ask too often", move |request, next| {
            rate_limit(limiter.clone(), request, next)
        })
        .handler(handler);
    eprint!("{}", service.steps());

    let response = service.run(Request { user: "alice", token: "secret" }).await?;
    println!("Response: {response}");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

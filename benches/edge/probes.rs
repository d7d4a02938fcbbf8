//! A service that has everything against it that a probe should not care about.

use std::{convert::Infallible, future::pending, process::ExitCode};

use axum::routing::get;
use mainstay::{App, Boot, Error, Result, Weight, config::Loader, secs};

use crate::servers;

/// Prints the addresses of both listeners.
pub fn run(threads: usize) -> ExitCode {
    let config = Loader::new("edge")
        .default_value("admin_listen", "127.0.0.1:0")
        .default_value("lame_duck_ms", 0)
        .default_value("threads", threads);
    App::<()>::new("edge").config(config).run(boot)
}

async fn boot(b: &mut Boot<()>) -> Result<()> {
    b.check("hangs", Weight::Degraded, pending::<Result<(), Infallible>>);
    b.check("blocks", Weight::Degraded, async || {
        std::thread::sleep(secs(1)); // a client library that is not asynchronous
        Ok::<_, Infallible>(())
    });
    let routes = servers::routes()
        .route("/block", get(async || std::thread::sleep(secs(3600))))
        .route("/slow", get(async || tokio::time::sleep(secs(5)).await));
    let http = b.http("127.0.0.1:0", routes);
    let admin = b.admin_address().ok_or("no admin listener")?;
    b.on_ready(async move {
        println!("{} {admin}", http.bound().await);
        Ok::<_, Error>(())
    });
    Ok(())
}

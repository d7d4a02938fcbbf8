//! A small service that can be asked to misbehave, to watch what its end looks like:
//!
//! ```sh
//! SERVICE_LISTEN=127.0.0.1:8080 SERVICE_GRACE_MS=5000 cargo run --example service
//! curl 127.0.0.1:8080/          # answers
//! curl 127.0.0.1:8080/never     # never answers: is cut and named when the service stops
//! curl 127.0.0.1:8080/block     # blocks its thread: with SERVICE_THREADS=1 only the watchdog ends that
//! ```

use std::process::ExitCode;

use axum::Router;
use axum::routing::get;
use mainstay::{App, Boot, Result, secs};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Config {
    listen: String,
    /// Starts a component that never comes up.
    hang: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: "127.0.0.1:0".into(), hang: false }
    }
}

async fn boot(b: &mut Boot<Config>) -> Result<()> {
    b.component("greeter", async { Ok::<_, mainstay::Error>("hello") }).await?;
    b.on_stop("greeter", secs(1), || async {
        println!("greeter stopped");
        Ok::<_, mainstay::Error>(())
    });
    if b.config.hang {
        println!("hanging");
        b.component("hanging", std::future::pending::<Result<()>>()).await?;
    }
    let routes = Router::new()
        .route("/", get(|| async { "hello\n" }))
        .route("/never", get(std::future::pending::<()>))
        .route("/block", get(|| async { std::thread::sleep(secs(3600)) }));
    let http = b.http(&b.config.listen, routes);
    let admin = b.admin_address();
    b.on_ready(async move {
        let admin = admin.map(|address| address.to_string()).unwrap_or_default();
        println!("{} {admin}", http.bound().await);
        Ok::<_, mainstay::Error>(())
    });
    Ok(())
}

fn main() -> ExitCode {
    App::new("service").run(boot)
}

//! Alive from the first moment, ready once the start-up work is done, whatever its dependencies do.

use std::{future::pending, io, net::SocketAddr, process::ExitCode};

use mainstay::{App, Boot, Error, Result, Shutdown, Weight, config::Loader, millis, secs, shutdown::Phase};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

fn main() -> ExitCode {
    // Probes are on the admin listener, which answers from a thread of its own: also when the service is stuck.
    let config =
        Loader::new("example").default_value("admin_listen", "127.0.0.1:0").default_value("lame_duck_ms", 0);
    App::<()>::new("example").config(config).run(boot)
}

async fn boot(b: &mut Boot<()>) -> Result<()> {
    let probes = b.admin_address().ok_or("there is no admin listener")?;

    // Each is checked in the background, beside the others, within a time limit of its own. Probes read the last
    // result: a cache that hangs holds up neither of them, and being merely degraded it takes the service out of no
    // balancer.
    b.check("database", Weight::Critical, async || Ok::<_, Error>(()));
    b.check("queue", Weight::Critical, async || Ok::<_, Error>(()));
    b.check("cache", Weight::Degraded, pending::<Result<()>>);

    let warm_up = async {
        assert_eq!(status(probes, "/livez").await?, "healthy");
        assert_eq!(status(probes, "/readyz").await?, "not_ready", "nobody may be sent here yet");
        Ok::<_, io::Error>(())
    };
    b.component("warm-up", warm_up).await?;

    b.background("observer", async move |shutdown: Shutdown| {
        shutdown.reached(Phase::Running).await;
        timeout(secs(10), observe(probes)).await.expect("ready in time").expect("probes answer");
        shutdown.begin();
    });
    Ok(())
}

async fn observe(probes: SocketAddr) -> io::Result<()> {
    // Ready when the critical checks have been seen to be up.
    while status(probes, "/readyz").await? != "ready" {
        sleep(millis(1)).await;
    }
    println!("liveness: {}", status(probes, "/livez").await?);
    println!("readiness: {}", status(probes, "/readyz").await?);
    eprintln!("{:#}", probe(probes, "/readyz?verbose").await?); // every dependency, with the age of its last result
    Ok(())
}

async fn status(to: SocketAddr, path: &str) -> io::Result<String> {
    Ok(probe(to, path).await?["status"].as_str().unwrap_or_default().to_owned())
}

async fn probe(to: SocketAddr, path: &str) -> io::Result<Value> {
    let mut stream = TcpStream::connect(to).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: example\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Ok(serde_json::from_str(body)?)
}

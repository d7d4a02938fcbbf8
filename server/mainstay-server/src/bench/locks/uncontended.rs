//! Acquire and release, by one who is alone.

use std::time::Duration;

use mainstay::Client;
use tokio::{sync::Mutex, time::Instant};

use super::{
    super::{
        Error, Result,
        args::{LocksArgs, seconds},
        latency::Latency,
        server::Server,
        wire::Connection,
    },
    Uncontended, acquire, release, releasing, wanted,
};

/// Cycles of the mutex: each is too short for a clock.
const MUTEX_CYCLES: u32 = 1_000_000;

/// What a lock of one process costs.
pub(super) async fn mutex() -> Uncontended {
    let mutex = Mutex::new(0_u64);
    let began = Instant::now();
    for _ in 0..MUTEX_CYCLES {
        *std::hint::black_box(&mutex).lock().await += 1;
    }
    let took = began.elapsed().as_secs_f64();
    Uncontended { subject: "tokio::sync::Mutex", cycles_per_second: f64::from(MUTEX_CYCLES) / took, ms: None }
}

pub(super) async fn in_process(
    subject: &'static str,
    client: &Client,
    args: &LocksArgs,
) -> Result<Uncontended> {
    let wanted = wanted("uncontended", "bench", None)?;
    measured(subject, args, async || {
        let grant = acquire(client, wanted.clone()).await?;
        release(client, &grant).await
    })
    .await
}

pub(super) async fn over_http(
    subject: &'static str,
    server: &Server,
    args: &LocksArgs,
) -> Result<Uncontended> {
    let mut connection = Connection::open(server.api).await?;
    measured(subject, args, async || {
        let granted = connection.ask("POST", "/v1/locks/uncontended/acquire", r#"{"owner":"bench"}"#).await?;
        let release = releasing(granted)?;
        connection.ask("POST", "/v1/locks/uncontended/release", &release).await.map(drop)
    })
    .await
}

async fn measured(
    subject: &'static str,
    args: &LocksArgs,
    mut cycle: impl AsyncFnMut() -> Result<()>,
) -> Result<Uncontended> {
    let warm = Instant::now() + seconds(args.seconds / 4.0);
    while Instant::now() < warm {
        cycle().await?;
    }
    let (latency, began, mut cycles) = (Latency::new(), Instant::now(), 0_u64);
    let end = seconds(args.seconds);
    while began.elapsed() < end {
        let at = Instant::now();
        cycle().await?;
        latency.record(at.elapsed());
        cycles += 1;
    }
    let took: Duration = began.elapsed();
    if cycles == 0 {
        return Err(Error::new(format!("{subject}: not one cycle in {} s", args.seconds)));
    }
    Ok(Uncontended {
        subject,
        cycles_per_second: cycles as f64 / took.as_secs_f64(),
        ms: Some(latency.quantiles()),
    })
}

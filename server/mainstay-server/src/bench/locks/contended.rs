//! Hand-overs: one holds, the others wait in line.

use std::{
    future::{Future, pending},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mainstay::{Client, TaskSet, client::Acquisition, core::lock::Ticket};
use tokio::time::Instant;

use super::{
    super::{
        Error, Result,
        args::{LocksArgs, seconds},
        drive::within,
        latency::Latency,
        server::Server,
        wire::Connection,
    },
    Contended, release, releasing, wanted,
};

/// Nobody waits longer than this; one who does has been forgotten.
const WAIT: Duration = Duration::from_secs(50);
const LOCK: &str = "contended";

/// What all contenders share.
struct Race {
    /// When the last release was sent.
    released: Mutex<Option<Instant>>,
    latency: Latency,
    measuring: AtomicBool,
    over: AtomicBool,
}

impl Race {
    fn granted(&self) {
        let released = self.released.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(released) = released.filter(|_| self.measuring.load(Ordering::Relaxed)) {
            self.latency.record(released.elapsed());
        }
    }

    fn releasing(&self) {
        *self.released.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

pub(super) async fn in_process(
    subject: &'static str,
    client: &Client,
    waiters: usize,
    args: &LocksArgs,
) -> Result<Contended> {
    measured(subject, waiters, args, |race, number| contend(client.clone(), race, number)).await
}

async fn contend(client: Client, race: Arc<Race>, number: usize) -> Result<()> {
    let mut round = 0_u64;
    while !race.is_over() {
        round += 1;
        let mut scope = [0; 16];
        scope[..8].copy_from_slice(&(number as u64).to_le_bytes());
        scope[8..].copy_from_slice(&round.to_le_bytes());
        let ticket = Ticket { scope, fingerprint: [0; 16] };
        let wanted = wanted(LOCK, &format!("w{number}"), Some(ticket))?;
        let acquired = client.acquire(wanted, WAIT, pending()).await;
        match acquired.map_err(Error::doing("cannot wait for a lock"))? {
            Acquisition::Granted { grant, .. } => {
                race.granted();
                race.releasing();
                release(&client, &grant).await?;
            }
            other => return Err(Error::new(format!("a waiter was not served in a minute: {other:?}"))),
        }
    }
    Ok(())
}

pub(super) async fn over_http(
    subject: &'static str,
    server: &Server,
    waiters: usize,
    args: &LocksArgs,
) -> Result<Contended> {
    let api = server.api;
    measured(subject, waiters, args, |race, number| async move {
        let mut connection = Connection::open(api).await?;
        let body = format!(r#"{{"owner":"w{number}","wait_ms":{}}}"#, WAIT.as_millis());
        while !race.is_over() {
            let granted = within(connection.ask("POST", "/v1/locks/contended/acquire", &body)).await?;
            race.granted();
            let release = releasing(granted)?;
            race.releasing();
            within(connection.ask("POST", "/v1/locks/contended/release", &release)).await?;
        }
        Ok(())
    })
    .await
}

async fn measured<F: Future<Output = Result<()>> + Send + 'static>(
    subject: &'static str,
    waiters: usize,
    args: &LocksArgs,
    contender: impl Fn(Arc<Race>, usize) -> F,
) -> Result<Contended> {
    let race = Arc::new(Race {
        released: Mutex::new(None),
        latency: Latency::new(),
        measuring: AtomicBool::new(false),
        over: AtomicBool::new(false),
    });
    let tasks = TaskSet::current().ok_or_else(|| Error::new("no runtime"))?;
    let contenders = (0..=waiters).map(|number| tasks.spawn("contender", contender(race.clone(), number)));
    let contenders: Vec<_> = contenders.collect();
    tokio::time::sleep(seconds(args.seconds / 4.0)).await;
    race.measuring.store(true, Ordering::Relaxed);
    let began = Instant::now();
    tokio::time::sleep(seconds(args.seconds)).await;
    race.measuring.store(false, Ordering::Relaxed);
    let took = began.elapsed().as_secs_f64();
    race.over.store(true, Ordering::Relaxed);
    for contender in contenders {
        within(async { contender.await.map_err(Error::doing("a contender"))? }).await?;
    }
    let grants = race.latency.count();
    if grants == 0 {
        return Err(Error::new(format!("{subject}, {waiters} waiters: no hand-over was measured")));
    }
    Ok(Contended { subject, waiters, grants_per_second: grants as f64 / took, ms: race.latency.quantiles() })
}

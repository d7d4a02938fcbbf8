//! `mainstay bench locks`: what a lock costs that nobody else wants, how long a hand-over takes when many want it, and
//! what it takes to hold very many.

mod contended;
mod held;
mod report;
mod uncontended;

use mainstay::{
    Client,
    core::{
        lock::{Acquire, LockGrant, LockMode, LockOp, LockReply, Owner, Ticket},
        name::Name,
        op::{Op, Reply},
    },
};
use serde::Serialize;

use super::{
    Error, Result,
    args::LocksArgs,
    drive::within,
    latency::Quantiles,
    machine,
    report::note,
    scratch::Scratch,
    server::Server,
    site::Database,
    store::{close, open},
};

/// Long enough that none runs out while it is measured.
const TTL_MS: u64 = 86_400_000;

/// All that was found.
#[derive(Serialize)]
struct Found {
    load_before: Option<f64>,
    /// What the store is in, if it is not on this disk.
    database: Option<String>,
    load_after: Option<f64>,
    uncontended: Vec<Uncontended>,
    contended: Vec<Contended>,
    held: Option<Held>,
}

/// Acquire and release by one who is alone.
#[derive(Serialize)]
struct Uncontended {
    subject: &'static str,
    cycles_per_second: f64,
    /// Of a whole cycle. `None`: too short to be measured one by one.
    ms: Option<Quantiles>,
}

/// From the sending of a release to the arrival of the next grant.
#[derive(Serialize)]
struct Contended {
    subject: &'static str,
    waiters: usize,
    grants_per_second: f64,
    ms: Quantiles,
}

/// Very many locks at once, in the durable store.
#[derive(Serialize)]
struct Held {
    locks: u64,
    bytes_per_lock: Option<f64>,
    renewals_per_second_of_64_callers: f64,
    renewals_per_second_in_batches: f64,
}

/// Measures and tells.
pub(super) fn run(args: &LocksArgs, json: bool) -> Result<()> {
    let args = args.settled();
    args.check().map_err(Error::new)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(args.threads()).enable_all().build();
    let found = runtime.map_err(Error::doing("cannot start"))?.block_on(measure(&args))?;
    report::print(&args, &found, json)
}

async fn measure(args: &LocksArgs) -> Result<Found> {
    let scratch = Scratch::new(&args.dir, args.keep, args.store.url())?;
    let [name, over_http] = scratch.site("store").names();
    let mut found = Found {
        load_before: machine::load(),
        database: scratch.database().map(Database::about).transpose()?,
        load_after: None,
        uncontended: Vec::new(),
        contended: Vec::new(),
        held: None,
    };
    // First, while the process is small.
    if args.held > 0 {
        note(&format!("holding {} locks", args.held));
        found.held = Some(held::measure(args, &scratch.site("held")).await?);
    }
    note("measuring locks that nobody else wants");
    found.uncontended.push(uncontended::mutex().await);
    let memory = Client::memory();
    found.uncontended.push(uncontended::in_process("memory store", &memory, args).await?);
    let durable = within(open(&scratch.site("store"))).await?;
    found.uncontended.push(uncontended::in_process(name, &durable, args).await?);
    let server = Server::start(&scratch.site("server"), scratch.path()).await?;
    found.uncontended.push(uncontended::over_http(over_http, &server, args).await?);
    for &waiters in &args.waiters {
        note(&format!("measuring hand-overs among {waiters} waiters"));
        found.contended.push(contended::in_process("memory store", &memory, waiters, args).await?);
        found.contended.push(contended::in_process(name, &durable, waiters, args).await?);
        found.contended.push(contended::over_http(over_http, &server, waiters, args).await?);
    }
    close(&durable).await?;
    server.stop().await?;
    found.load_after = machine::load();
    Ok(found)
}

/// Somebody who wants a lock alone.
fn wanted(lock: &str, owner: &str, ticket: Option<Ticket>) -> Result<Acquire> {
    Ok(Acquire {
        name: Name::new(lock).map_err(Error::doing("the name of a lock"))?,
        owner: Owner::new(owner).map_err(Error::doing("an owner"))?,
        mode: LockMode::Exclusive,
        ttl_ms: TTL_MS,
        delay_ms: 0,
        ticket,
        wait_ms: 0,
        visit: 0,
        again: false,
        keep_place: false,
    })
}

async fn acquire(client: &Client, wanted: Acquire) -> Result<LockGrant> {
    let op = Op::Lock(LockOp::Acquire(Box::new(wanted)));
    match client.apply(op).await.map_err(Error::doing("cannot have a lock"))? {
        Reply::Lock(LockReply::Granted(grant)) => Ok(grant),
        other => Err(Error::new(format!("an acquire was answered with {other:?}"))),
    }
}

async fn release(client: &Client, grant: &LockGrant) -> Result<()> {
    let op = LockOp::Release { name: grant.name.clone(), lease: grant.lease };
    client.apply(Op::Lock(op)).await.map(drop).map_err(Error::doing("cannot release a lock"))
}

/// What an acquire over HTTP got.
#[derive(serde::Deserialize)]
struct Lease {
    lease: String,
}

/// The body of the release of a grant that was got over HTTP.
fn releasing(answer: &[u8]) -> Result<String> {
    let Lease { lease } = serde_json::from_slice(answer).map_err(Error::doing("the answer to an acquire"))?;
    Ok(format!(r#"{{"lease":"{lease}"}}"#))
}

//! What is measured once, beside the matrix.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use mainstay::core::{
    job::Outcome,
    op::{Claim, Op, Reply, Settle},
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    Error, Result,
    cell::Spec,
    drive::within,
    machine::{Memory, memory},
    scratch::Scratch,
    server::Server,
    store::{LEASE_MS, open, queues},
};

/// A store that was opened again after its process ended without closing it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Opened {
    /// Until it was open.
    pub(super) open_seconds: f64,
    /// Until the first claim was answered, opening included.
    pub(super) first_claim_seconds: f64,
    /// The journal and SQLite's log, of which a part had to be replayed; a database has none of its own.
    pub(super) journal_bytes: u64,
    /// Right after the opening.
    pub(super) memory: Option<Memory>,
}

/// Opens the store, claims one job and gives it back.
pub(super) async fn reopen(spec: &Spec, evict: bool) -> Result<Opened> {
    let journal_bytes = match spec.site.file() {
        Some(path) => at_rest(path, evict)?,
        None => 0,
    };
    let started = Instant::now();
    let client = within(open(&spec.site)).await?;
    let open_seconds = started.elapsed().as_secs_f64();
    let memory = memory(None);
    let claim =
        Claim { queues: queues(spec.queues)?, max: 1, max_bytes: 16 << 20, lease_ms: LEASE_MS, worker: None };
    let refused = || Error::doing("the store refused");
    let reply = client.apply(Op::Claim(claim)).await.map_err(refused())?;
    let first_claim_seconds = started.elapsed().as_secs_f64();
    let Reply::Claimed(grants) = reply else {
        return Err(Error::new("a claim was answered with something else"));
    };
    if grants.is_empty() && spec.backlog > 0 {
        return Err(Error::new("jobs were lost: there was none to claim"));
    }
    for grant in grants {
        let outcome = Outcome::Release { delay_ms: 0 };
        let settle = Settle { id: grant.id, lease: grant.lease, outcome, repeat_is_ok: true };
        client.apply(Op::Settle(settle)).await.map_err(refused())?;
    }
    Ok(Opened { open_seconds, first_claim_seconds, journal_bytes, memory })
}

/// Bytes of the journal of the store in this file. With `evict`, the system forgets what it keeps of all its files.
fn at_rest(path: &Path, evict: bool) -> Result<u64> {
    let beside = |ending: String| {
        let mut path = path.to_owned().into_os_string();
        path.push(ending);
        PathBuf::from(path)
    };
    let segments = (1..).map(|number| beside(format!("-log{number}"))).take_while(|path| path.exists());
    let mut files: Vec<_> = segments.collect();
    files.push(beside("-wal".into()));
    let bytes = files.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|meta| meta.len()).sum();
    if evict {
        files.push(path.to_owned());
        files.iter().try_for_each(|path| forget_pages(path))?;
    }
    Ok(bytes)
}

/// The system reads the file from the disk again; the disk may have a cache of its own, of which nobody knows.
fn forget_pages(path: &Path) -> Result<()> {
    let Ok(file) = File::open(path) else { return Ok(()) };
    file.sync_all().map_err(Error::doing("cannot sync the store"))?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)
        .map_err(Error::doing("cannot evict the store"))
}

/// An empty server.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct EmptyServer {
    /// From before its process was made until `/readyz` said 200.
    pub(super) ready_ms: f64,
    /// A second later: what it took to start has gone back.
    pub(super) memory: Option<Memory>,
}

/// Starts a server on a store of its own that is not there yet.
pub(super) async fn empty_server(scratch: &Scratch, number: usize) -> Result<EmptyServer> {
    let server = Server::start(&scratch.site(&format!("none-{number}")), scratch.path()).await?;
    let ready_ms = server.ready_after.as_secs_f64() * 1e3;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let found = EmptyServer { ready_ms, memory: memory(server.pid) };
    server.stop().await?;
    Ok(found)
}

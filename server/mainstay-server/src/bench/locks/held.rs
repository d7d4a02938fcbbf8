//! Very many locks held at once, in the durable store, in this process.

use mainstay::{
    Client, TaskSet,
    core::{
        lock::{LockGrant, LockOp, LockReply},
        op::{Commit, Op, Reply},
        rules::mix,
        store::{Batch, JobFilter, Page},
    },
};
use tokio::time::Instant;

use super::{
    super::{
        Error, Result,
        args::{LocksArgs, seconds},
        drive::within,
        machine,
        site::Site,
        store::{close, open},
    },
    Held, TTL_MS, wanted,
};

/// Locks that are acquired or renewed by one call: what a client that holds many does.
const BATCH: usize = 1_000;
/// Callers that renew one lock a call.
const CALLERS: usize = 64;

pub(super) async fn measure(args: &LocksArgs, site: &Site) -> Result<Held> {
    let client = within(open(site)).await?;
    tables_follow(&client).await?;
    let before = machine::memory(None);
    let mut grants: Vec<LockGrant> = Vec::new();
    for first in (0..args.held).step_by(BATCH) {
        let numbers = first..args.held.min(first + BATCH as u64);
        let wanted = numbers
            .map(|number| Ok(LockOp::Acquire(Box::new(wanted(&format!("held:{number}"), "bench", None)?))));
        grants.extend(submit(&client, wanted.collect::<Result<_>>()?).await?);
    }
    tables_follow(&client).await?;
    let after = machine::memory(None);
    // What this program keeps of each grant is not the store's.
    let own = grants.len() as f64 * size_of::<LockGrant>() as f64;
    let grown = before.zip(after).map(|(before, after)| after.anon.saturating_sub(before.anon) as f64 - own);
    let alone = renewals(&client, &grants, args, 1).await?;
    let in_batches = renewals(&client, &grants, args, BATCH).await?;
    close(&client).await?;
    Ok(Held {
        locks: args.held,
        bytes_per_lock: grown.map(|bytes| (bytes / args.held as f64).max(0.0)),
        renewals_per_second_of_64_callers: alone,
        renewals_per_second_in_batches: in_batches,
    })
}

/// Renewals a second, `batch` a call.
async fn renewals(client: &Client, grants: &[LockGrant], args: &LocksArgs, batch: usize) -> Result<f64> {
    let callers = if batch == 1 { CALLERS } else { 2 };
    let began = Instant::now();
    let end = seconds(args.seconds);
    let tasks = TaskSet::current().ok_or_else(|| Error::new("no runtime"))?;
    let mut running = Vec::new();
    for share in grants.chunks(grants.len().div_ceil(callers).max(1)) {
        let (client, share) = (client.clone(), share.to_vec());
        running.push(tasks.spawn("caller", async move {
            let mut renewed = 0_u64;
            for grants in share.chunks(batch).cycle() {
                if began.elapsed() >= end {
                    break;
                }
                let renew = |grant: &LockGrant| LockOp::Renew {
                    name: grant.name.clone(),
                    lease: grant.lease,
                    ttl_ms: Some(TTL_MS),
                };
                submit(&client, grants.iter().map(renew).collect()).await?;
                renewed += grants.len() as u64;
            }
            Ok::<u64, Error>(renewed)
        }));
    }
    let mut renewed = 0;
    for caller in running {
        renewed += within(async { caller.await.map_err(Error::doing("a caller"))? }).await?;
    }
    Ok(renewed as f64 / began.elapsed().as_secs_f64())
}

/// Each op stands alone, all share one durability point. Answers the grants.
async fn submit(client: &Client, ops: Vec<LockOp>) -> Result<Vec<LockGrant>> {
    let entropy = client.entropy();
    let commits = ops.into_iter().enumerate();
    let commits = commits.map(|(n, op)| Commit::of(Op::Lock(op), mix(entropy, n as u64))).collect();
    let answers = client.submit(Batch { commits, within: None }).await;
    let mut grants = Vec::new();
    for answer in answers.map_err(Error::doing("the store"))? {
        let replies = answer.map_err(Error::doing("a lock"))?.replies;
        if let Some(Reply::Lock(LockReply::Granted(grant))) = replies.into_iter().next() {
            grants.push(grant);
        }
    }
    Ok(grants)
}

/// A list is read from the tables, once they have everything.
async fn tables_follow(client: &Client) -> Result<()> {
    let page = Page { limit: 1, cursor: None };
    client.jobs(JobFilter::default(), page).await.map(drop).map_err(Error::doing("cannot read the store"))
}

//! Fills a store with jobs that wait.

use mainstay::core::{
    op::{Commit, Op},
    store::Batch,
};

use super::{
    Error, Result,
    cell::Spec,
    payload::Random,
    store::{close, depth, key, make_queues, new_job, open, queues},
};

/// Jobs of one commit.
const BATCH: u64 = 2_000;

/// Brings the number of waiting jobs to what the cell says; leaves a store alone that has it.
pub(super) async fn fill(spec: &Spec) -> Result<()> {
    let client = open(&spec.site).await?;
    let queues = queues(spec.queues)?;
    make_queues(&client, &queues, spec.keep_finished).await?;
    let mut random = Random::new(client.entropy());
    let mut text = String::new();
    let mut waiting = depth(&client, &queues).await?.available;
    while waiting < spec.backlog {
        let count = BATCH.min(spec.backlog - waiting);
        let ops = (waiting..waiting + count).map(|i| {
            let queue = &queues[(i % queues.len() as u64) as usize];
            let mut job = new_job(&client, queue, &mut random, spec.payload_bytes, &mut text);
            job.keys.concurrency = key(spec.keys, i);
            Op::Enqueue(Box::new(job))
        });
        let commit = Commit { ops: ops.collect(), entropy: client.entropy(), ..Commit::default() };
        let answers =
            client.store().submit(Batch::one(commit)).await.map_err(Error::doing("cannot fill the store"))?;
        for answer in answers {
            answer.map_err(Error::doing("cannot fill the store"))?;
        }
        waiting += count;
    }
    let found = depth(&client, &queues).await?.available;
    if found != spec.backlog {
        return Err(Error::new(format!("the store has {found} waiting jobs, not {}", spec.backlog)));
    }
    close(&client).await
}

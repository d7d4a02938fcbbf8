//! Fills a store with jobs that wait.

use mainstay::core::{
    op::{Commit, Op},
    store::Batch,
};

use super::{
    Error, Result,
    cell::Spec,
    payload::Random,
    store::{close, depth, make_queues, new_job, open, queues},
};

/// Jobs of one commit.
const BATCH: u64 = 2_000;

/// Brings the number of waiting jobs to what the cell says; leaves a store alone that has it.
pub(super) async fn fill(spec: &Spec) -> Result<()> {
    let client = open(&spec.path).await?;
    let queues = queues(spec.queues)?;
    make_queues(&client, &queues, spec.keep_finished).await?;
    let mut random = Random::new(client.entropy());
    let mut text = String::new();
    let mut waiting = depth(&client, &queues).await?.available;
    while waiting < spec.backlog {
        let count = BATCH.min(spec.backlog - waiting);
        let ops = (waiting..waiting + count).map(|i| {
            let queue = &queues[(i % queues.len() as u64) as usize];
            Op::Enqueue(Box::new(new_job(&client, queue, &mut random, spec.payload_bytes, &mut text)))
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

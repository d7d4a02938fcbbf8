//! One commit as a call to a server.

use mainstay_api::{
    client::{ApiError, HttpClient},
    types as wire,
};
use mainstay_core::{
    Timestamp,
    clock::Clock,
    event::EventOp,
    job::Outcome,
    lock::{LockOp, LockReply},
    op::{Claim, Commit, Committed, Failure, IdempotencyKey, Op, Place, Reason, Rejection, Reply, Require},
};

use super::{
    MAX_COMMIT_OPS, convert, events, fault, locks, read::unsupported, schedules, submit, tickets::Tickets,
};

type Answer = Result<Committed, Failure>;

/// What calls are made with.
pub(super) struct Server<'a> {
    pub client: &'a HttpClient,
    pub tickets: &'a Tickets,
    pub clock: &'a dyn Clock,
}

pub(super) fn one(reply: Reply) -> Committed {
    Committed { replies: vec![reply], repeated: false }
}

/// Applies a commit by the call that says it.
pub(super) async fn commit(server: &Server<'_>, commit: &Commit) -> Answer {
    let client = server.client;
    let is_keyed = commit.key.is_some();
    let keyed = match &commit.key {
        Some(key) => {
            client.with_key(&key_text(key)).map_err(|error| Failure::from(fault::trouble(&error)))?
        }
        None => client.clone(),
    };
    // The trace that the jobs were made in is the call's.
    let trace = commit.ops.iter().find_map(|op| match op {
        Op::Enqueue(job) => job.body.traceparent.as_deref(),
        _ => None,
    });
    let keyed = keyed.with_trace(trace);
    match commit.ops.as_slice() {
        [] if commit.require.is_empty() => Ok(Committed { replies: Vec::new(), repeated: false }),
        [op] if commit.require.is_empty() && !is_for_commit(op) => {
            alone(&Server { client: &keyed, ..*server }, op, is_keyed).await
        }
        ops => together(&keyed, &commit.require, ops, is_keyed).await,
    }
}

/// The scope is a hash of whoever asks, what and under which key; what is asked the server compares itself.
pub(super) fn key_text(key: &IdempotencyKey) -> String {
    key.scope.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_for_commit(op: &Op) -> bool {
    matches!(op, Op::Settle(_) | Op::Event(EventOp::Ack { .. }))
}

/// One op, by its own call.
async fn alone(server: &Server<'_>, op: &Op, keyed: bool) -> Answer {
    let client = server.client;
    let no = |error: ApiError| fault::of_op(&error, op);
    let time = |at: mainstay_api::Timestamp| Timestamp(at.0);
    let reply = match op {
        Op::Enqueue(job) => {
            let made = client.enqueue(job.queue.as_str(), &convert::new_job(job, keyed)).await.map_err(no)?;
            Reply::Enqueued(convert::enqueued(&made)?)
        }
        Op::Claim(claim) => {
            let claimed = client.claim(&wire_claim(claim)).await.map_err(no)?;
            return submit::claimed(&claimed.jobs);
        }
        Op::Extend { id, lease, extend_ms, progress } => {
            let progress = progress.as_ref().map(convert::raw);
            let extend = wire::Extend { lease: lease.to_string(), extend_ms: *extend_ms, progress };
            let extended = client.extend(convert::wire_id(*id), &extend).await.map_err(no)?;
            let (expires_at, cancel_requested) = (time(extended.expires_at), extended.cancel_requested);
            Reply::Extended { id: *id, expires_at, cancel_requested }
        }
        Op::Cancel { id } => {
            let answer = client.cancel(convert::wire_id(*id)).await.map_err(no)?;
            let (state, cancel_requested) = (convert::state(answer.state), answer.cancel_requested);
            Reply::Cancelled { state, cancel_requested }
        }
        Op::Retry { id } => {
            let answer = client.retry(convert::wire_id(*id)).await.map_err(no)?;
            let run_at = answer.run_at.map_or_else(Timestamp::default, time);
            Reply::Retried { state: convert::state(answer.state), run_at }
        }
        Op::Delete { id } => {
            client.delete_job(convert::wire_id(*id)).await.map_err(no)?;
            Reply::Deleted
        }
        Op::RequeueDead { queue, ids } => {
            let changed = client.requeue_dead(queue.as_str(), &select(ids)).await.map_err(no)?;
            Reply::Count(changed.changed)
        }
        Op::DeleteDead { queue, ids } => {
            let changed = client.delete_dead(queue.as_str(), &select(ids)).await.map_err(no)?;
            Reply::Count(changed.changed)
        }
        // The server goes on until nothing is left, whatever the limit; who calls again finds nothing.
        Op::Purge { queue, .. } => Reply::Count(client.purge(queue.as_str()).await.map_err(no)?.purged),
        Op::PutQueue { queue, config } => {
            client.put_queue(queue.as_str(), &convert::wire_config(config)).await.map_err(no)?;
            Reply::Done
        }
        Op::SetPaused { queue, paused: true } => {
            client.pause(queue.as_str()).await.map_err(no)?;
            Reply::Done
        }
        Op::SetPaused { queue, paused: false } => {
            client.resume(queue.as_str()).await.map_err(no)?;
            Reply::Done
        }
        Op::DeleteQueue { queue } => {
            client.delete_queue(queue.as_str()).await.map_err(no)?;
            Reply::Done
        }
        Op::Lock(_) => return locks::one(client, server.tickets, server.clock.now().store, op).await,
        Op::Event(_) => return events::one(client, op, keyed).await,
        Op::Schedule(_) => return schedules::one(client, op).await,
        _ => return Err(unsupported("that change").into()),
    };
    Ok(one(reply))
}

fn select(ids: &[mainstay_core::JobId]) -> wire::DeadSelect {
    let ids = ids.iter().map(|id| convert::wire_id(*id)).collect();
    wire::DeadSelect { ids: Some(ids), ..wire::DeadSelect::default() }
}

pub(super) fn wire_claim(claim: &Claim) -> wire::Claim {
    wire::Claim {
        queues: claim.queues.iter().map(ToString::to_string).collect(),
        max: claim.max,
        lease_ms: claim.lease_ms,
        wait_ms: 0,
        worker: claim.worker.as_ref().map(ToString::to_string),
    }
}

/// All of it, or nothing.
async fn together(client: &HttpClient, require: &[Require], ops: &[Op], keyed: bool) -> Answer {
    if ops.len() > MAX_COMMIT_OPS as usize {
        let detail = format!("a commit to a server has at most {MAX_COMMIT_OPS} ops, this one {}", ops.len());
        return Err(Rejection { at: Place::Commit, reason: Reason::Invalid { field: "ops", detail } }.into());
    }
    let mut wired = Vec::with_capacity(ops.len());
    for op in ops {
        wired.push(wire_op(op, keyed).ok_or_else(|| {
            unsupported(
                "a commit with anything but enqueues, publishes, acknowledgements, releases of locks and the ends \
                 of claims (complete, fail, release)",
            )
        })?);
    }
    let required = require.iter().map(|require| match require {
        Require::Job { id, lease } => {
            Ok(wire::Require::Job { job: convert::wire_id(*id), lease: lease.to_string() })
        }
        Require::Lock { name, token } => Ok(wire::Require::Lock { lock: name.to_string(), token: token.0 }),
        Require::Repeat => Err(unsupported("a commit that is only to be a repeat")),
    });
    let commit = wire::Commit { require: required.collect::<Result<_, _>>()?, ops: wired };
    let committed = client.commit(&commit).await.map_err(|error| fault::of_commit(&error, require, ops))?;
    let mut replies = Vec::with_capacity(ops.len());
    for (result, op) in committed.results.iter().zip(ops) {
        replies.push(match (result, op) {
            (wire::CommitResult::Enqueued(made), _) => Reply::Enqueued(convert::enqueued(made)?),
            (wire::CommitResult::State(answer), Op::Settle(settle)) => Reply::Settled {
                id: settle.id,
                state: convert::state(answer.state),
                run_at: answer.run_at.map(|at| Timestamp(at.0)),
            },
            (wire::CommitResult::Published(made), Op::Event(EventOp::Publish(_))) => {
                Reply::Event(events::published(made))
            }
            (wire::CommitResult::Acked { .. }, Op::Event(EventOp::Ack { .. })) => Reply::Done,
            (wire::CommitResult::Released(_), Op::Lock(LockOp::Release { .. })) => {
                Reply::Lock(LockReply::Released)
            }
            _ => return Err(convert::senseless("commit", "a result of another op").into()),
        });
    }
    if replies.len() != ops.len() {
        return Err(convert::senseless("commit", "another number of results than ops").into());
    }
    Ok(Committed { replies, repeated: false })
}

fn wire_op(op: &Op, keyed: bool) -> Option<wire::CommitOp> {
    Some(match op {
        Op::Enqueue(job) => wire::CommitOp::Enqueue {
            queue: job.queue.to_string(),
            job: Box::new(convert::new_job(job, keyed)),
        },
        Op::Settle(settle) => {
            let (id, lease) = (convert::wire_id(settle.id), settle.lease.to_string());
            match &settle.outcome {
                Outcome::Complete { result } => {
                    wire::CommitOp::Complete { id, lease, result: result.as_ref().map(convert::raw) }
                }
                Outcome::Fail { error, retry } => wire::CommitOp::Fail {
                    id,
                    lease,
                    error: convert::failure(error),
                    retry: convert::retry(*retry),
                },
                Outcome::Release { delay_ms } => wire::CommitOp::Release { id, lease, delay_ms: *delay_ms },
                Outcome::Cancel { .. } => return None,
            }
        }
        Op::Event(EventOp::Publish(publish)) => wire::CommitOp::Publish {
            topic: publish.topic.to_string(),
            event: events::written(publish, keyed),
        },
        Op::Event(EventOp::Ack { group, lease }) => {
            wire::CommitOp::Ack { group: group.to_string(), lease: lease.to_string() }
        }
        Op::Lock(LockOp::Release { name, lease }) => {
            wire::CommitOp::ReleaseLock { name: name.to_string(), lease: lease.to_string() }
        }
        _ => return None,
    })
}

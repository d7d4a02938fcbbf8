//! What was found is worked with: it must go on as if there had been no crash.

use mainstay_core::{
    Store, Timestamp, Token, TopicName,
    event::{Event, EventOp, EventReply, Publish},
    lock::{Acquire, LockOp, LockReply},
    op::{Commit, Committed, Op, Reply, Settle},
    schedule::{Fire, ScheduleOp},
    store::Batch,
};
use mainstay_testkit::world::COMPLETE;

use super::{Everything, Witness};
use crate::crash::{
    caller::{Caller, Chance},
    ledger::{Act, Ledger, locks::Holder},
};

/// What was granted can be settled, and what came under a key comes again, once.
pub(super) async fn work_on(
    store: &dyn Store,
    witness: &Witness,
    ledger: Ledger,
    now: Timestamp,
) -> Result<(), String> {
    if let Some((Act::Commit(commit), at)) = &witness.begun
        && commit.key.is_some()
    {
        submit(store, commit.clone()).await.map_err(|e| format!("the unanswered {commit:?} again: {e}"))?;
        let everything = Everything::of(store).await?;
        // It happened when it was asked for first, or only now.
        let fits = |at| {
            let after = witness.ledger.after(&Act::Commit(commit.clone()), at);
            after.fits(&everything.of_queue(&after))
        };
        fits(*at)
            .or_else(|_| fits(now))
            .map_err(|e| format!("{commit:?} asked again did not happen once: {e}"))?;
    }
    if let Some(commit) = &witness.ledger.keyed {
        let again =
            submit(store, commit.clone()).await.map_err(|e| format!("the answered {commit:?} again: {e}"))?;
        // A claim whose grants have all ended, or that got none, is tried anew.
        if !again.repeated && !matches!(commit.ops[0], Op::Claim(_)) {
            return Err(format!("{commit:?} was answered under its key, and the key is forgotten"));
        }
    }
    for (id, lease) in ledger.running() {
        let Some(lease) = lease else { continue };
        let settle = Settle { id, lease, outcome: COMPLETE, repeat_is_ok: true };
        let done = submit(store, Commit::of(Op::Settle(settle), 1)).await;
        done.map_err(|e| format!("the live lease {lease:?} of job {id} cannot be settled: {e}"))?;
    }
    for delivery in &ledger.events.deliveries {
        let Some(lease) = delivery.lease else { continue };
        let ack = Op::Event(EventOp::Ack { group: ledger.queue.clone(), lease });
        let done = submit(store, Commit::of(ack, 1)).await;
        done.map_err(|e| format!("the live delivery {lease:?} cannot be acknowledged: {e}"))?;
    }
    work_with_locks(store, &ledger).await?;
    work_with_schedules(store, &ledger).await
}

/// A lease that is over opens nothing, one that lives can be renewed and given back, and who waits has its turn then,
/// under a higher token.
async fn work_with_locks(store: &dyn Store, ledger: &Ledger) -> Result<(), String> {
    let lock = async |op: LockOp| match submit(store, Commit::of(Op::Lock(op.clone()), 1)).await {
        Ok(Committed { mut replies, .. }) => Ok(replies.remove(0)),
        Err(e) => Err(format!("{op:?}: {e}")),
    };
    let granted = async |ask: &Acquire| match lock(LockOp::Acquire(Box::new(ask.clone()))).await? {
        Reply::Lock(LockReply::Granted(grant)) => Ok(grant),
        other => Err(format!("{ask:?} was to be granted, but: {other:?}")),
    };
    for (name, line) in &ledger.locks.lines {
        let release = async |lease| lock(LockOp::Release { name: name.clone(), lease }).await.map(drop);
        if let Some(lease) = line.ended
            && let Ok(reply) = lock(LockOp::Renew { name: name.clone(), lease, ttl_ms: None }).await
        {
            return Err(format!("the lease {lease:?} of lock {name} is over, and was renewed: {reply:?}"));
        }
        for Holder { ask, lease, .. } in &line.holders {
            let lease = match lease {
                Some(lease) => *lease,
                None => granted(ask).await?.lease,
            };
            lock(LockOp::Renew { name: name.clone(), lease, ttl_ms: None }).await?;
            release(lease).await?;
        }
        for waiter in &line.waiters {
            let grant = granted(&waiter.ask).await?;
            if grant.token() <= ledger.last_token {
                return Err(format!("{grant:?} was granted after {:?}", ledger.last_token));
            }
            release(grant.lease).await?;
        }
    }
    Ok(())
}

/// A tick that was fired is not fired again, and the next one is.
async fn work_with_schedules(store: &dyn Store, ledger: &Ledger) -> Result<(), String> {
    for (name, known) in &ledger.schedules.known {
        let fire = async |expected: Timestamp| {
            let (name, next) = (name.clone(), Some(expected.plus_ms(1_000)));
            let fire =
                Fire { name, revision: None, expected, tick: Some(expected), job: None, next, missed: 0 };
            submit(store, Commit::of(Op::Schedule(ScheduleOp::Fire(Box::new(fire))), 1)).await
        };
        // With other times it begins anew, perhaps with the same tick.
        if let Some(last) = known.state.last.filter(|last| known.state.next != Some(*last))
            && fire(last).await.is_ok()
        {
            return Err(format!("the tick {last:?} of schedule {name} was fired twice"));
        }
        if let Some(next) = known.state.next {
            fire(next)
                .await
                .map_err(|e| format!("the tick {next:?} of schedule {name} cannot be fired: {e}"))?;
        }
    }
    Ok(())
}

/// The next event has the next number.
pub(super) async fn numbers_go_on(store: &dyn Store, next: u64) -> Result<(), String> {
    let topic = TopicName::new("after").map_err(|e| e.to_string())?;
    let event = Event::new("after the crash", &topic, "1");
    let publish = Op::Event(EventOp::Publish(Box::new(Publish::with_fresh_id(topic, event))));
    match &submit(store, Commit::of(publish, 1)).await?.replies[..] {
        [Reply::Event(EventReply::Published { seq, deduplicated: false })] if *seq == next => Ok(()),
        other => Err(format!("the next event was to have number {next}, but: {other:?}")),
    }
}

pub(super) async fn tokens_have_not_gone_back(
    store: &dyn Store,
    last: Token,
    now: Timestamp,
) -> Result<(), String> {
    let mut newcomer = Caller::new(&format!("after-{}", last.0), Chance::new(last.0).next());
    let mut granted = 0;
    while granted < 3 {
        let commit = newcomer.next(now);
        let replies = submit(store, commit.clone()).await?.replies;
        for reply in &replies {
            let Reply::Claimed(grants) = reply else { continue };
            granted += grants.len();
            if let Some(old) = grants.iter().find(|grant| grant.lease.token <= last) {
                return Err(format!("token {:?} was granted after {last:?}", old.lease.token));
            }
        }
        newcomer.heard(&Act::Commit(commit), &replies, now);
    }
    Ok(())
}

async fn submit(store: &dyn Store, commit: Commit) -> Result<Committed, String> {
    let mut answers = store.submit(Batch::one(commit)).await.map_err(|e| e.to_string())?;
    answers.remove(0).map_err(|e| e.to_string())
}

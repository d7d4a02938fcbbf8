//! Locks of a server.
//!
//! A ticket is the `Idempotency-Key` of its acquire. An acquire of the seam never waits, so it is sent without a wait and
//! gets its place; the wait for the grant ([`wait`]) is the same acquire again, now as long as the caller waits: a
//! server hands a lock to nobody who is not there. What that collects is prolonged when the caller asks for it, so
//! that its time counts from after the asking.

use std::time::Duration;

use mainstay_api::{
    Code,
    client::{ApiError, HttpClient},
    types as wire,
};
use mainstay_core::{
    Error, Timestamp,
    lease::{LeaseId, Token},
    lock::{
        Acquire, DELAY_MS, LockGrant, LockHolder, LockMode, LockOp, LockRecord, LockReply, LockWaiter,
        LockWaiting, Owner, Ticket, WAIT_MS,
    },
    name::Name,
    op::{Committed, Failure, Op, Place, Reason, Rejection, Reply},
    time::StoreTime,
};

use super::{BLIND_WAIT, convert, fault, read::unsupported, tickets::Tickets, write};
use crate::job::ms;

type Answer = Result<Committed, Failure>;

/// The shortest TTL on the wire.
const MIN_TTL_MS: u64 = 1_000;

/// One op that is no acquire, or an acquire.
pub(super) async fn one(client: &HttpClient, tickets: &Tickets, now: StoreTime, op: &Op) -> Answer {
    let Op::Lock(lock_op) = op else { return Err(unsupported("that change").into()) };
    let no = |error: ApiError| fault::of_op(&error, op);
    let reply = match lock_op {
        LockOp::Acquire(acquire) => return self::acquire(client, tickets, now, acquire, op).await,
        LockOp::Renew { name, lease, ttl_ms } => {
            long_enough(*ttl_ms)?;
            let renew = wire::Renew { lease: lease.to_string(), ttl_ms: *ttl_ms };
            let renewed = client.renew(name.as_str(), &renew).await.map_err(no)?;
            LockReply::Renewed { expires_at: Timestamp(renewed.expires_at.0) }
        }
        LockOp::Release { name, lease } => {
            client.release_lock(name.as_str(), &release(*lease)).await.map_err(no)?;
            LockReply::Released
        }
        LockOp::Break { name } => {
            // Who had it the wire does not say: who has it just before.
            let had = match client.lock(name.as_str()).await {
                Ok(view) => record(&view)?.holders,
                Err(error) if error.code() == Some(Code::NotFound) => Vec::new(),
                Err(error) => return Err(no(error)),
            };
            client.break_lock(name.as_str(), None).await.map_err(no)?;
            LockReply::Broken(had)
        }
        LockOp::Withdraw { name: _, ticket, may_return, visit: _ } => {
            // One that may return has lost its connection: the server has seen that.
            if !may_return {
                withdraw(client, tickets, *ticket).await?;
            }
            LockReply::Withdrawn
        }
    };
    Ok(write::one(Reply::Lock(reply)))
}

fn release(lease: LeaseId) -> wire::ReleaseLock {
    wire::ReleaseLock { lease: lease.to_string() }
}

fn invalid(field: &'static str, detail: impl Into<String>) -> Failure {
    Rejection { at: Place::Op(0), reason: Reason::Invalid { field, detail: detail.into() } }.into()
}

fn long_enough(ttl_ms: Option<u64>) -> Result<(), Failure> {
    match ttl_ms {
        Some(ttl_ms) if ttl_ms < MIN_TTL_MS => Err(invalid(
            "ttl_ms",
            format!("is {ttl_ms}: a lock of a server elsewhere is held for {MIN_TTL_MS} ms at least"),
        )),
        _ => Ok(()),
    }
}

async fn acquire(
    client: &HttpClient,
    tickets: &Tickets,
    now: StoreTime,
    acquire: &Acquire,
    op: &Op,
) -> Answer {
    // Which request asks, and whether again, a server sees for itself: each wait is a request there.
    let Acquire { name, owner, mode, ttl_ms, delay_ms, ticket, wait_ms, keep_place: _, visit: _, again: _ } =
        acquire;
    long_enough(Some(*ttl_ms))?;
    if *wait_ms > WAIT_MS {
        return Err(invalid("wait_ms", format!("is {wait_ms}, and {WAIT_MS} at most")));
    }
    if *delay_ms > DELAY_MS {
        return Err(invalid("delay_ms", format!("is {delay_ms}, and {DELAY_MS} at most")));
    }
    let (mode_word, permits) = match mode {
        LockMode::Exclusive => (Some(wire::AcquireMode::Exclusive), None),
        LockMode::Shared => (Some(wire::AcquireMode::Shared), None),
        LockMode::Semaphore { permits } => (None, Some(*permits)),
    };
    let wanted = wire::Acquire {
        owner: owner.to_string(),
        ttl_ms: *ttl_ms,
        wait_ms: 0,
        mode: mode_word,
        permits,
        delay_ms: *delay_ms,
    };
    let granted = |lease: LeaseId, expires_at: mainstay_api::Timestamp| {
        let grant = LockGrant {
            name: name.clone(),
            lease,
            mode: *mode,
            ttl_ms: *ttl_ms,
            expires_at: Timestamp(expires_at.0),
        };
        Ok(write::one(Reply::Lock(LockReply::Granted(grant))))
    };
    let Some(ticket) = ticket else {
        return match client.acquire(name.as_str(), &wanted).await {
            Ok(acquired) => granted(lease(&acquired)?, acquired.expires_at),
            Err(error) => Err(fault::of_op(&error, op)),
        };
    };
    let scope = ticket.scope;
    let waited = tickets.get(scope).filter(|asked| asked.name == *name && asked.untold);
    if let Some(lease) = waited.and_then(|asked| asked.lease) {
        // Collected while it waited: from here on its time counts anew, so that whoever counts from now is right.
        let renew = wire::Renew { lease: lease.to_string(), ttl_ms: Some(*ttl_ms) };
        match client.renew(name.as_str(), &renew).await {
            Ok(renewed) => {
                tickets.granted(scope, lease, false);
                return granted(lease, renewed.expires_at);
            }
            Err(error) if error.code() == Some(Code::LockLost) => {}
            Err(error) => return Err(fault::of_op(&error, op)),
        }
    }
    tickets.ask(scope, name, &wanted, now);
    match keyed(client, *ticket)?.acquire(name.as_str(), &wanted).await {
        Ok(acquired) => {
            let lease = lease(&acquired)?;
            tickets.granted(scope, lease, false);
            granted(lease, acquired.expires_at)
        }
        Err(error) => match held(&error, name)? {
            Some(held) => Ok(write::one(Reply::Lock(LockReply::Waiting(held)))),
            None => Err(fault::of_op(&error, op)),
        },
    }
}

fn keyed(client: &HttpClient, ticket: Ticket) -> Result<HttpClient, Error> {
    client.with_key(&write::key_text(&ticket)).map_err(|error| fault::trouble(&error))
}

fn lease(acquired: &wire::Acquired) -> Result<LeaseId, Error> {
    convert::lease(&acquired.lease)
}

/// What a `lock-held` says. The place in the line is not on the wire.
pub(super) fn held(error: &ApiError, name: &Name) -> Result<Option<LockWaiting>, Error> {
    let Some(problem) = error.problem().filter(|problem| problem.code == Code::LockHeld) else {
        return Ok(None);
    };
    let holder = owner(problem.holder.as_deref().unwrap_or_default())?;
    Ok(Some(LockWaiting {
        name: name.clone(),
        position: None,
        holder,
        expires_at: problem.expires_at.map_or_else(Timestamp::default, |at| Timestamp(at.0)),
        waiters: problem.waiters.unwrap_or(0),
    }))
}

/// Nobody wants what the ticket may have been granted, or its place in the line.
async fn withdraw(client: &HttpClient, tickets: &Tickets, ticket: Ticket) -> Result<(), Failure> {
    let Some(asked) = tickets.get(ticket.scope) else { return Ok(()) };
    match keyed(client, ticket)?.withdraw(asked.name.as_str(), &asked.acquire).await {
        Ok(_) => {}
        // What cannot be asked for was granted to nobody.
        Err(error) if error.problem().is_some() && !error.is_retryable() => {}
        Err(error) => return Err(fault::trouble(&error).into()),
    }
    tickets.forget(ticket.scope);
    Ok(())
}

/// Until the ticket has been granted its lock, `at_most` this long.
pub(super) async fn wait(
    client: &HttpClient,
    tickets: &Tickets,
    name: &Name,
    scope: [u8; 16],
    at_most: Duration,
) -> Result<bool, Error> {
    // One that this process has not sent, or whose grant is here already.
    let Some(asked) = tickets.get(scope).filter(|asked| asked.name == *name) else {
        tokio::time::sleep(at_most.min(BLIND_WAIT)).await;
        return Ok(true);
    };
    if asked.lease.is_some() {
        return Ok(true);
    }
    let wanted = wire::Acquire { wait_ms: ms(at_most).min(WAIT_MS), ..asked.acquire };
    let ticket = Ticket { scope, fingerprint: [0; 16] };
    match keyed(client, ticket)?.acquire(name.as_str(), &wanted).await {
        Ok(acquired) => {
            tickets.granted(scope, lease(&acquired)?, true);
            Ok(true)
        }
        Err(error) if error.code() == Some(Code::LockHeld) => Ok(false),
        Err(error) => Err(fault::trouble(&error)),
    }
}

/// A commit that is one of many renewals.
pub(super) fn renewal(op: &LockOp) -> Option<wire::RenewItem> {
    match op {
        LockOp::Renew { name, lease, ttl_ms } if long_enough(*ttl_ms).is_ok() => {
            Some(wire::RenewItem { name: name.to_string(), lease: lease.to_string(), ttl_ms: *ttl_ms })
        }
        _ => None,
    }
}

/// What became of one of many renewals.
pub(super) fn renewed(result: &wire::RenewResult, op: &Op) -> Answer {
    match (result.expires_at, &result.error) {
        (Some(expires_at), None) => {
            let expires_at = Timestamp(expires_at.0);
            Ok(write::one(Reply::Lock(LockReply::Renewed { expires_at })))
        }
        (_, Some(error)) => Err(fault::of_item(error.code, &error.detail, op)),
        (None, None) => Err(convert::senseless("renewal", "a result without an instant").into()),
    }
}

fn owner(text: &str) -> Result<Owner, Error> {
    Owner::new(text).map_err(|_| convert::senseless("owner", text))
}

/// A lock that is held.
pub(super) fn record(view: &wire::LockView) -> Result<LockRecord, Error> {
    let time = |at: Option<mainstay_api::Timestamp>| Timestamp(at.map_or(0, |at| at.0));
    let holder = |holder: &wire::LockHolder| {
        Ok(LockHolder {
            owner: owner(&holder.owner)?,
            token: Token(holder.token),
            acquired_at: time(holder.acquired_at),
            expires_at: Timestamp(holder.expires_at.0),
        })
    };
    let waiter = |waiter: &wire::LockWaiter| {
        Ok(LockWaiter {
            owner: owner(&waiter.owner)?,
            position: waiter.position,
            mode: mode(waiter.mode.unwrap_or(view.mode), waiter.permits),
            present: waiter.present.unwrap_or(true),
            since: time(waiter.since),
        })
    };
    let waiters = view.waiters.iter().map(waiter).collect::<Result<Vec<_>, Error>>()?;
    Ok(LockRecord {
        name: convert::name(&view.name)?,
        mode: mode(view.mode, view.permits),
        holders: view.holders.iter().map(holder).collect::<Result<_, Error>>()?,
        delayed_until: view.delayed_until.map(|at| Timestamp(at.0)),
        waiting: view.waiting.max(waiters.len() as u64),
        waiters,
    })
}

fn mode(mode: wire::LockMode, permits: Option<u32>) -> LockMode {
    match mode {
        wire::LockMode::Exclusive => LockMode::Exclusive,
        wire::LockMode::Shared => LockMode::Shared,
        wire::LockMode::Semaphore => LockMode::Semaphore { permits: permits.unwrap_or(1) },
    }
}

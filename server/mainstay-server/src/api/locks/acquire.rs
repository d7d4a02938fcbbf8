//! Taking a lock, or not wanting it any more: `POST /v1/locks/{name}/acquire`, `…/withdraw`.

use http::StatusCode;
use mainstay::client::Acquisition;
use mainstay::core::access::ScopeKind;
use mainstay::core::lock::{Acquire, LockMode, LockOp, Owner};
use mainstay::core::name::Name;
use mainstay::core::op::Op;
use mainstay_api::types::{self as wire, AcquireMode, Acquired, Withdrawn};
use mainstay_api::{Code, Problem};

use super::waiter::Waiter;
use crate::api::call::{Answer, Call};
use crate::api::{convert, error, json};

/// Grants the lock, waiting for it if asked to.
///
/// The `Idempotency-Key` is the ticket: sent again, it collects the grant or keeps the place. Without one the place is
/// the connection's, and goes with it.
pub(crate) async fn acquire(call: Call) -> Answer {
    let mut input = call.input();
    let lock = super::named(&call, &mut input);
    input.keyed();
    let asked = input.body::<wire::Acquire>()?;
    let ((lock, asked), keyed) = input.finish(lock.zip(asked))?;
    call.caller.must(ScopeKind::LocksUse, lock.as_str())?;
    if call.api.shutdown.is_draining() {
        return Err(draining());
    }
    // A client that is known to be gone is granted nothing.
    call.delivery().check_client().await;
    let ticket = keyed.map(|keyed| keyed.whole());
    let waiter = Waiter::enter(&call, &lock, ticket);
    let wanted = wanted(&lock, &asked, &waiter, ticket.is_some())?;
    let wait = call.wait(asked.wait_ms);
    let acquired = call.api.store.acquire(wanted, wait, call.api.shutdown.draining()).await;
    match acquired.map_err(|error| error::store(&error))? {
        Acquisition::Granted { grant, .. } => {
            // It may have left while the lock was being granted.
            call.delivery().check_client().await;
            let answer = Acquired {
                name: grant.name.to_string(),
                lease: grant.lease.to_string(),
                token: grant.token().0,
                expires_at: convert::wire_time(grant.expires_at),
            };
            Ok(waiter.answer(&call, json(StatusCode::OK, &answer)?))
        }
        Acquisition::Held(held) => {
            // The last look has left the line, or keeps its place by itself.
            waiter.leave();
            Err(error::lock_held(&held))
        }
        Acquisition::Stopped => Err(draining()),
    }
}

/// Nobody wants what was asked for under this key any more: the place is left, or the grant given back, collected or
/// not. What was asked is named by the key and the body of its acquire. (Without a key, leaving the connection is it.)
pub(crate) async fn withdraw(call: Call) -> Answer {
    let mut input = call.input();
    let lock = super::named(&call, &mut input);
    input.keyed_like("/withdraw", "/acquire");
    let asked = input.body::<wire::Acquire>()?;
    let ((lock, _), keyed) = input.finish(lock.zip(asked))?;
    call.caller.must(ScopeKind::LocksUse, lock.as_str())?;
    let keyed = keyed.ok_or_else(|| error::internal("a key that was read is none"))?;
    let withdraw = LockOp::Withdraw { name: lock, ticket: keyed.whole(), visit: 0, may_return: false };
    call.apply(vec![Op::Lock(withdraw)], None).await?;
    json(StatusCode::OK, &Withdrawn { withdrawn: true })
}

fn wanted(lock: &Name, asked: &wire::Acquire, waiter: &Waiter, keep_place: bool) -> Result<Acquire, Problem> {
    let owner = Owner::new(&asked.owner).map_err(|_| error::internal("an owner that was read is none"))?;
    let mode = match (asked.permits, asked.mode) {
        (Some(permits), _) => LockMode::Semaphore { permits },
        (None, Some(AcquireMode::Shared)) => LockMode::Shared,
        (None, _) => LockMode::Exclusive,
    };
    Ok(Acquire {
        name: lock.clone(),
        owner,
        mode,
        ttl_ms: asked.ttl_ms,
        delay_ms: asked.delay_ms,
        ticket: Some(waiter.ticket()),
        wait_ms: 0,
        visit: waiter.visit(),
        again: false,
        keep_place,
    })
}

fn draining() -> Problem {
    Problem::new(Code::Draining, "the server is shutting down and grants no locks any more: try another one")
}

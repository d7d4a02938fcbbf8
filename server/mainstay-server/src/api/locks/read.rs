//! Looking at locks: `GET /v1/locks`, `GET /v1/locks/{name}`, `POST /v1/locks/{name}/check`.

use http::StatusCode;
use mainstay::core::access::ScopeKind;
use mainstay::core::lease::Token;
use mainstay::core::lock::{LockMode, LockRecord};
use mainstay::core::store::{Query, Record};
use mainstay_api::query::LocksQuery;
use mainstay_api::types::{self as wire, CheckLock, LockChecked, LockView, Page};

use crate::api::call::{Answer, Call};
use crate::api::{convert, error, json, page};

pub(crate) async fn one(call: Call) -> Answer {
    let mut input = call.input();
    let lock = super::named(&call, &mut input);
    let (lock, _) = input.finish(lock)?;
    call.caller.must(ScopeKind::Read, lock.as_str())?;
    match call.api.store.lock_record(&lock).await.map_err(|error| error::store(&error))? {
        Some(lock) => json(StatusCode::OK, &view(&lock)),
        None => Err(error::not_found("held lock")),
    }
}

pub(crate) async fn list(call: Call) -> Answer {
    let mut input = call.input();
    let query = input.query(LocksQuery::parse);
    let (query, _) = input.finish(query)?;
    call.caller.must_sometimes(ScopeKind::Read)?;
    let wanted = Query::Locks { prefix: query.prefix };
    let slice = call.api.store.store().list(&wanted, &page(&query.page)).await;
    let slice = slice.map_err(|error| error::failed(&error))?;
    let visible = slice.items.iter().filter_map(|record| match record {
        Record::Lock(lock) if call.caller.may(ScopeKind::Read, lock.name.as_str()) => Some(view(lock)),
        _ => None,
    });
    json(StatusCode::OK, &Page { items: visible.collect(), next_cursor: slice.next })
}

/// True when it was looked at: a resource that can compare tokens itself does not need to ask.
pub(crate) async fn check(call: Call) -> Answer {
    let mut input = call.input();
    let lock = super::named(&call, &mut input);
    // It writes nothing, so that a key has nothing to keep; one that is wrong is told all the same.
    input.keyed();
    let body = input.body::<CheckLock>()?;
    let ((lock, CheckLock { token }), _) = input.finish(lock.zip(body))?;
    call.caller.must(ScopeKind::LocksUse, lock.as_str())?;
    let lock = call.api.store.lock_record(&lock).await.map_err(|error| error::store(&error))?;
    let answer = LockChecked {
        valid: lock.as_ref().is_some_and(|lock| lock.is_valid(Token(token))),
        current_token: lock.and_then(|lock| lock.current_token()).map(|token| token.0),
    };
    json(StatusCode::OK, &answer)
}

fn view(lock: &LockRecord) -> LockView {
    let holder = |holder: &mainstay::core::lock::LockHolder| wire::LockHolder {
        owner: holder.owner.to_string(),
        token: holder.token.0,
        acquired_at: Some(convert::wire_time(holder.acquired_at)),
        expires_at: convert::wire_time(holder.expires_at),
    };
    let waiter = |waiter: &mainstay::core::lock::LockWaiter| {
        let (mode, permits) = mode(waiter.mode);
        wire::LockWaiter {
            owner: waiter.owner.to_string(),
            position: waiter.position,
            mode: Some(mode),
            permits,
            present: Some(waiter.present),
            since: Some(convert::wire_time(waiter.since)),
        }
    };
    let (mode, permits) = mode(lock.mode);
    LockView {
        name: lock.name.to_string(),
        mode,
        permits,
        holders: lock.holders.iter().map(holder).collect(),
        waiters: lock.waiters.iter().map(waiter).collect(),
        waiting: lock.waiting,
        delayed_until: lock.delayed_until.map(convert::wire_time),
    }
}

fn mode(mode: LockMode) -> (wire::LockMode, Option<u32>) {
    match mode {
        LockMode::Exclusive => (wire::LockMode::Exclusive, None),
        LockMode::Shared => (wire::LockMode::Shared, None),
        LockMode::Semaphore { permits } => (wire::LockMode::Semaphore, Some(permits)),
    }
}

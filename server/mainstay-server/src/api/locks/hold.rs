//! Keeping a lock and giving it back: `POST /v1/locks/{name}/renew`, `…/release`, `/v1/locks/renew`.

use http::StatusCode;
use mainstay::core::access::ScopeKind;
use mainstay::core::lock::{LockOp, LockReply};
use mainstay::core::name::Name;
use mainstay::core::op::{Commit, Committed, Failure, Op, Reply};
use mainstay::core::rules::mix;
use mainstay_api::Problem;
use mainstay_api::strict::Strict;
use mainstay_api::types::{
    ReleaseLock, Released, Renew, RenewItem, RenewMany, RenewResult, Renewed, RenewedMany,
};

use crate::api::call::{Answer, Call};
use crate::api::error::Shape;
use crate::api::{convert, error, json};

pub(crate) async fn renew(call: Call) -> Answer {
    let reply = on_lock(&call, |name, body: Renew| LockOp::Renew {
        name,
        lease: convert::lease(&body.lease),
        ttl_ms: body.ttl_ms,
    });
    match reply.await? {
        LockReply::Renewed { expires_at } => {
            json(StatusCode::OK, &Renewed { expires_at: convert::wire_time(expires_at) })
        }
        _ => Err(unexpected("a renewal")),
    }
}

pub(crate) async fn release(call: Call) -> Answer {
    let reply = on_lock(&call, |name, body: ReleaseLock| LockOp::Release {
        name,
        lease: convert::lease(&body.lease),
    });
    match reply.await? {
        LockReply::Released => json(StatusCode::OK, &Released { released: true }),
        _ => Err(unexpected("a release")),
    }
}

/// Each stands alone; all share one durability point.
pub(crate) async fn renew_many(call: Call) -> Answer {
    let mut input = call.input();
    input.keyed();
    let body = input.body::<RenewMany>()?;
    let (body, keyed) = input.finish(body)?;
    if let Some(keyed) = keyed {
        // Alone and first: a key that came with another body must not renew what the first one did not name.
        call.commit(Commit { key: Some(keyed.whole()), ..Commit::default() }, Shape::Single).await?;
    }
    let entropy = call.api.store.entropy();
    let mut commits = Vec::with_capacity(body.leases.len());
    let mut forbidden = Vec::with_capacity(body.leases.len());
    for (index, item) in body.leases.iter().enumerate() {
        let refused = call.caller.must(ScopeKind::LocksUse, &item.name).err();
        if refused.is_none() {
            let name = Name::new(&item.name).map_err(|_| error::internal("a name that was read is none"))?;
            let renew = LockOp::Renew { name, lease: convert::lease(&item.lease), ttl_ms: item.ttl_ms };
            let commit = Commit::of(Op::Lock(renew), mix(entropy, index as u64));
            commits.push(Commit { key: keyed.map(|keyed| keyed.part("item", index)), ..commit });
        }
        forbidden.push(refused);
    }
    let answers = if commits.is_empty() { Vec::new() } else { call.submit(commits).await? };
    let mut answers = answers.into_iter();
    let results = body.leases.into_iter().zip(forbidden).map(|(item, refused)| match refused {
        Some(problem) => RenewResult::error(item.name, problem.code, problem.detail.clone()),
        None => result(item, answers.next()),
    });
    json(StatusCode::OK, &RenewedMany { results: results.collect() })
}

fn result(item: RenewItem, answer: Option<Result<Committed, Failure>>) -> RenewResult {
    match answer.as_ref().map(|answer| answer.as_ref().map(|committed| committed.replies.first())) {
        Some(Ok(Some(Reply::Lock(LockReply::Renewed { expires_at })))) => {
            RenewResult::renewed(item.name, convert::wire_time(*expires_at))
        }
        Some(Err(failure)) => {
            let error = error::item(failure);
            RenewResult::error(item.name, error.code, error.detail)
        }
        _ => {
            let error = error::item_bug();
            RenewResult::error(item.name, error.code, error.detail)
        }
    }
}

/// Reads the request, sees that the caller may, and applies the op it stands for.
async fn on_lock<T: Strict>(call: &Call, op: impl FnOnce(Name, T) -> LockOp) -> Result<LockReply, Problem> {
    let mut input = call.input();
    let lock = super::named(call, &mut input);
    input.keyed();
    let body = input.body::<T>()?;
    let ((lock, body), keyed) = input.finish(lock.zip(body))?;
    call.caller.must(ScopeKind::LocksUse, lock.as_str())?;
    match call.apply(vec![Op::Lock(op(lock, body))], keyed.map(|keyed| keyed.whole())).await?.0 {
        Reply::Lock(reply) => Ok(reply),
        _ => Err(unexpected("a lock's op")),
    }
}

fn unexpected(asked: &str) -> Problem {
    error::internal(&format!("the store answered {asked} with something else"))
}

//! Taking a lock away: `DELETE /v1/locks/{name}`.

use mainstay::core::access::ScopeKind;
use mainstay::core::lock::LockOp;
use mainstay::core::op::Op;
use mainstay_api::query::parse_reason;

use crate::api::audit::audit_because;
use crate::api::call::{Answer, Call};
use crate::api::empty;

/// Whoever has it learns of it at the next renewal; what is guarded by the token refuses them from now on.
pub(crate) async fn force(call: Call) -> Answer {
    let mut input = call.input();
    let lock = super::named(&call, &mut input);
    let reason = input.query(parse_reason);
    let ((lock, reason), _) = input.finish(lock.zip(reason))?;
    call.caller.must(ScopeKind::Admin, lock.as_str())?;
    let audited = audit_because(&call, "lock.force", lock.as_str(), reason.as_deref());
    tracing::info!(%lock, by = call.caller.actor(), reason = reason.unwrap_or_default(), "a lock is taken away");
    call.apply(vec![Op::Lock(LockOp::Break { name: lock }), audited], None).await?;
    empty()
}

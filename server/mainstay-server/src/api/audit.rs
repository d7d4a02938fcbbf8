//! The audit trail: written in the same commit as what it tells of.

use mainstay::core::access::AuditRecord;
use mainstay::core::op::Op;

use super::Call;

/// The line that says who did this to what. The request's id is in it, so that the log can say more.
pub(crate) fn audit(call: &Call, action: &str, subject: &str) -> Op {
    Op::Audit(AuditRecord {
        at: call.api.store.now().wall,
        actor: call.caller.actor().to_owned(),
        action: action.to_owned(),
        subject: subject.to_owned(),
        detail: call.request_id().to_owned(),
    })
}

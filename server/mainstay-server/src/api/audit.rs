//! The audit trail: written in the same commit as what it tells of.

use mainstay::core::access::AuditRecord;
use mainstay::core::op::Op;

use super::Call;

/// The line that says who did this to what. The request's id is in it, so that the log can say more.
pub(crate) fn audit(call: &Call, action: &str, subject: &str) -> Op {
    audit_because(call, action, subject, None)
}

/// The same with the caller's reason. A request's id has no spaces, so that what comes after the first is the reason.
pub(crate) fn audit_because(call: &Call, action: &str, subject: &str, reason: Option<&str>) -> Op {
    let detail = match reason {
        Some(reason) => format!("{} {reason}", call.request_id()),
        None => call.request_id().to_owned(),
    };
    Op::Audit(AuditRecord {
        at: call.api.store.now().wall,
        actor: call.caller.actor().to_owned(),
        action: action.to_owned(),
        subject: subject.to_owned(),
        detail,
    })
}

/// What [`audit_because`] put together: the request's id, and the reason.
pub(crate) fn request_and_reason(record: &AuditRecord) -> (Option<&str>, Option<&str>) {
    let (id, reason) = match record.detail.split_once(' ') {
        Some((id, reason)) => (id, Some(reason)),
        None => (record.detail.as_str(), None),
    };
    (Some(id).filter(|id| !id.is_empty()), reason)
}

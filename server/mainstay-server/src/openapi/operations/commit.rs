//! One commit for everything.

use mainstay_api::Code;
use mainstay_api::types::{Commit, Committed, Scope};

use super::Group;
use crate::openapi::operation::Operation;
use crate::openapi::schemas::one;

pub(super) fn group() -> Group {
    let commit = Operation::post("/v1/commit", "commit", "Do several things or none")
        .detail(
            "Ends a job, starts its successors, releases a lock, and requires leases and fencing tokens to be live, in \
             one atomic and durable step. Needs the scopes of all its operations and requirements. `errors[0].pointer` names the operation or requirement that failed it.",
        )
        .needs(Scope::JobsProduce)
        .needs(Scope::JobsWork)
        .needs(Scope::LocksUse)
        .keyed()
        .body(one::<Commit>)
        .answer(200, "A result for each operation, in order.", one::<Committed>)
        .codes(&[
            Code::NotFound,
            Code::LeaseLost,
            Code::AlreadySettled,
            Code::LockLost,
            Code::StateConflict,
            Code::QueueFull,
            Code::NotSupported,
        ]);
    Group { name: "Commits", detail: "All or nothing.", on_admin: false, operations: vec![commit] }
}

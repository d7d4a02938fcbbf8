//! Locks.

use mainstay_api::Code;
use mainstay_api::types::{
    Acquire, Acquired, CheckLock, LockChecked, LockView, ReleaseLock, Released, Renew, RenewMany, Renewed,
    RenewedMany, Scope, Withdrawn,
};
use serde_json::json;

use super::Group;
use crate::openapi::operation::Operation;
use crate::openapi::schemas::{one, page};

pub(super) fn group() -> Group {
    Group {
        name: "Locks",
        detail: "A lock exists while somebody holds it. Every grant has a fencing token, higher than all before.",
        on_admin: false,
        operations: holding().into_iter().chain(looking()).collect(),
    }
}

fn holding() -> Vec<Operation> {
    vec![
        Operation::post("/v1/locks/{name}/acquire", "acquireLock", "Take a lock")
            .detail(
                "Who comes first is served first, whatever the modes. The `Idempotency-Key` is a ticket: sent again, it \
                 collects the grant, or keeps its place (for 10 s without a connection). Without one, the place goes \
                 with the connection. Not re-entrant. A refusal says `holder`, `expires_at` and how many `waiters` \
                 there are.",
            )
            .needs(Scope::LocksUse)
            .keyed()
            .body(one::<Acquire>)
            .answer(200, "It is held.", one::<Acquired>)
            .codes(&[Code::LockHeld, Code::StateConflict, Code::QueueFull, Code::Draining]),
        Operation::post("/v1/locks/{name}/withdraw", "withdrawLock", "Want a lock no more")
            .detail(
                "With the `Idempotency-Key` and the body of its acquire, whatever came of that: the place in the line is \
                 left, a grant is given back, collected or not. What still waits under the key ends with \
                 `state-conflict`. Repeated, it changes nothing more.",
            )
            .needs(Scope::LocksUse)
            .keyed()
            .body(one::<Acquire>)
            .answer(200, "Nothing is left of it.", one::<Withdrawn>),
        Operation::post("/v1/locks/{name}/renew", "renewLock", "Keep a lock")
            .needs(Scope::LocksUse)
            .keyed()
            .body(one::<Renew>)
            .answer(200, "Until when it is held now.", one::<Renewed>)
            .codes(&[Code::LockLost]),
        Operation::post("/v1/locks/renew", "renewLocks", "Keep many locks")
            .detail("Each stands alone; all share one sync.")
            .needs(Scope::LocksUse)
            .keyed()
            .body(one::<RenewMany>)
            .answer(200, "A result for each, in order.", one::<RenewedMany>),
        Operation::post("/v1/locks/{name}/release", "releaseLock", "Give a lock back")
            .detail("It goes to the next waiter at once. A lease that is not live changes nothing.")
            .needs(Scope::LocksUse)
            .keyed()
            .body(one::<ReleaseLock>)
            .answer(200, "It is given back.", one::<Released>)
            .codes(&[Code::LockLost]),
        Operation::post("/v1/locks/{name}/check", "checkLock", "Ask whether a token still counts")
            .detail("For resources that cannot compare tokens themselves. True at the moment of the answer.")
            .needs(Scope::LocksUse)
            .body(one::<CheckLock>)
            .answer(200, "Whether it does, and the highest there is.", one::<LockChecked>),
    ]
}

fn looking() -> Vec<Operation> {
    vec![
        Operation::get("/v1/locks", "listLocks", "List locks")
            .needs(Scope::Read)
            .query("prefix", json!({ "type": "string" }), "Only names that begin with it.")
            .paged()
            .answer(200, "Locks that are held, by name.", page::<LockView>),
        Operation::get("/v1/locks/{name}", "getLock", "Look at a lock")
            .needs(Scope::Read)
            .answer(200, "Who holds it and who waits.", one::<LockView>)
            .codes(&[Code::NotFound]),
        Operation::delete("/v1/locks/{name}", "forceLock", "Take a lock away")
            .detail("From all who hold it; the next grant has a higher token. It is in the audit trail.")
            .needs(Scope::Admin)
            .query(
                "reason",
                json!({ "type": "string", "minLength": 1, "maxLength": 1024 }),
                "Why, for the audit trail.",
            )
            .empty_answer(204, "It is free, or the next waiter's.")
            .codes(&[Code::NotFound]),
    ]
}

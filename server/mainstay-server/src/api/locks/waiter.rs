//! A place in a lock's line, for as long as its connection lives.

use axum::response::Response;
use mainstay::core::lock::{LockOp, Ticket};
use mainstay::core::name::Name;
use mainstay::core::op::{Commit, Op};
use mainstay::core::store::Batch;

use crate::api::{Api, Call};

/// A caller who asks for a lock. Dropped, or lost on the wire after [`answer`](Waiter::answer), it is not there any
/// more: without a key its place or its grant goes to the next, with one it may come back for it.
pub(super) struct Waiter {
    api: Api,
    lock: Name,
    ticket: Ticket,
    /// This request among those with the ticket: an old connection of a key may end when the new one waits.
    visit: u64,
    keyed: bool,
    /// It has not been answered.
    there: bool,
}

impl Waiter {
    /// One with the ticket of its key, or with one of its own that nobody can send again.
    pub fn enter(call: &Call, lock: &Name, key: Option<Ticket>) -> Waiter {
        let api = call.api.clone();
        let own = || {
            let half = || api.store.entropy().to_be_bytes();
            let mut scope = [0; 16];
            scope[..8].copy_from_slice(&half());
            scope[8..].copy_from_slice(&half());
            Ticket { scope, fingerprint: [0; 16] }
        };
        let ticket = key.unwrap_or_else(own);
        let visit = api.store.entropy();
        Waiter { api, lock: lock.clone(), ticket, visit, keyed: key.is_some(), there: true }
    }

    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    pub fn visit(&self) -> u64 {
        self.visit
    }

    /// There is nothing to be taken back.
    pub fn leave(mut self) {
        self.there = false;
    }

    /// From here on, whether this answer gets out decides. The grant of a key is kept for its repeat.
    pub fn answer(mut self, call: &Call, response: Response) -> Response {
        self.there = false;
        if self.keyed {
            return response;
        }
        let (api, withdraw) = (self.api.clone(), self.withdrawal());
        let delivery = call.delivery();
        response.map(|body| delivery.watch(body, move || submit(api, withdraw)))
    }

    fn withdrawal(&self) -> LockOp {
        LockOp::Withdraw {
            name: self.lock.clone(),
            ticket: self.ticket,
            visit: self.visit,
            may_return: self.keyed,
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.there {
            submit(self.api.clone(), self.withdrawal());
        }
    }
}

/// Behind whatever the store was given before: an acquire under way when its caller left comes first.
fn submit(api: Api, withdraw: LockOp) {
    tracing::debug!(lock = %withdraw.name(), "a lock's caller is gone, it is withdrawn");
    let tasks = api.tasks.clone();
    tasks.spawn("withdraw", async move {
        let commit = Commit::of(Op::Lock(withdraw), api.store.entropy());
        // What cannot be withdrawn now ends with its wait or its TTL.
        if let Err(error) = api.store.store().submit(Batch::one(commit)).await {
            tracing::warn!(%error, "a lock whose caller is gone could not be withdrawn");
        }
    });
}

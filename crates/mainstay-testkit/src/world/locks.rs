//! Short names for what tests do to locks.

use mainstay_core::{
    Token,
    lock::{
        Acquire, LockGrant, LockHolder, LockMode, LockOp, LockRecord, LockReply, LockWaiting, Owner, Ticket,
    },
    op::{Op, Reason, Reply},
    store::{Key, Query, Record},
};

use super::{LEASE_MS, World, name};

/// A semaphore of two.
pub const TWO: LockMode = LockMode::Semaphore { permits: 2 };

/// A try of `owner` to have lock `lock` alone for [`LEASE_MS`].
pub fn ask(lock: &str, owner: &str) -> Acquire {
    Acquire {
        name: name(lock),
        owner: Owner::new(owner).expect("a test names owners by the rules"),
        mode: LockMode::Exclusive,
        ttl_ms: LEASE_MS,
        delay_ms: 0,
        ticket: None,
        wait_ms: 0,
        visit: 0,
        again: false,
        keep_place: false,
    }
}

/// The same in another mode.
pub fn ask_in(mode: LockMode, lock: &str, owner: &str) -> Acquire {
    Acquire { mode, ..ask(lock, owner) }
}

/// The same with a ticket named after the owner, by one who is there for a minute.
pub fn wait(ask: Acquire) -> Acquire {
    Acquire { ticket: Some(ticket(ask.owner.as_str())), wait_ms: 60_000, ..ask }
}

/// The same with a ticket named after the owner, by one who is not there but keeps its place.
pub fn poll(ask: Acquire) -> Acquire {
    Acquire { ticket: Some(ticket(ask.owner.as_str())), wait_ms: 0, keep_place: true, ..ask }
}

/// The last look of one who waited.
pub fn last_look(ask: Acquire) -> Acquire {
    Acquire { wait_ms: 0, ..wait(ask) }
}

/// A ticket with this name.
pub fn ticket(named: &str) -> Ticket {
    let mut scope = [0; 16];
    for (at, byte) in named.bytes().enumerate() {
        scope[at % 16] ^= byte;
    }
    Ticket { scope, fingerprint: [1; 16] }
}

/// The release of a grant.
pub fn release_op(grant: &LockGrant) -> Op {
    Op::Lock(LockOp::Release { name: grant.name.clone(), lease: grant.lease })
}

/// The renewal of a grant.
pub fn renew_op(grant: &LockGrant, ttl_ms: Option<u64>) -> Op {
    Op::Lock(LockOp::Renew { name: grant.name.clone(), lease: grant.lease, ttl_ms })
}

/// Taking a lock from whoever has it.
pub fn break_op(lock: &str) -> Op {
    Op::Lock(LockOp::Break { name: name(lock) })
}

/// The end of a wait.
pub fn withdraw_op(ask: &Acquire, may_return: bool) -> Op {
    let ticket = ask.ticket.expect("one without a ticket has no place");
    Op::Lock(LockOp::Withdraw { name: ask.name.clone(), ticket, visit: ask.visit, may_return })
}

impl World {
    /// Asks for a lock, which may be refused.
    pub async fn try_lock(&self, ask: Acquire) -> Result<LockReply, Reason> {
        match self.try_op(Op::Lock(LockOp::Acquire(Box::new(ask)))).await? {
            Reply::Lock(reply) => Ok(reply),
            other => panic!("an acquire was answered with {other:?}"),
        }
    }

    /// Asks for a lock, which must be granted.
    pub async fn lock(&self, ask: Acquire) -> LockGrant {
        match self.try_lock(ask).await {
            Ok(LockReply::Granted(grant)) => grant,
            other => panic!("a lock was to be granted, but: {other:?}"),
        }
    }

    /// Asks for a lock with a ticket, which must wait.
    pub async fn queue_up(&self, ask: Acquire) -> LockWaiting {
        match self.try_lock(ask).await {
            Ok(LockReply::Waiting(waiting)) => waiting,
            other => panic!("an acquire was to wait, but: {other:?}"),
        }
    }

    /// Tries to have a lock, which must be held.
    pub async fn held(&self, ask: Acquire) -> LockWaiting {
        match self.try_lock(ask).await {
            Err(Reason::LockHeld(held)) => *held,
            other => panic!("a lock was to be held, but: {other:?}"),
        }
    }

    /// Releases a lock, which must be held.
    pub async fn unlock(&self, grant: &LockGrant) {
        assert_eq!(self.op(release_op(grant)).await, Reply::Lock(LockReply::Released));
    }

    /// Nothing can be done with a grant that is over, and trying changes nothing.
    pub async fn is_lost(&self, grant: &LockGrant) {
        let before = self.show_lock(grant.name.as_str()).await;
        for op in [renew_op(grant, None), renew_op(grant, Some(1_000)), release_op(grant)] {
            let shown = format!("{op:?}");
            assert_eq!(self.refused(op).await, Reason::LockLost, "{shown}");
        }
        assert_eq!(self.show_lock(grant.name.as_str()).await, before, "nothing was changed");
    }

    /// Reads a lock; `None`: it is free.
    pub async fn show_lock(&self, lock: &str) -> Option<LockRecord> {
        match self.store().get(&Key::Lock(name(lock))).await.expect("get") {
            Some(Record::Lock(lock)) => Some(*lock),
            None => None,
            other => panic!("a lock was asked for, and came {other:?}"),
        }
    }

    /// Who holds a lock, lowest token first.
    pub async fn holders(&self, lock: &str) -> Vec<String> {
        let holders = self.show_lock(lock).await.map(|lock| lock.holders).unwrap_or_default();
        holders.iter().map(|holder: &LockHolder| holder.owner.to_string()).collect()
    }

    /// Who waits for a lock, in the order of the line.
    pub async fn line(&self, lock: &str) -> Vec<String> {
        let waiters = self.show_lock(lock).await.map(|lock| lock.waiters).unwrap_or_default();
        waiters.iter().map(|waiter| waiter.owner.to_string()).collect()
    }

    /// All locks that are held and whose name begins so, in pages of `limit`.
    pub async fn locks(&self, prefix: Option<&str>, limit: u32) -> Vec<LockRecord> {
        let query = Query::Locks { prefix: prefix.map(str::to_owned) };
        let lock = |record| match record {
            Record::Lock(lock) => *lock,
            other => panic!("a list of locks held {other:?}"),
        };
        self.list_by(&query, limit).await.into_iter().map(lock).collect()
    }
}

/// The tokens of grants.
pub fn tokens(grants: &[LockGrant]) -> Vec<Token> {
    grants.iter().map(LockGrant::token).collect()
}

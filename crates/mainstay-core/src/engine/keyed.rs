//! Answers given under idempotency keys: kept 24 h, the newest within a bound.

use std::{collections::VecDeque, sync::Arc};

use hashbrown::HashMap;

use super::{Engine, change::Change, undo::Undo};
use crate::{
    event::EventReply,
    id::JobId,
    lock::LockReply,
    op::{Commit, Committed, IdempotencyKey, Place, Reason, Rejection, Reply},
    time::Timestamp,
};

/// How long an answer is kept.
pub const KEPT_MS: u64 = 86_400_000;
/// At most this many answers are kept, the newest.
pub const KEPT_ANSWERS: usize = 1_000_000;
/// At most this many replies are kept in all, of the newest answers.
pub const KEPT_REPLIES: usize = 4_000_000;

#[derive(Clone)]
pub(super) struct Answer {
    pub k: u64,
    pub key: IdempotencyKey,
    pub at: Timestamp,
    pub replies: Arc<[Reply]>,
}

#[derive(Default)]
pub(super) struct Keyed {
    /// Oldest first.
    order: VecDeque<Answer>,
    /// From a key's scope to its `k`; the answer is at `k - first.k`.
    by_scope: HashMap<[u8; 16], u64>,
    replies: usize,
}

impl Keyed {
    pub(super) fn push(&mut self, answer: Answer) {
        self.replies += answer.replies.len();
        self.by_scope.insert(answer.key.scope, answer.k);
        self.order.push_back(answer);
    }

    fn find(&self, scope: &[u8; 16]) -> Option<&Answer> {
        let k = *self.by_scope.get(scope)?;
        let at = self.order.binary_search_by_key(&k, |answer| answer.k).ok()?;
        self.order.get(at)
    }

    pub(super) fn take_back(&mut self) {
        if let Some(answer) = self.order.pop_back() {
            self.forget(&answer);
        }
    }

    pub(super) fn put_back(&mut self, answer: Answer) {
        self.replies += answer.replies.len();
        // A newer answer under the same scope wins.
        self.by_scope.entry(answer.key.scope).or_insert(answer.k);
        self.order.push_front(answer);
    }

    fn pop_oldest(&mut self) -> Option<Answer> {
        let answer = self.order.pop_front()?;
        self.forget(&answer);
        Some(answer)
    }

    fn forget(&mut self, answer: &Answer) {
        self.replies -= answer.replies.len();
        if self.by_scope.get(&answer.key.scope) == Some(&answer.k) {
            self.by_scope.remove(&answer.key.scope);
        }
    }

    fn oldest_at(&self) -> Option<Timestamp> {
        self.order.front().map(|answer| answer.at)
    }
}

impl Engine {
    /// The answer to a commit whose key was seen before. `None`: it is new.
    pub(super) fn repeat(&mut self, key: &IdempotencyKey) -> Option<Result<Committed, Rejection>> {
        let answer = self.keyed.find(&key.scope)?;
        if answer.at.plus_ms(KEPT_MS) <= self.now.wall {
            return None;
        }
        if answer.key.fingerprint != key.fingerprint {
            return Some(Err(Rejection { at: Place::Commit, reason: Reason::IdempotencyMismatch }));
        }
        let replies = answer.replies.clone();
        let replies = replies.iter().map(|reply| self.repeated(reply)).collect();
        Some(Ok(Committed { replies, repeated: true }))
    }

    /// An old reply as it is given again: word for word, but a claim shows only what still lives.
    fn repeated(&self, reply: &Reply) -> Reply {
        match reply {
            Reply::Claimed(grants) => {
                let live = |id: JobId| {
                    let lease = self.leases.get(&id)?.live.as_ref()?;
                    (lease.until > self.now.store).then_some((lease.id, self.now.wall_at(lease.until)))
                };
                let grants = grants.iter().filter_map(|grant| {
                    let (lease, expires_at) = live(grant.id)?;
                    (lease == grant.lease).then(|| {
                        let mut grant = grant.clone();
                        grant.expires_at = expires_at;
                        grant
                    })
                });
                Reply::Claimed(grants.collect())
            }
            Reply::Event(reply) => Reply::Event(self.repeated_fetch(reply)),
            other => other.clone(),
        }
    }

    /// Keeps the answer of a commit under its key. An empty claim or fetch, or an acquire that has to wait, is not kept:
    /// it is tried anew.
    pub(super) fn keep_answer(&mut self, commit: &Commit, replies: &[Reply]) {
        let Some(key) = commit.key else { return };
        match replies {
            [Reply::Claimed(grants)] if grants.is_empty() => return,
            [Reply::Event(EventReply::Fetched(deliveries))] if deliveries.is_empty() => return,
            [Reply::Lock(LockReply::Waiting(_))] => return,
            _ => {}
        }
        let mut replies = replies.to_vec();
        for reply in &mut replies {
            if let Reply::Claimed(grants) = reply {
                grants.iter_mut().for_each(|grant| grant.body = None);
            }
        }
        self.counters.k += 1;
        let (k, at, replies) = (self.counters.k, self.now.wall, Arc::<[Reply]>::from(replies));
        self.keyed.push(Answer { k, key, at, replies: replies.clone() });
        self.undo.push(Undo::KeyedAdded);
        self.changes.push(Change::Keyed { k, key, at, replies });
    }

    pub(super) fn keyed_is_due(&self) -> bool {
        self.keyed.order.len() > KEPT_ANSWERS
            || self.keyed.replies > KEPT_REPLIES
            || self.keyed.oldest_at().is_some_and(|at| at.plus_ms(KEPT_MS) <= self.now.wall)
    }

    /// Forgets up to `limit` answers that are too old or too many.
    pub(super) fn forget_keyed(&mut self, limit: u32) -> u32 {
        let mut last = None;
        let mut count = 0;
        while count < limit && self.keyed_is_due() {
            let Some(answer) = self.keyed.pop_oldest() else { break };
            last = Some(answer.k);
            count += 1;
            self.undo.push(Undo::KeyedForgotten(answer));
        }
        if let Some(up_to) = last {
            self.changes.push(Change::KeyedForgotten { up_to });
        }
        count
    }
}

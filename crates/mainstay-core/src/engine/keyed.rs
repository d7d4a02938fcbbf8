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
/// At most this many replies are kept in all, of the newest answers; each grant and each delivery of one counts as one
/// ([`Reply::pieces`]).
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

impl Answer {
    fn pieces(&self) -> usize {
        self.replies.iter().map(Reply::pieces).sum()
    }
}

impl Keyed {
    pub(super) fn push(&mut self, answer: Answer) {
        self.replies += answer.pieces();
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
        self.replies += answer.pieces();
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
        self.replies -= answer.pieces();
        if self.by_scope.get(&answer.key.scope) == Some(&answer.k) {
            self.by_scope.remove(&answer.key.scope);
        }
    }

    fn are_too_many(&self) -> bool {
        self.order.len() > KEPT_ANSWERS || self.replies > KEPT_REPLIES
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
        self.keyed.are_too_many()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::Delivery,
        job::{Grant, JobPolicy},
        lease::{LeaseId, Token},
        name::QueueName,
        topic::TopicName,
    };

    fn grant() -> Grant {
        Grant {
            id: JobId::MIN,
            n: 1,
            queue: QueueName::new("q").unwrap(),
            priority: 5,
            attempt: 1,
            crashes: 0,
            policy: JobPolicy::default(),
            created_at: Timestamp(0),
            lease: LeaseId { token: Token(1), nonce: 1 },
            expires_at: Timestamp(0),
            body: None,
        }
    }

    fn delivery() -> Delivery {
        Delivery {
            topic: TopicName::new("orders").unwrap(),
            seq: 1,
            attempt: 1,
            lease: LeaseId { token: Token(1), nonce: 1 },
            expires_at: Timestamp(0),
            published_at: Timestamp(0),
            dead: None,
            event: None,
        }
    }

    /// So many answers of one reply are kept.
    fn kept_of(reply: Reply) -> usize {
        let (mut keyed, replies) = (Keyed::default(), Arc::<[Reply]>::from([reply]));
        for k in 1..=u64::MAX {
            let key = IdempotencyKey { scope: u128::from(k).to_be_bytes(), fingerprint: [0; 16] };
            keyed.push(Answer { k, key, at: Timestamp(0), replies: replies.clone() });
            if keyed.are_too_many() {
                keyed.pop_oldest();
                assert!(!keyed.are_too_many());
                return keyed.order.len();
            }
        }
        unreachable!("a number for each answer")
    }

    #[test]
    fn a_kept_answer_counts_for_each_grant_and_delivery() {
        assert_eq!(kept_of(Reply::Claimed(vec![grant(); 1_000])), KEPT_REPLIES / 1_000);
        assert_eq!(kept_of(Reply::Event(EventReply::Fetched(vec![delivery(); 500]))), KEPT_REPLIES / 500);
        assert_eq!(kept_of(Reply::Note("x".repeat(1_024).into())), KEPT_REPLIES / 4);
        assert_eq!(kept_of(Reply::Done), KEPT_ANSWERS);
    }
}

//! An answer on its way to its caller. Grants that do not arrive go back.

use std::sync::Arc;

use mainstay_core::{
    Error,
    event::EventReply,
    lock::LockReply,
    op::{Commit, Committed, Failure, Reply},
};
use tokio::sync::oneshot;

use crate::{
    inbox::Inbox,
    message::{Lost, Message},
};

/// One answer a commit.
pub type Answers = Vec<Result<Committed, Failure>>;
/// Where a caller waits for its answers.
pub type Sender = oneshot::Sender<Result<Answer, Error>>;

/// Answers that give their grants back when they are dropped before they were accepted: the caller was gone.
pub struct Answer {
    pub answers: Answers,
    /// Which commits had an idempotency key or a ticket; their callers come again for the same grants. Empty: none.
    keyed: Vec<bool>,
    back_to: Option<Arc<Inbox<Message>>>,
    /// What was asked. It is freed where the answer ends, by whoever made it: the writer is one, callers are many.
    _asked: Vec<Commit>,
}

/// A durable answer that still lacks what only the tables know.
pub struct Sealed {
    pub sender: Sender,
    pub answer: Answer,
    /// The newest body it lacks; `u64::MAX`: it lacks events too, and the tables may.
    pub newest: u64,
}

impl Answer {
    pub fn new(
        answers: Answers,
        keyed: Vec<bool>,
        asked: Vec<Commit>,
        back_to: &Arc<Inbox<Message>>,
    ) -> Answer {
        let has_grants = replies(&answers).any(|reply| match reply {
            Reply::Claimed(grants) => !grants.is_empty(),
            Reply::Event(EventReply::Fetched(deliveries)) => !deliveries.is_empty(),
            reply => matches!(reply, Reply::Lock(LockReply::Granted(_))),
        });
        Answer { answers, keyed, back_to: has_grants.then(|| back_to.clone()), _asked: asked }
    }

    /// The caller has them now.
    pub fn accept(mut self) -> Answers {
        self.back_to = None;
        std::mem::take(&mut self.answers)
    }

    pub fn replies_mut(&mut self) -> impl Iterator<Item = &mut Reply> {
        self.answers.iter_mut().flatten().flat_map(|committed| &mut committed.replies)
    }
}

/// It happened, but what was granted cannot be shown; it is given back as the answer is dropped.
pub fn not_shown(cause: &Error) -> Error {
    let message = format!("the commit is done, but its answer could not be read: {cause}");
    Error::unknown(cause.kind(), message).because(cause.clone())
}

fn replies(answers: &Answers) -> impl Iterator<Item = &Reply> {
    answers.iter().flatten().flat_map(|committed| &committed.replies)
}

impl Drop for Answer {
    fn drop(&mut self) {
        let Some(inbox) = self.back_to.take() else { return };
        let mut lost: Vec<Lost> = Vec::new();
        for (i, committed) in self.answers.iter().enumerate() {
            let Ok(committed) = committed else { continue };
            if self.keyed.get(i).copied().unwrap_or(false) {
                continue;
            }
            for reply in &committed.replies {
                match reply {
                    Reply::Claimed(grants) => {
                        lost.extend(grants.iter().map(|grant| Lost::Job(grant.id, grant.lease)));
                    }
                    Reply::Event(EventReply::Fetched(deliveries)) => {
                        lost.extend(deliveries.iter().map(|delivery| Lost::Delivery(delivery.lease)));
                    }
                    Reply::Lock(LockReply::Granted(grant)) => {
                        lost.push(Lost::Lock(grant.name.clone(), grant.lease));
                    }
                    _ => {}
                }
            }
        }
        if !lost.is_empty() {
            // A store that is closed cannot take them back; the leases run out.
            let _ = inbox.force(Message::GiveBack(lost));
        }
    }
}

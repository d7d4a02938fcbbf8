//! An answer on its way to its caller. Grants that do not arrive go back.

use std::sync::Arc;

use mainstay_core::{
    Error, JobId, LeaseId,
    op::{Committed, Failure, Reply},
};
use tokio::sync::oneshot;

use crate::{inbox::Inbox, writer::Message};

/// One answer a commit.
pub(crate) type Answers = Vec<Result<Committed, Failure>>;
/// Where a caller waits for its answers.
pub(crate) type Sender = oneshot::Sender<Result<Answer, Error>>;

/// Answers that give their grants back when they are dropped before they were accepted: the caller was gone.
pub(crate) struct Answer {
    pub(crate) answers: Answers,
    /// Which commits had an idempotency key; their callers come again for the same grants. Empty: none.
    keyed: Vec<bool>,
    back_to: Option<Arc<Inbox<Message>>>,
}

/// A durable answer that still lacks what only the tables know.
pub(crate) struct Sealed {
    pub(crate) sender: Sender,
    pub(crate) answer: Answer,
    /// The newest body it lacks.
    pub(crate) newest: u64,
}

impl Answer {
    pub(crate) fn new(answers: Answers, keyed: Vec<bool>, back_to: &Arc<Inbox<Message>>) -> Answer {
        let has_grants =
            replies(&answers).any(|reply| matches!(reply, Reply::Claimed(grants) if !grants.is_empty()));
        Answer { answers, keyed, back_to: has_grants.then(|| back_to.clone()) }
    }

    /// The caller has them now.
    pub(crate) fn accept(mut self) -> Answers {
        self.back_to = None;
        std::mem::take(&mut self.answers)
    }

    pub(crate) fn replies_mut(&mut self) -> impl Iterator<Item = &mut Reply> {
        self.answers.iter_mut().flatten().flat_map(|committed| &mut committed.replies)
    }
}

fn replies(answers: &Answers) -> impl Iterator<Item = &Reply> {
    answers.iter().flatten().flat_map(|committed| &committed.replies)
}

impl Drop for Answer {
    fn drop(&mut self) {
        let Some(inbox) = self.back_to.take() else { return };
        let mut leases: Vec<(JobId, LeaseId)> = Vec::new();
        for (i, committed) in self.answers.iter().enumerate() {
            let Ok(committed) = committed else { continue };
            if self.keyed.get(i).copied().unwrap_or(false) {
                continue;
            }
            for reply in &committed.replies {
                if let Reply::Claimed(grants) = reply {
                    leases.extend(grants.iter().map(|grant| (grant.id, grant.lease)));
                }
            }
        }
        if !leases.is_empty() {
            // A store that is closed cannot take them back; the leases run out.
            let _ = inbox.force(Message::GiveBack(leases));
        }
    }
}

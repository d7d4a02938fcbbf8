//! What a process that follows asks of the one that leads, and what it is told; as JSON on its way.

use std::{sync::Arc, time::Duration};

use mainstay_core::{
    Applied, Error, ErrorKind, LeaseId, TopicFilter,
    event::{Event, EventOp, EventReply, LogBudget, LogSlice, Position},
    job::{JobBody, Outcome},
    lock::{LockOp, LockReply},
    op::{Commit, Committed, Failure, Op, Rejection, Reply, Settle},
    store::{Batch, Budget, Interest, Key, Maintained, Page, Query, Record, Slice},
    time::Now,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Call {
    Submit {
        commits: Vec<Commit>,
        within_ms: u64,
    },
    Get(Key),
    List(Query, Page),
    ReadLog(Vec<TopicFilter>, Position, LogBudget),
    Wait(Vec<Interest>, u64),
    /// The wake-up that this call was answered with is over: an unused one goes to the next. Not answered.
    PassOn(u64),
    /// Nobody waits for this call any more. Not answered.
    Withdraw(u64),
    Maintain(Budget),
    Now,
    Ping,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    /// With what the replies leave out of themselves: the bodies of their grants and the events of their deliveries, in
    /// order.
    Submitted {
        answers: Vec<Result<Committed, Undone>>,
        bodies: Vec<Option<Arc<JobBody>>>,
        events: Vec<Option<Arc<Event>>>,
    },
    Got(Option<Record>),
    Listed(Slice),
    Log(LogSlice),
    Woken(bool),
    Maintained(Maintained),
    Now(Now),
    Pong,
    Failed(Trouble),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Undone {
    Rejected(Rejection),
    Failed(Trouble),
}

/// An [`Error`] without what caused it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Trouble {
    kind: u8,
    unknown: bool,
    message: String,
}

const KINDS: [ErrorKind; 7] = [
    ErrorKind::Unavailable,
    ErrorKind::Overloaded,
    ErrorKind::DeadlineExceeded,
    ErrorKind::Closed,
    ErrorKind::Untrusted,
    ErrorKind::NotSupported,
    ErrorKind::Invalid,
];

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        // The leader that closes or is replaced is not this store: another will lead.
        let kind = match error.kind() {
            ErrorKind::Closed => ErrorKind::Unavailable,
            kind => kind,
        };
        let kind = KINDS.iter().position(|known| *known == kind).unwrap_or_default() as u8;
        Trouble { kind, unknown: error.applied() == Applied::Unknown, message: error.to_string() }
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Error {
        let kind = KINDS.get(usize::from(trouble.kind)).copied().unwrap_or(ErrorKind::Unavailable);
        match trouble.unknown {
            true => Error::unknown(kind, trouble.message),
            false => Error::new(kind, trouble.message),
        }
    }
}

impl Call {
    pub(crate) fn submit(batch: Batch, within: Duration) -> Call {
        let within = batch.within.unwrap_or(within);
        Call::Submit { commits: batch.commits, within_ms: mainstay_writer::desk::millis(within) }
    }

    /// How long it may wait for its turn at the process that leads, if it says so.
    pub(crate) fn within(&self) -> Option<Duration> {
        match self {
            Call::Submit { within_ms, .. } => Some(Duration::from_millis(*within_ms)),
            _ => None,
        }
    }

    /// The same once more, if it changes nothing.
    pub(crate) fn again(&self) -> Option<Call> {
        Some(match self {
            Call::Get(key) => Call::Get(key.clone()),
            Call::List(query, page) => Call::List(query.clone(), page.clone()),
            Call::ReadLog(filters, from, budget) => Call::ReadLog(filters.clone(), *from, *budget),
            Call::Now => Call::Now,
            Call::Ping => Call::Ping,
            _ => return None,
        })
    }

    /// It may have happened though no answer came.
    pub(crate) fn changes(&self) -> bool {
        matches!(self, Call::Submit { .. } | Call::Maintain(_))
    }
}

pub(crate) fn submitted(answers: Vec<Result<Committed, Failure>>) -> Told {
    let undone = |failure| match failure {
        Failure::Rejected(rejection) => Undone::Rejected(rejection),
        Failure::Failed(error) => Undone::Failed(error.into()),
    };
    let (mut bodies, mut events) = (Vec::new(), Vec::new());
    for reply in answers.iter().flatten().flat_map(|done| &done.replies) {
        match reply {
            Reply::Claimed(grants) => bodies.extend(grants.iter().map(|grant| grant.body.clone())),
            Reply::Event(EventReply::Fetched(deliveries)) => {
                events.extend(deliveries.iter().map(|delivery| delivery.event.clone()));
            }
            _ => {}
        }
    }
    let answers = answers.into_iter().map(|answer| answer.map_err(undone)).collect();
    Told::Submitted { answers, bodies, events }
}

/// What [`submitted`] made.
pub(crate) fn received(
    answers: Vec<Result<Committed, Undone>>,
    bodies: Vec<Option<Arc<JobBody>>>,
    events: Vec<Option<Arc<Event>>>,
) -> Vec<Result<Committed, Failure>> {
    let (mut bodies, mut events) = (bodies.into_iter(), events.into_iter());
    let mut answers: Vec<_> = answers.into_iter().map(|answer| answer.map_err(failure)).collect();
    for reply in answers.iter_mut().flatten().flat_map(|done| &mut done.replies) {
        match reply {
            Reply::Claimed(grants) => {
                grants.iter_mut().for_each(|grant| grant.body = bodies.next().flatten());
            }
            Reply::Event(EventReply::Fetched(deliveries)) => {
                deliveries.iter_mut().for_each(|delivery| delivery.event = events.next().flatten());
            }
            _ => {}
        }
    }
    answers
}

fn failure(undone: Undone) -> Failure {
    match undone {
        Undone::Rejected(rejection) => Failure::Rejected(rejection),
        Undone::Failed(trouble) => Failure::Failed(trouble.into()),
    }
}

/// What gives back the grants of an answer that nobody was there to take. `None`: there are none.
pub(crate) fn give_back(told: &Told, entropy: u64) -> Option<Call> {
    let Told::Submitted { answers, .. } = told else { return None };
    let mut ops = Vec::new();
    for reply in answers.iter().flatten().filter(|done| !done.repeated).flat_map(|done| &done.replies) {
        match reply {
            Reply::Claimed(grants) => ops.extend(grants.iter().map(|grant| {
                let outcome = Outcome::Release { delay_ms: 0 };
                Op::Settle(Settle { id: grant.id, lease: grant.lease, outcome, repeat_is_ok: true })
            })),
            Reply::Event(EventReply::Fetched(deliveries)) => {
                let leases: Vec<LeaseId> = deliveries.iter().map(|delivery| delivery.lease).collect();
                if !leases.is_empty() {
                    ops.push(Op::Event(EventOp::Release { leases, delay_ms: 0 }));
                }
            }
            Reply::Lock(LockReply::Granted(grant)) => {
                ops.push(Op::Lock(LockOp::Release { name: grant.name.clone(), lease: grant.lease }));
            }
            _ => {}
        }
    }
    // Each stands alone: one that has ended otherwise keeps no other.
    let commits: Vec<_> = ops.into_iter().map(|op| Commit::of(op, entropy)).collect();
    (!commits.is_empty()).then_some(Call::Submit { commits, within_ms: 30_000 })
}

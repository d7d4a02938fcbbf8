//! A batch of commits as calls to a server.

use std::collections::VecDeque;

use mainstay_api::{
    Code,
    client::{ApiError, HttpClient},
    types as wire,
};
use mainstay_core::{
    job::{Grant, Outcome},
    op::{Claim, Commit, Committed, Failure, Op, Place, Reason, Rejection, Reply},
};

use super::{convert, fault, locks, write};

/// What the server settles in one call.
const ITEMS: usize = 1_000;
/// As much text as goes into one call, unless a single item has more: half of what a server takes.
const BYTES: usize = 8 << 20;

type Answer = Result<Committed, Failure>;

/// Each commit in its turn; settles that follow each other, and a claim after them, in one call, and so renewals of
/// locks.
pub(super) async fn all(server: &write::Server<'_>, commits: Vec<Commit>) -> Vec<Answer> {
    let client = server.client;
    let mut answers = Vec::with_capacity(commits.len());
    let mut rest = commits.as_slice();
    while let [first, ..] = rest {
        let run = run(rest);
        let renewals = rest.iter().take(ITEMS).map_while(renewal).count();
        let taken = if renewals > 1 {
            renew(client, &rest[..renewals], &mut answers).await;
            renewals
        } else if run > 0 {
            let claim = rest.get(run).and_then(lone_claim);
            match settle(client, &rest[..run], claim, &mut answers).await {
                Claimed::Yes => run + 1,
                Claimed::No => run,
            }
        } else {
            answers.push(write::commit(server, first).await);
            1
        };
        rest = &rest[taken..];
    }
    answers
}

fn is_settle_item(commit: &Commit) -> bool {
    let [op] = commit.ops.as_slice() else { return false };
    let is_item = match op {
        // One that must not be repeated is a commit.
        Op::Settle(settle) => settle.repeat_is_ok,
        Op::Extend { .. } => true,
        _ => false,
    };
    is_item && commit.key.is_none() && commit.require.is_empty()
}

/// A commit that is one item of a settle.
fn settle_item(commit: &Commit) -> Option<wire::SettleItem> {
    if !is_settle_item(commit) {
        return None;
    }
    match commit.ops.first()? {
        Op::Settle(settle) => Some(wire::SettleItem {
            id: convert::wire_id(settle.id),
            lease: settle.lease.to_string(),
            outcome: convert::outcome(&settle.outcome),
        }),
        Op::Extend { id, lease, extend_ms, progress } => Some(wire::SettleItem {
            id: convert::wire_id(*id),
            lease: lease.to_string(),
            outcome: wire::SettleOutcome::Extend {
                extend_ms: *extend_ms,
                progress: progress.as_ref().map(convert::raw),
            },
        }),
        _ => None,
    }
}

/// A commit that is one item of many renewals.
fn renewal(commit: &Commit) -> Option<wire::RenewItem> {
    match commit.ops.as_slice() {
        [Op::Lock(op)] if commit.key.is_none() && commit.require.is_empty() => locks::renewal(op),
        _ => None,
    }
}

async fn renew(client: &HttpClient, commits: &[Commit], answers: &mut Vec<Answer>) {
    let leases = commits.iter().filter_map(renewal).collect();
    let renewed = match client.renew_many(&wire::RenewMany { leases }).await {
        Ok(renewed) => renewed,
        Err(error) => {
            answers.extend(commits.iter().map(|_| Err(fault::trouble(&error).into())));
            return;
        }
    };
    let mut results = renewed.results.iter();
    for commit in commits {
        answers.push(match (results.next(), commit.ops.first()) {
            (Some(result), Some(op)) => locks::renewed(result, op),
            _ => Err(convert::senseless("renewal", "an item without a result").into()),
        });
    }
}

fn lone_claim(commit: &Commit) -> Option<&Claim> {
    match commit.ops.as_slice() {
        [Op::Claim(claim)] if commit.key.is_none() && commit.require.is_empty() => Some(claim),
        _ => None,
    }
}

/// How many of the next ones go into one settle.
fn run(commits: &[Commit]) -> usize {
    let mut bytes = 0;
    let fits = |commit: &&Commit| {
        bytes += text_of(commit);
        bytes <= BYTES
    };
    let items = commits.iter().take(ITEMS).take_while(|commit| is_settle_item(commit));
    let most = items.clone().take_while(fits).count();
    most.max(items.take(1).count())
}

fn text_of(commit: &Commit) -> usize {
    let text = |text: Option<&str>| text.map_or(0, str::len);
    let each = commit.ops.iter().map(|op| match op {
        Op::Settle(settle) => match &settle.outcome {
            Outcome::Complete { result } => text(result.as_deref()),
            Outcome::Fail { error, .. } | Outcome::Cancel { error: Some(error) } => {
                error.message.len() + text(error.backtrace.as_deref())
            }
            _ => 0,
        },
        Op::Extend { progress, .. } => text(progress.as_deref()),
        _ => 0,
    });
    each.sum()
}

enum Claimed {
    Yes,
    /// It was not asked for, or is still to be made.
    No,
}

/// Settles, with an answer each; the claim's comes after them.
///
/// One item that a server cannot read would be the end of all in its call: they are halved until it is alone.
async fn settle(
    client: &HttpClient,
    commits: &[Commit],
    claim: Option<&Claim>,
    answers: &mut Vec<Answer>,
) -> Claimed {
    let mut answered = Claimed::No;
    let mut parts = VecDeque::from([(commits, claim)]);
    while let Some((commits, claim)) = parts.pop_front() {
        match call(client, commits, claim, answers).await {
            Ok(()) if claim.is_some() => answered = Claimed::Yes,
            Ok(()) => {}
            Err(error) if is_of_an_item(&error) && (commits.len() > 1 || claim.is_some()) => {
                let (first, second) = commits.split_at(commits.len().div_ceil(2));
                let halves = [second, first].into_iter().filter(|half| !half.is_empty());
                halves.for_each(|half| parts.push_front((half, None)));
            }
            Err(error) if is_of_an_item(&error) => answers.push(Err(refused(&error))),
            Err(error) => {
                let all = commits.len() + usize::from(claim.is_some());
                answers.extend((0..all).map(|_| Err(fault::trouble(&error).into())));
                if claim.is_some() {
                    answered = Claimed::Yes;
                }
            }
        }
    }
    answered
}

/// What is asked is at fault, not who asks or the server.
fn is_of_an_item(error: &ApiError) -> bool {
    matches!(error.code(), Some(Code::ValidationFailed | Code::PayloadTooLarge | Code::MalformedBody))
}

fn refused(error: &ApiError) -> Failure {
    let detail = match error.problem() {
        Some(problem) => problem.errors.first().map_or(&problem.detail, |error| &error.detail).clone(),
        None => error.to_string(),
    };
    Rejection { at: Place::Op(0), reason: Reason::Invalid { field: "outcome", detail } }.into()
}

async fn call(
    client: &HttpClient,
    commits: &[Commit],
    claim: Option<&Claim>,
    answers: &mut Vec<Answer>,
) -> Result<(), ApiError> {
    let items = commits.iter().filter_map(settle_item).collect();
    let asked = wire::Settle { items, claim: claim.map(write::wire_claim) };
    let settled = client.settle(&asked).await?;
    let mut results = settled.results.into_iter();
    for commit in commits {
        let answer = match (results.next(), commit.ops.first()) {
            (Some(result), Some(op)) => item(&result, op),
            _ => Err(convert::senseless("settle", "an item without a result").into()),
        };
        answers.push(answer);
    }
    if claim.is_some() {
        answers.push(claimed(&settled.jobs));
    }
    Ok(())
}

fn item(result: &wire::SettleResult, op: &Op) -> Answer {
    if let Some(error) = &result.error {
        return Err(fault::of_item(error.code, &error.detail, op));
    }
    let id = convert::job_id(result.id)?;
    let reply = match (op, result.state, result.expires_at) {
        (Op::Extend { .. }, _, Some(expires_at)) => Reply::Extended {
            id,
            expires_at: mainstay_core::Timestamp(expires_at.0),
            cancel_requested: result.cancel_requested.unwrap_or(false),
        },
        (_, Some(state), _) => Reply::Settled {
            id,
            state: convert::state(state),
            run_at: result.run_at.map(|at| mainstay_core::Timestamp(at.0)),
        },
        _ => return Err(convert::senseless("settle", "a result without a state").into()),
    };
    Ok(write::one(reply))
}

pub(super) fn claimed(jobs: &[wire::ClaimedJob]) -> Answer {
    let grants: Result<Vec<Grant>, _> = jobs.iter().map(convert::grant).collect();
    Ok(write::one(Reply::Claimed(grants?)))
}

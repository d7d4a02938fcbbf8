//! A batch of commits as calls to a server.

use mainstay_api::{client::HttpClient, types as wire};
use mainstay_core::{
    job::Grant,
    op::{Claim, Commit, Committed, Failure, Op, Reply},
};

use super::{convert, fault, locks, write};

/// What the server settles in one call.
const ITEMS: usize = 1_000;

type Answer = Result<Committed, Failure>;

/// Each commit in its turn; settles that follow each other, and a claim after them, in one call, and so renewals of
/// locks.
pub(super) async fn all(server: &write::Server<'_>, commits: Vec<Commit>) -> Vec<Answer> {
    let client = server.client;
    let mut answers = Vec::with_capacity(commits.len());
    let mut rest = commits.as_slice();
    while let [first, ..] = rest {
        let run = rest.iter().take(ITEMS).take_while(|commit| settle_item(commit).is_some()).count();
        let renewals = rest.iter().take(ITEMS).map_while(renewal).count();
        let taken = if renewals > 1 {
            renew(client, &rest[..renewals], &mut answers).await;
            renewals
        } else if run > 0 {
            let claim = rest.get(run).and_then(lone_claim);
            settle(client, &rest[..run], claim, &mut answers).await;
            run + usize::from(claim.is_some())
        } else {
            answers.push(write::commit(server, first).await);
            1
        };
        rest = &rest[taken..];
    }
    answers
}

/// A commit that is one item of a settle.
fn settle_item(commit: &Commit) -> Option<wire::SettleItem> {
    let [op] = commit.ops.as_slice() else { return None };
    if commit.key.is_some() || !commit.require.is_empty() {
        return None;
    }
    match op {
        // One that must not be repeated is a commit.
        Op::Settle(settle) if settle.repeat_is_ok => Some(wire::SettleItem {
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

async fn settle(client: &HttpClient, commits: &[Commit], claim: Option<&Claim>, answers: &mut Vec<Answer>) {
    let items = commits.iter().filter_map(settle_item).collect();
    let asked = wire::Settle { items, claim: claim.map(write::wire_claim) };
    let settled = match client.settle(&asked).await {
        Ok(settled) => settled,
        Err(error) => {
            let all = commits.len() + usize::from(claim.is_some());
            answers.extend((0..all).map(|_| Err(fault::trouble(&error).into())));
            return;
        }
    };
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

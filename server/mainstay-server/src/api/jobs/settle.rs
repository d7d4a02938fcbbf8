//! Ending many claims, each on its own, and claiming more: `POST /v1/jobs/settle`.

use http::StatusCode;
use mainstay::core::access::ScopeKind;
use mainstay::core::job::{Grant, Outcome};
use mainstay::core::op::{self, Commit, Committed, Failure, Op, Reply};
use mainstay_api::types::{ItemError, Settle, SettleItem, SettleOutcome};
use mainstay_api::{Code, Problem};

use super::claim;
use super::give_back::Undelivered;
use super::write::Json;
use crate::api::call::{Answer, Call};
use crate::api::error::Shape;
use crate::api::{answer, convert, error};

/// What becomes of an item: judged by the store, as the commit of this number, or refused before.
enum Judged {
    Commit(usize),
    Before(ItemError),
}

/// One durability point for all items and for what can be claimed at once; waiting for more comes after it.
pub(crate) async fn settle(call: Call) -> Answer {
    let mut input = call.input();
    input.keyed();
    let settle = input.body::<Settle>()?;
    let (settle, keyed) = input.finish(settle)?;
    let wanted = match &settle.claim {
        Some(claim) => Some(claim::wanted(&call, claim)?),
        None => None,
    };
    if let Some(keyed) = keyed {
        // Alone and first: a key that came with another body must not settle what the first one did not name.
        call.commit(Commit { key: Some(keyed.whole()), ..Commit::default() }, Shape::Single).await?;
    }

    let entropy = call.api.store.entropy();
    let mut commits = Vec::with_capacity(settle.items.len() + 1);
    let mut judged = Vec::with_capacity(settle.items.len());
    let mut ids = Vec::with_capacity(settle.items.len());
    for (index, item) in settle.items.into_iter().enumerate() {
        ids.push(item.id);
        judged.push(match op(&call, item).await? {
            Ok(op) => {
                let entropy = mainstay::core::rules::mix(entropy, index as u64);
                let key = keyed.map(|keyed| keyed.part("item", index));
                commits.push(Commit { key, ..Commit::of(op, entropy) });
                Judged::Commit(commits.len() - 1)
            }
            Err(error) => Judged::Before(error),
        });
    }
    let settled = commits.len();
    let claim_key = keyed.map(|keyed| keyed.part("claim", 0));
    // In the drain the items are settled as ever, and nothing is handed out.
    let wanted = wanted.filter(|_| !call.api.shutdown.is_draining());
    if let Some(wanted) = &wanted {
        let claim = Commit::of(Op::Claim(wanted.clone()), call.api.store.entropy());
        commits.push(Commit { key: claim_key, ..claim });
    }
    let mut answers = if commits.is_empty() { Vec::new() } else { call.submit(commits).await? };
    let claimed = wanted.is_some().then(|| answers.pop()).flatten();
    // The items are durable, whatever becomes of the claim: then nothing was claimed, and the next call hears why.
    let tolerant = |claimed: Result<Vec<Grant>, Problem>| match claimed {
        Err(problem) if settled > 0 => {
            tracing::info!(
                code = problem.code.as_str(),
                "items were settled, and nothing could be claimed after it"
            );
            Ok((Vec::new(), true))
        }
        claimed => claimed.map(|grants| (grants, false)),
    };
    let (mut grants, failed) = claimed.map(grants).map_or(Ok((Vec::new(), false)), tolerant)?;
    let mut undelivered = Undelivered::new(&call, &grants, keyed.is_some());
    answers.truncate(settled);

    if let (true, Some(wanted), Some(asked)) = (grants.is_empty() && !failed, wanted, &settle.claim) {
        let wait = call.wait(asked.wait_ms);
        if !wait.is_zero() {
            grants = tolerant(claim::wait(&call, wanted, claim_key, wait).await)?.0;
            undelivered = Undelivered::new(&call, &grants, keyed.is_some());
        }
    }
    if !grants.is_empty() {
        // A client that left while its items were being settled gets nothing new.
        call.delivery().check_client().await;
    }
    let body = write(&ids, judged, &answers, &grants);
    Ok(undelivered.answer(&call, answer::raw(StatusCode::OK, body)))
}

/// The op an item stands for, or why there is none.
async fn op(call: &Call, item: SettleItem) -> Result<Result<Op, ItemError>, Problem> {
    let Some(id) = convert::job_id(item.id) else {
        return Ok(Err(ItemError { code: Code::NotFound, detail: error::not_found("job").detail.clone() }));
    };
    match super::must(call, ScopeKind::JobsWork, id).await {
        Ok(()) => {}
        // Each item stands alone: one on a foreign queue does not spoil the others.
        Err(problem) if matches!(problem.code, Code::Forbidden | Code::NotFound) => {
            return Ok(Err(ItemError { code: problem.code, detail: problem.detail.clone() }));
        }
        Err(problem) => return Err(problem),
    }
    let lease = convert::lease(&item.lease);
    let settle = |outcome| Ok(Ok(Op::Settle(op::Settle { id, lease, outcome, repeat_is_ok: true })));
    match item.outcome {
        SettleOutcome::Complete { result } => {
            settle(Outcome::Complete { result: result.as_ref().map(convert::json) })
        }
        SettleOutcome::Fail { error, retry } => {
            settle(Outcome::Fail { error: convert::failure(error), retry: convert::retry(retry) })
        }
        SettleOutcome::Release { delay_ms } => settle(Outcome::Release { delay_ms }),
        SettleOutcome::Cancel { error } => settle(Outcome::Cancel { error: error.map(convert::failure) }),
        SettleOutcome::Extend { extend_ms, progress } => {
            let progress = progress.as_ref().map(convert::json);
            Ok(Ok(Op::Extend { id, lease, extend_ms, progress }))
        }
    }
}

fn grants(answer: Result<Committed, Failure>) -> Result<Vec<Grant>, Problem> {
    let committed = answer.map_err(|failure| error::of_commit(&failure, Shape::Single))?;
    match committed.replies.into_iter().next() {
        Some(Reply::Claimed(grants)) => Ok(grants),
        _ => Err(error::internal("the store answered a claim with something else")),
    }
}

fn write(
    ids: &[mainstay_api::JobId],
    judged: Vec<Judged>,
    answers: &[Result<Committed, Failure>],
    grants: &[Grant],
) -> Vec<u8> {
    let mut body = Json::with_capacity(32 + 80 * ids.len() + claim::size(grants));
    body.raw("{\"results\":[");
    for (index, (id, judged)) in ids.iter().zip(judged).enumerate() {
        if index > 0 {
            body.raw(",");
        }
        match judged {
            Judged::Before(error) => body.failed(*id, error),
            Judged::Commit(number) => match answers.get(number) {
                Some(answer) => body.settled(*id, answer),
                None => body.failed(*id, error::item_bug()),
            },
        }
    }
    body.raw("],").jobs(grants);
    body.raw("}");
    body.finish()
}

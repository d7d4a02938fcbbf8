//! All that is wrong with jobs that are refused: what only the store knows, beside what can be read off them.
//!
//! A store refuses at the first job that is wrong, and is not asked at all about what cannot be read. Whoever has to
//! mend their request wants to hear of everything at once.

use std::collections::BTreeSet;

use mainstay::core::access::ScopeKind;
use mainstay::core::name::QueueName;
use mainstay_api::{Code, FieldError, JobId, Problem};
use serde_json::Value;

use crate::api::call::Call;
use crate::api::convert;

/// At most so many jobs are looked up for a refusal: it shall not cost more than what was asked for.
const LOOK_UPS: usize = 1_000;

/// The same refusal of jobs for `queue`, with all that is known to be wrong with them.
pub(super) async fn all(call: &Call, queue: Option<&QueueName>, problem: Problem) -> Problem {
    match queue {
        Some(queue)
            if problem.code == Code::ValidationFailed
                && call.caller.may(ScopeKind::JobsProduce, queue.as_str()) =>
        {
            with_the_stores(call, queue, problem).await
        }
        _ => problem,
    }
}

async fn with_the_stores(call: &Call, queue: &QueueName, problem: Problem) -> Problem {
    let mut errors = problem.errors.clone();
    let mut known: BTreeSet<String> = errors.iter().map(|error| error.pointer.clone()).collect();
    let (mut added, mut left) = (BTreeSet::new(), LOOK_UPS);
    'jobs: for (at, job) in jobs(&call.body) {
        let id = job["id"].as_str().and_then(|id| id.parse::<JobId>().ok());
        let mut is_known = false;
        if let Some(id) = id.and_then(convert::job_id) {
            let Some(rest) = left.checked_sub(1) else { break };
            left = rest;
            let Ok(first) = call.api.store.job(id).await else { break };
            is_known = first.is_some();
            let pointer = format!("{at}/id");
            if first.is_some_and(|first| first.queue != *queue) && known.insert(pointer.clone()) {
                errors.push(FieldError::new(pointer, "a job with this id exists in another queue"));
            }
        }
        // A duplicate waits for nothing new.
        let after = job["after"].as_array().filter(|_| !is_known);
        for (index, id) in after.into_iter().flatten().enumerate() {
            let Some(id) = id.as_str().and_then(|id| id.parse::<JobId>().ok()) else { continue };
            let pointer = format!("{at}/after/{index}");
            if added.contains(&id) || known.contains(&pointer) {
                continue;
            }
            let Some(rest) = left.checked_sub(1) else { break 'jobs };
            left = rest;
            let found = match convert::job_id(id) {
                Some(id) => call.api.store.job(id).await,
                None => Ok(None),
            };
            let Ok(found) = found else { break 'jobs };
            if found.is_none() {
                errors.push(FieldError::new(pointer, "no job has this id, or it has been forgotten"));
            }
        }
        added.extend(id);
    }
    if errors.len() == problem.errors.len() {
        return problem;
    }
    Problem::invalid(errors).and_unlisted(problem.unlisted)
}

/// The jobs of a body, each with its place, as far as they can be made out: one, those of a bulk, or one a line.
fn jobs(body: &[u8]) -> Vec<(String, Value)> {
    let numbered = |jobs: Vec<Value>| {
        jobs.into_iter().enumerate().map(|(index, job)| (format!("/jobs/{index}"), job)).collect()
    };
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(mut body)) => match body.remove("jobs") {
            Some(Value::Array(jobs)) => numbered(jobs),
            _ => vec![(String::new(), body.into())],
        },
        Ok(_) => vec![],
        Err(_) => {
            let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
            numbered(lines.map(|line| serde_json::from_slice(line).unwrap_or_default()).collect())
        }
    }
}

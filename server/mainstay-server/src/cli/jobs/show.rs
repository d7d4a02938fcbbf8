//! `mainstay jobs show`.

use clap::Args;
use mainstay_api::types::JobView;
use mainstay_api::{JobId, Timestamp};

use super::super::table::facts;
use super::super::words::{clean, count, exact, now, when};
use super::list::reason;
use super::{Failure, Outcome, Session};

/// Flags of `mainstay jobs show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The job
    id: JobId,
}

impl Show {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        let api = session.api()?;
        let job = api.job(self.id).await.map_err(|error| Failure::of_call(&error, api.url()))?;
        session.answer(&job, || text(&job, now()))
    }
}

/// What it waits for or waited for; of many, how many.
fn after(job: &JobView) -> String {
    let ids: Vec<_> = job.after.iter().map(ToString::to_string).collect();
    let named = if ids.len() <= 4 { ids.join(", ") } else { count(ids.len() as u64, "job") };
    match job.waiting_for {
        Some(left) if ids.len() > 1 => format!("{named} ({left} of {} left)", ids.len()),
        _ => named,
    }
}

fn text(job: &JobView, now: Timestamp) -> String {
    let at = |at: Timestamp| format!("{at} ({})", when(at, now));
    let shown = |some: Option<Timestamp>| some.map(at).unwrap_or_default();
    let state = match (&job.reason, job.cancel_requested) {
        (Some(why), _) => format!("{} ({})", job.state, reason(*why)),
        (None, true) => format!("{} (told to stop)", job.state),
        (None, false) => job.state.to_string(),
    };
    let mut out = facts(&[
        ("id", job.id.to_string()),
        ("queue", job.queue.clone()),
        ("kind", job.kind.clone()),
        ("state", state),
        ("attempt", format!("{} of {}", job.attempt, job.max_attempts)),
        (
            "crashes",
            if job.crashes == 0 { String::new() } else { format!("{} of {}", job.crashes, job.max_crashes) },
        ),
        ("priority", job.priority.to_string()),
        ("made", at(job.created_at)),
        ("runs", if job.state.is_finished() { String::new() } else { at(job.run_at) }),
        ("finished", shown(job.finished_at)),
        ("expires", shown(job.expires_at)),
        ("time limit", job.timeout_ms.map(exact).unwrap_or_default()),
        ("unique key", job.unique.as_ref().map(|unique| unique.key.clone()).unwrap_or_default()),
        ("after", after(job)),
        ("concurrency", job.concurrency_key.clone().unwrap_or_default()),
        ("fairness", job.fairness_key.clone().unwrap_or_default()),
        ("tags", job.tags.join(", ")),
        ("worker", job.worker.clone().unwrap_or_default()),
        ("lease ends", shown(job.lease_expires_at)),
        ("progress", if job.progress.is_null() { String::new() } else { job.progress.to_string() }),
        ("meta", if job.meta.as_bytes() == b"{}" { String::new() } else { job.meta.to_string() }),
        ("payload", job.payload.to_string()),
        ("result", job.result.as_ref().map(ToString::to_string).unwrap_or_default()),
    ]);
    if !job.errors.is_empty() {
        out += "errors:\n";
    }
    for error in &job.errors {
        let kind = error.kind.as_deref().map(|kind| format!("{kind}: ")).unwrap_or_default();
        let message = clean(&format!("{kind}{}", error.message.trim_end())).replace('\n', "\n    ");
        out += &format!("  attempt {}, {}\n    {message}\n", error.attempt, when(error.at, now));
    }
    out
}

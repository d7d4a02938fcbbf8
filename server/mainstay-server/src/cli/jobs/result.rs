//! `mainstay jobs result`, and the waiting of `enqueue --wait`.

use std::time::Duration;

use clap::Args;
use mainstay_api::JobId;
use mainstay_api::client::HttpClient;
use mainstay_api::types::{JobResult, JobState};
use serde::Serialize;
use tokio::time::Instant;

use super::{Failure, Outcome, Session, session};

/// How long one call waits; the server allows 60 s.
const POLL: Duration = Duration::from_secs(20);

/// Flags of `mainstay jobs result`.
#[derive(Debug, Args)]
pub(crate) struct ResultOf {
    /// The job
    id: JobId,
    /// How long to wait for the end of the job [default: not at all]
    #[arg(long, value_name = "N")]
    wait_ms: Option<u64>,
}

impl ResultOf {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        wait(&session.api()?, self.id, Some(self.wait_ms.unwrap_or(0)), session).await
    }
}

/// Waits for the end of a job, and prints what came out. Anything but completion is a failure.
pub(super) async fn wait(api: &HttpClient, id: JobId, limit_ms: Option<u64>, session: &Session) -> Outcome {
    let deadline = limit_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
    let mut api = api.clone();
    let result = loop {
        let left = deadline.map_or(POLL, |deadline| deadline.saturating_duration_since(Instant::now()));
        let wait = u64::try_from(left.min(POLL).as_millis()).unwrap_or(0);
        let result = api.job_result(id, wait).await;
        let result = result.map_err(|e| Failure::of_call(&e, api.url()).detail(format!("job {id}")))?;
        if result.state.is_finished() || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            break result;
        }
        // The server is there: its restart is not worth giving up a long wait for.
        api = api.with_retry(true);
    };
    tell(&result, id, session)
}

/// What came of which job.
#[derive(Serialize)]
struct Told<'r> {
    id: JobId,
    #[serde(flatten)]
    result: &'r JobResult,
}

fn tell(result: &JobResult, id: JobId, session: &Session) -> Outcome {
    if !session.is_text() {
        session.answer(&Told { id, result }, String::new)?;
    }
    match result.state {
        JobState::Completed => {
            if session.is_text() {
                // As it is, for the next program.
                session::print(&result.result.clone().unwrap_or_default().to_string())?;
            }
            Ok(())
        }
        JobState::Dead | JobState::Cancelled => {
            let failure = Failure::new(format!("job {id} is {}", result.state));
            Err(match &result.error {
                Some(error) => {
                    let kind = error.kind.as_deref().map(|kind| format!("{kind}: ")).unwrap_or_default();
                    failure.detail(super::super::words::clean(&format!(
                        "attempt {}: {kind}{}",
                        error.attempt, error.message
                    )))
                }
                None => failure,
            })
        }
        state => Err(Failure::new(format!("job {id} has not finished: it is {state}"))
            .tip(format!("`mainstay jobs show {id}` says more; --wait-ms waits longer"))),
    }
}

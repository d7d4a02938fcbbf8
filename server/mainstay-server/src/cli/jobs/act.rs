//! `mainstay jobs retry`, `cancel` and `delete`: one call a job, each on its own.

use clap::Args;
use mainstay_api::client::{ApiError, HttpClient};
use mainstay_api::types::{ItemError, JobState};
use mainstay_api::{Code, JobId};
use serde::Serialize;

use super::{Failure, Outcome, Session, session};

/// The jobs a command is about.
#[derive(Debug, Args)]
pub(crate) struct Ids {
    /// The jobs
    #[arg(required = true, value_name = "ID")]
    ids: Vec<JobId>,
}

/// What is done to them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verb {
    Retry,
    Cancel,
    Delete,
}

/// What became of one of them.
#[derive(Debug, Serialize)]
struct Acted {
    id: JobId,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<JobState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel_requested: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ItemError>,
}

#[derive(Serialize)]
struct All {
    results: Vec<Acted>,
}

impl Ids {
    pub(super) async fn run(self, verb: Verb, session: &Session) -> Outcome {
        let api = session.api()?;
        let (mut results, mut failed) = (Vec::new(), 0);
        for id in self.ids {
            match act(&api, verb, id).await {
                Ok(acted) => {
                    if session.is_text() {
                        session::print(&words(&acted))?;
                    }
                    results.push(acted);
                }
                // What is wrong with one job says nothing about the next; all else will be wrong with it, too.
                Err(error) if matches!(error.code(), Some(Code::NotFound | Code::StateConflict)) => {
                    failed += 1;
                    let failure = Failure::of_call(&error, api.url());
                    if session.is_text() {
                        session::note(&format!("{id}: {}", failure.text()));
                    }
                    let item = error.problem().map(|p| ItemError { code: p.code, detail: p.detail.clone() });
                    results.push(Acted { id, state: None, cancel_requested: None, error: item });
                }
                Err(error) => return Err(Failure::of_call(&error, api.url())),
            }
        }
        if !session.is_text() {
            session.answer(&All { results }, String::new)?;
        }
        // Told one by one above.
        if failed == 0 { Ok(()) } else { Err(Failure::silent(1)) }
    }
}

async fn act(api: &HttpClient, verb: Verb, id: JobId) -> Result<Acted, ApiError> {
    let mut acted = Acted { id, state: None, cancel_requested: None, error: None };
    match verb {
        Verb::Retry => acted.state = Some(api.retry(id).await?.state),
        Verb::Cancel => {
            let answer = api.cancel(id).await?;
            (acted.state, acted.cancel_requested) = (Some(answer.state), Some(answer.cancel_requested));
        }
        Verb::Delete => api.delete_job(id).await?,
    }
    Ok(acted)
}

fn words(acted: &Acted) -> String {
    match (acted.state, acted.cancel_requested) {
        (Some(JobState::Running), Some(true)) => format!("{} is running, and was told to stop", acted.id),
        (Some(state), _) => format!("{} is {state}", acted.id),
        (None, _) => format!("{} is forgotten", acted.id),
    }
}

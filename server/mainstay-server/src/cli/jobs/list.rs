//! `mainstay jobs list`.

use clap::Args;
use mainstay_api::Timestamp;
use mainstay_api::query::{DEFAULT_PAGE, JobsQuery, PageQuery};
use mainstay_api::types::{JobState, JobView, Page};

use super::super::table::Table;
use super::super::words::{brief, now, when};
use super::{Failure, Outcome, Session, session};

/// Where in a list.
#[derive(Debug, Clone, Args)]
pub(crate) struct PageArgs {
    /// How many at most, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = DEFAULT_PAGE, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Go on where an earlier list ended
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

impl PageArgs {
    pub(crate) fn query(self) -> PageQuery {
        PageQuery { limit: self.limit, cursor: self.cursor }
    }
}

/// Says how to go on, where there is more.
pub(crate) fn more<T>(page: &Page<T>, session: &Session) {
    if let Some(cursor) = page.next_cursor.as_deref().filter(|_| session.is_text()) {
        session::note(&format!("there is more: --cursor {cursor}"));
    }
}

/// Flags of `mainstay jobs list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only of this queue
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// Only in this state
    #[arg(long, value_name = "STATE")]
    state: Option<JobState>,
    /// Only of this kind
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only with this tag
    #[arg(long, value_name = "WORD")]
    tag: Option<String>,
    /// Print only the ids, for the next command
    #[arg(long)]
    ids: bool,
    #[command(flatten)]
    page: PageArgs,
}

impl List {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        let api = session.api()?;
        let Self { queue, state, kind, tag, ids, page } = self;
        let query = JobsQuery { queue, state, kind, tag, page: page.query() };
        let page = api.jobs(&query).await.map_err(|error| Failure::of_call(&error, api.url()))?;
        answer(&page, ids, session)
    }
}

/// Prints a page of jobs.
pub(super) fn answer(page: &Page<JobView>, ids: bool, session: &Session) -> Outcome {
    if session.is_text() && page.items.is_empty() && page.next_cursor.is_none() {
        session::note("no such jobs");
        return Ok(());
    }
    session.answer(page, || {
        if ids {
            return page.items.iter().map(|job| format!("{}\n", job.id)).collect();
        }
        table(&page.items, now()).render()
    })?;
    more(page, session);
    Ok(())
}

fn table(jobs: &[JobView], now: Timestamp) -> Table {
    let mut table = Table::new(&["ID", "STATE", "QUEUE", "KIND", "#TRY", "MADE", "NOTE"]);
    for job in jobs {
        table.row([
            job.id.to_string(),
            job.state.to_string(),
            job.queue.clone(),
            brief(&job.kind, 40),
            format!("{}/{}", job.attempt, job.max_attempts),
            when(job.created_at, now),
            note(job, now),
        ]);
    }
    table
}

/// What matters most about a job in its state.
fn note(job: &JobView, now: Timestamp) -> String {
    let error = || {
        let last = job.error.as_ref().or(job.errors.last());
        last.map(|error| format!(": {}", brief(&error.message, 60))).unwrap_or_default()
    };
    match job.state {
        JobState::Scheduled => format!("runs {}", when(job.run_at, now)),
        JobState::Retryable => format!("again {}{}", when(job.run_at, now), error()),
        JobState::Running if job.cancel_requested => "told to stop".to_owned(),
        JobState::Running => job.worker.as_deref().map(|name| format!("at {name}")).unwrap_or_default(),
        JobState::Dead => format!("{}{}", job.reason.map(reason).unwrap_or_default(), error()),
        _ => String::new(),
    }
}

/// The word of the contract.
pub(super) fn reason(reason: mainstay_api::types::DeadReason) -> String {
    serde_json::to_value(reason).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(more: &str) -> JobView {
        let text = format!(
            r#"{{"id":"019aae51-4f2b-7c3d-8e4f-0123456789ab","queue":"mail","kind":"send","payload":1,"priority":5,
            "attempt":2,"max_attempts":20,"crashes":0,"max_crashes":3,"run_at":"1970-01-01T00:01:00Z",
            "created_at":"1970-01-01T00:00:00Z","backoff":{{}},"tags":[],"meta":{{}},"progress":null,
            "errors":[],"cancel_requested":false,{more}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_row_says_what_matters_in_its_state() {
        for (more, part) in [
            (r#""state":"scheduled""#, "runs in 20s"),
            (r#""state":"running","worker":"w-1""#, "at w-1"),
            (r#""state":"running","worker":"w-1","cancel_requested":true"#, "told to stop"),
            (
                r#""state":"dead","reason":"exhausted","error":{"attempt":2,"at":"1970-01-01T00:00:00Z","type":null,"message":"boom\nmore"}"#,
                "exhausted: boom",
            ),
        ] {
            let more = more.replace(r#","cancel_requested":true"#, "");
            let mut job = job(&more);
            job.cancel_requested = part == "told to stop";
            let text = table(&[job], Timestamp(40_000)).render();
            assert!(text.contains("2/20  40s ago"), "{text}");
            assert!(text.trim_end().ends_with(part), "{part} in {text}");
        }
    }
}

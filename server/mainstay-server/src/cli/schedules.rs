//! `mainstay schedules`.

use clap::{Args, Subcommand, ValueEnum};
use mainstay_api::Timestamp;
use mainstay_api::types::{CatchUp, NewJob, PutSchedule, ScheduleView, Unique};
use mainstay_api::{Limits, RawJson, strict};

use super::jobs::{PageArgs, more, payload};
use super::table::{Table, facts};
use super::words::{brief, now, when};
use super::{Failure, Outcome, Session, session};

#[derive(Debug, Subcommand)]
pub(crate) enum Schedules {
    /// List schedules, and when each fires next
    List(PageArgs),
    /// Show everything about a schedule
    Show(Name),
    /// Make a schedule, or replace the whole of it
    Put(Box<Put>),
    /// Make a schedule's job now, beside its ticks
    Trigger(Name),
    /// Let a schedule fire no more; its ticks until it is resumed never happen
    Pause(Name),
    /// Let a paused schedule fire again
    Resume(Name),
    /// Forget a schedule; jobs it has made stay
    Delete(Name),
}

/// The schedule a command is about.
#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The schedule
    #[arg(value_name = "SCHEDULE")]
    name: String,
}

/// Flags of `mainstay schedules put`.
#[derive(Debug, Args)]
pub(crate) struct Put {
    /// The schedule
    #[arg(value_name = "SCHEDULE")]
    name: String,
    /// When: minute, hour, day of month, month, day of week, such as "30 3 * * MON"; or six fields with seconds first
    cron: String,
    /// The queue its jobs go to
    queue: String,
    /// What is to be done: what workers choose by
    #[arg(required_unless_present = "job")]
    kind: Option<String>,
    /// JSON, `-` for standard input, or `@FILE`; nothing means null
    #[arg(allow_hyphen_values = true)]
    payload: Option<String>,
    /// The payload is text, not JSON: it becomes a JSON string
    #[arg(long)]
    text: bool,
    /// The whole job as in the API, such as {"kind":"k","payload":1,"max_attempts":3}
    #[arg(long, value_name = "JSON", conflicts_with_all = ["kind", "payload", "text", "unique_key", "max_attempts"])]
    job: Option<String>,
    /// Whose clock: a name such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// What becomes of ticks that nobody was there to fire [default: skip]
    #[arg(long, value_name = "WHICH")]
    catch_up: Option<Which>,
    /// At most one unfinished job with this key: a tick adds none while the last one's job has not finished
    #[arg(long, value_name = "KEY")]
    unique_key: Option<String>,
    /// How many failures and crashes end a job [default: 20]
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
}

/// What becomes of missed ticks.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Which {
    /// They are left out
    Skip,
    /// The latest is fired
    One,
    /// All are fired
    All,
}

impl Schedules {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        let api = session.api()?;
        let failed = |error| Failure::of_call(&error, api.url());
        match self {
            Schedules::List(page) => {
                let page = api.schedules(&page.query()).await.map_err(failed)?;
                if session.is_text() && page.items.is_empty() && page.next_cursor.is_none() {
                    session::note("no schedules: `mainstay schedules put` makes one");
                    return Ok(());
                }
                session.answer(&page, || table(&page.items, now()).render())?;
                more(&page, session);
                Ok(())
            }
            Schedules::Show(Name { name }) => {
                let view = api.schedule(&name).await.map_err(failed)?;
                session.answer(&view, || shown(&view, now()))
            }
            Schedules::Put(put) => {
                let (name, schedule) = put.schedule()?;
                let answer = api.put_schedule(&name, &schedule).await.map_err(failed)?;
                session.answer(&answer, || match answer.next_run_at {
                    Some(next) => format!("{name} fires next at {next}, {}", when(next, now())),
                    None => format!("{name} is paused"),
                })
            }
            Schedules::Trigger(Name { name }) => {
                let job = api.trigger_schedule(&name).await.map_err(failed)?;
                if job.deduplicated {
                    session.note("an earlier job answers for this one");
                }
                session.answer(&job, || job.id.to_string())
            }
            Schedules::Pause(Name { name }) => {
                api.pause_schedule(&name).await.map_err(failed)?;
                session.answer(&done(&name, "paused", true), || format!("{name} is paused"))
            }
            Schedules::Resume(Name { name }) => {
                api.resume_schedule(&name).await.map_err(failed)?;
                session.answer(&done(&name, "paused", false), || format!("{name} goes on"))
            }
            Schedules::Delete(Name { name }) => {
                api.delete_schedule(&name).await.map_err(failed)?;
                session.answer(&done(&name, "deleted", true), || format!("{name} is forgotten"))
            }
        }
    }
}

impl Put {
    fn schedule(self) -> Result<(String, PutSchedule), Failure> {
        let job = match self.job {
            Some(text) => {
                let job = strict::parse::<NewJob>(text.as_bytes(), &Limits::default());
                job.map_err(|problem| Failure::of_problem(&problem))?.value
            }
            None => NewJob {
                kind: self.kind.unwrap_or_default(),
                payload: self.payload.map(|given| payload(&given, self.text)).transpose()?,
                unique: self.unique_key.map(|key| Unique { key, for_ms: None }),
                max_attempts: self.max_attempts,
                ..NewJob::default()
            },
        };
        let catch_up = self.catch_up.map(|which| match which {
            Which::Skip => CatchUp::Skip,
            Which::One => CatchUp::One,
            Which::All => CatchUp::All,
        });
        let (cron, timezone, queue) = (self.cron, self.timezone, self.queue);
        Ok((self.name, PutSchedule { cron, timezone, queue, job, catch_up }))
    }
}

/// The document of what the server answers without one.
fn done(name: &str, what: &str, value: bool) -> serde_json::Value {
    serde_json::json!({ "name": name, what: value })
}

fn table(schedules: &[ScheduleView], now: Timestamp) -> Table {
    let mut table =
        Table::new(&["SCHEDULE", "CRON", "ZONE", "QUEUE", "KIND", "NEXT", "LAST", "#FIRED", "#MISSED"]);
    for it in schedules {
        table.row([
            it.name.clone(),
            it.cron.clone(),
            it.timezone.clone(),
            it.queue.clone(),
            brief(&it.job.kind, 40),
            if it.paused { "paused".to_owned() } else { ago(it.next_run_at, now) },
            ago(it.last_run_at, now),
            it.fired.to_string(),
            it.missed.to_string(),
        ]);
    }
    table
}

fn ago(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map_or_else(|| "-".to_owned(), |at| when(at, now))
}

fn shown(it: &ScheduleView, now: Timestamp) -> String {
    let at = |at: Option<Timestamp>| at.map(|at| format!("{at} ({})", when(at, now))).unwrap_or_default();
    let job = RawJson::of(&it.job).map(|job| job.to_string()).unwrap_or_default();
    facts(&[
        ("schedule", it.name.clone()),
        ("cron", it.cron.clone()),
        ("timezone", it.timezone.clone()),
        ("queue", it.queue.clone()),
        ("job", job),
        ("catch up", it.catch_up.as_str().to_owned()),
        ("paused", if it.paused { "yes" } else { "no" }.to_owned()),
        ("next", at(it.next_run_at)),
        ("last", at(it.last_run_at)),
        ("last job", it.last_job_id.map(|id| id.to_string()).unwrap_or_default()),
        ("fired", it.fired.to_string()),
        ("missed", it.missed.to_string()),
        ("made", at(Some(it.created_at))),
        ("changed", at(Some(it.updated_at))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_a_row() {
        let schedule: ScheduleView = serde_json::from_str(
            r#"{"name":"nightly","cron":"0 3 * * *","timezone":"UTC","queue":"chores","job":{"kind":"clean"},
            "catch_up":"one","paused":false,"next_run_at":"1970-01-01T00:01:00Z","last_run_at":null,"last_job_id":null,
            "fired":2,"missed":1,"created_at":"1970-01-01T00:00:00Z","updated_at":"1970-01-01T00:00:00Z"}"#,
        )
        .unwrap();
        let text = table(std::slice::from_ref(&schedule), Timestamp(40_000)).render();
        assert!(
            text.contains("nightly   0 3 * * *  UTC   chores  clean  in 20s  -         2       1"),
            "{text}"
        );
        assert!(shown(&schedule, Timestamp(40_000)).contains("catch up: one"));
        let paused = ScheduleView { paused: true, next_run_at: None, ..schedule };
        assert!(table(&[paused], Timestamp(0)).render().contains("paused"));
    }
}

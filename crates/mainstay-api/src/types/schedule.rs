//! Schedules: jobs that are made again and again.

use serde::{Deserialize, Serialize};

use super::NewJob;
use super::read::name;
use crate::strict::{Cx, Fields, Path, Strict, Value, one_of, text};
use crate::{JobId, Timestamp};

/// The whole of a schedule: `PUT /v1/schedules/{name}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PutSchedule {
    /// When: a cron expression of five fields (minute, hour, day of month, month, day of week), or six with seconds
    /// first.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 256))]
    pub cron: String,
    /// Whose clock the expression speaks of: a name of the IANA list. Defaults to `UTC`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// The queue the jobs go to.
    pub queue: String,
    /// What each tick makes: as for an enqueue, but without `id`, `run_at`, `expires_at` and `after`.
    pub job: NewJob,
    /// What becomes of ticks that nobody was there to fire. Defaults to `skip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<CatchUp>,
}

/// The time zone of a schedule that names none.
pub const DEFAULT_TIMEZONE: &str = "UTC";

impl Strict for PutSchedule {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["cron", "timezone", "queue", "job", "catch_up"])?;
        let cron = f.required(cx, at, "cron", text(1..=256));
        let timezone = f.optional(cx, at, "timezone", text(1..=64));
        let queue = f.required(cx, at, "queue", name);
        let job = f.required(cx, at, "job", template);
        let catch_up = f.optional(cx, at, "catch_up", one_of(CatchUp::WORDS));
        Some(Self { cron: cron?, timezone, queue: queue?, job: job?, catch_up })
    }
}

/// A job, but for what makes no sense more than once.
fn template(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<NewJob> {
    let job = NewJob::read(cx, at, value)?;
    if job.id.is_some() {
        cx.error(&at.key("id"), "is made anew at every tick");
    }
    if job.run_at.is_some() {
        cx.error(&at.key("run_at"), "is the tick; say delay_ms for some time after it");
    }
    if job.expires_at.is_some() {
        cx.error(&at.key("expires_at"), "would be the same for every tick; say expires_in_ms");
    }
    if !job.after.is_empty() {
        cx.error(&at.key("after"), "would be the same jobs for every tick");
    }
    Some(job)
}

/// What becomes of ticks that nobody was there to fire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum CatchUp {
    /// They are left out; a tick that is at most a minute late is fired.
    #[default]
    Skip,
    /// The latest of them is fired.
    One,
    /// All of them are fired, in their order.
    All,
}

impl CatchUp {
    const WORDS: &[(&str, Self)] = &[("skip", Self::Skip), ("one", Self::One), ("all", Self::All)];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, it)| *it == self).map_or("skip", |(word, _)| word)
    }
}

/// The answer to a `PUT` of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScheduleAnswer {
    /// When it fires next; `null` while it is paused.
    pub next_run_at: Option<Timestamp>,
}

/// A schedule: `GET /v1/schedules/{name}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScheduleView {
    /// Its name.
    pub name: String,
    /// When it fires.
    pub cron: String,
    /// Whose clock that is.
    pub timezone: String,
    /// Where its jobs go.
    pub queue: String,
    /// What each tick makes.
    pub job: NewJob,
    /// What becomes of ticks that nobody was there to fire.
    pub catch_up: CatchUp,
    /// Whether it does not fire.
    pub paused: bool,
    /// When it fires next; `null` while it is paused.
    pub next_run_at: Option<Timestamp>,
    /// The last tick that was fired.
    pub last_run_at: Option<Timestamp>,
    /// The job of that tick.
    pub last_job_id: Option<JobId>,
    /// How many ticks were fired.
    pub fired: u64,
    /// How many ticks were left out, because nobody was there in time.
    pub missed: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When what was `PUT`, or the pause, was changed last.
    pub updated_at: Timestamp,
}

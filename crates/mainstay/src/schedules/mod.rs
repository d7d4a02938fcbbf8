//! Schedules: jobs that are enqueued again and again, by a cron expression on the clock of a time zone.
//!
//! ```no_run
//! # use mainstay::{Boot, Job, Result, schedules::CatchUp};
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Serialize, Deserialize)] struct CleanUp;
//! # impl Job for CleanUp { const KIND: &'static str = "clean_up"; const QUEUE: &'static str = "chores"; }
//! # async fn boot(b: &mut Boot<()>) -> Result<()> {
//! b.store("sqlite:shop.db").await?;
//! b.schedule("clean-up", "30 3 * * *", CleanUp).timezone("Europe/Berlin").catch_up(CatchUp::One).await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Boot::store`](crate::Boot::store) starts a scheduler with the store; as many nodes as like may have one. Each sees
//! every tick, and the store takes it from one of them: the tick and its job are one commit that compares what is next.

mod cron;
mod plan;
mod run;
mod template;

pub use cron::{Cron, CronMistake};
pub use mainstay_core::schedule::{CatchUp, Schedule, ScheduleRecord, ScheduleState};
pub use run::Scheduler;
pub use template::{check as check_template, of_tick};

//! Schedules, from a program.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
};

use mainstay_core::{
    name::Name,
    op::{Enqueued, Op, Place, Reason, Rejection, Reply},
    schedule::{CatchUp, Schedule, ScheduleOp, ScheduleOrder, ScheduleRecord, ScheduleReply},
    store::{Key, Page, Query, Record, Slice},
    time::Timestamp,
};

use super::{Client, Result, StoreError, unexpected};
use crate::{
    Boot, Context,
    job::IntoNewJob,
    schedules::{Cron, check_template, of_tick},
};

/// So often a resume is worked out anew because somebody changed the schedule meanwhile.
const TRIES: usize = 8;

impl Client {
    /// Makes a schedule, or replaces the one of this name: `.await` it. One whose expression and time zone stay as they
    /// are keeps its next tick, so that it can be put at every start.
    ///
    /// It is fired by the scheduler of any node that has opened the store with [`Boot::store`].
    pub fn put_schedule(
        &self,
        name: impl Into<String>,
        cron: impl Into<String>,
        job: impl IntoNewJob,
    ) -> PutSchedule {
        PutSchedule::new(Ok(self), name, cron, job)
    }

    /// One schedule, with how far it is.
    ///
    /// # Errors
    /// The store's.
    pub async fn schedule(&self, name: &Name) -> Result<Option<ScheduleRecord>> {
        match self.get(&Key::Schedule(name.clone())).await? {
            Some(Record::Schedule(record)) => Ok(Some(record)),
            _ => Ok(None),
        }
    }

    /// A page of schedules by name, or by their next tick.
    ///
    /// # Errors
    /// As [`Client::jobs`].
    pub async fn schedules(&self, order: ScheduleOrder, page: Page) -> Result<Slice> {
        self.list(&Query::Schedules(order), &page).await
    }

    /// Forgets a schedule. Jobs it has enqueued stay.
    ///
    /// # Errors
    /// Unknown schedules; the store's.
    pub async fn delete_schedule(&self, name: Name) -> Result<()> {
        self.apply(Op::Schedule(ScheduleOp::Delete { name })).await.map(drop)
    }

    /// Stops a schedule from firing. Ticks until it is resumed never happen, whatever it says about catching up.
    ///
    /// # Errors
    /// Unknown schedules; the store's.
    pub async fn pause_schedule(&self, name: Name) -> Result<()> {
        self.apply(Op::Schedule(ScheduleOp::Pause { name })).await.map(drop)
    }

    /// Lets a paused schedule fire again, from its next tick on.
    ///
    /// # Errors
    /// Unknown schedules; [`Reason::Invalid`] if this node cannot read its expression; the store's.
    pub async fn resume_schedule(&self, name: &Name) -> Result<()> {
        for _ in 0..TRIES {
            let done = self.apply(self.resume_op(name).await?).await;
            match &done {
                Err(error) if matches!(error.reason(), Some(Reason::StateConflict(_))) => {}
                _ => return done.map(drop),
            }
        }
        Err(StoreError::invalid("name", "is changed by somebody else all the time: try again"))
    }

    /// The op that resumes a schedule as it is now. It is refused as a conflict if somebody changes it meanwhile.
    ///
    /// # Errors
    /// As [`Client::resume_schedule`].
    pub async fn resume_op(&self, name: &Name) -> Result<Op> {
        let record = self.known(name).await?;
        let next = first_tick(&record.schedule, self.now().wall)?;
        let (name, revision) = (name.clone(), record.state.revision);
        Ok(Op::Schedule(ScheduleOp::Resume { name, revision, next }))
    }

    /// Enqueues a schedule's job now, beside its ticks, also while it is paused.
    ///
    /// # Errors
    /// Unknown schedules; [`Reason::QueueFull`]; the store's.
    pub async fn trigger_schedule(&self, name: &Name) -> Result<Enqueued> {
        match self.apply(self.trigger_op(name).await?).await? {
            Reply::Enqueued(enqueued) => Ok(enqueued),
            other => Err(unexpected("enqueue", &Some(other))),
        }
    }

    /// The op that enqueues a schedule's job.
    ///
    /// # Errors
    /// As [`Client::trigger_schedule`].
    pub async fn trigger_op(&self, name: &Name) -> Result<Op> {
        let record = self.known(name).await?;
        Ok(Op::Enqueue(Box::new(of_tick(self, name, &record.schedule.job, None))))
    }

    async fn known(&self, name: &Name) -> Result<ScheduleRecord> {
        let unknown = || Rejection { at: Place::Op(0), reason: Reason::NotFound("schedule") };
        self.schedule(name).await?.ok_or_else(|| unknown().into())
    }
}

impl<C> Boot<C> {
    /// Makes a schedule in the store that was opened last, or replaces the one of this name: `.await` it.
    ///
    /// ```no_run
    /// # use mainstay::{Boot, Job, Result};
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Report;
    /// # impl Job for Report { const KIND: &'static str = "report"; const QUEUE: &'static str = "reports"; }
    /// # async fn boot(b: &mut Boot<()>) -> Result<()> {
    /// b.store("memory:").await?;
    /// b.schedule("report", "0 9 * * MON", Report).timezone("America/New_York").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A schedule whose line is taken out of the program again stays in the store: delete it there
    /// ([`Client::delete_schedule`]).
    pub fn schedule(
        &self,
        name: impl Into<String>,
        cron: impl Into<String>,
        job: impl IntoNewJob,
    ) -> PutSchedule {
        let store = self.core.last_store();
        PutSchedule::new(
            store.as_ref().ok_or("a schedule needs a store: open one with `b.store(…)` first"),
            name,
            cron,
            job,
        )
    }
}

/// A schedule that is about to be put: await it. Answers its next tick; `None` while it is paused.
#[must_use = "a schedule is put when it is awaited"]
pub struct PutSchedule {
    name: String,
    cron: String,
    timezone: String,
    catch_up: CatchUp,
    /// The store and the job, or what is wrong with them.
    to: Result<(Client, mainstay_core::job::NewJob)>,
}

impl PutSchedule {
    fn new(
        client: std::result::Result<&Client, &'static str>,
        name: impl Into<String>,
        cron: impl Into<String>,
        job: impl IntoNewJob,
    ) -> PutSchedule {
        let (name, cron, timezone) = (name.into(), cron.into(), "UTC".to_owned());
        // What happens to be current here has nothing to do with what will happen at the ticks.
        let nothing = Context::default().enter();
        let to = match client {
            Ok(client) => job.into_new_job(client).map(|job| (client.clone(), job)),
            Err(missing) => Err(StoreError::invalid("store", missing)),
        };
        drop(nothing);
        PutSchedule { name, cron, timezone, catch_up: CatchUp::default(), to }
    }

    /// Whose clock the expression speaks of: a name of the IANA list. Defaults to UTC.
    pub fn timezone(mut self, name: impl Into<String>) -> Self {
        self.timezone = name.into();
        self
    }

    /// What becomes of ticks that nobody was there to fire. Defaults to [`CatchUp::Skip`].
    pub fn catch_up(mut self, catch_up: CatchUp) -> Self {
        self.catch_up = catch_up;
        self
    }

    async fn put(self) -> Result<Option<Timestamp>> {
        let (client, job) = self.to?;
        let name = Name::new(&self.name)
            .map_err(|error| StoreError::invalid("name", format!("`{}`: {error}", self.name)))?;
        if let Some((field, why)) = check_template(&job).into_iter().next() {
            return Err(StoreError::invalid(field, why));
        }
        let (cron, timezone) = (self.cron.trim().into(), self.timezone.into());
        let schedule = Schedule { name, cron, timezone, catch_up: self.catch_up, job };
        let next = first_tick(&schedule, client.now().wall)?;
        let schedule = Arc::new(schedule);
        match client.apply(Op::Schedule(ScheduleOp::Put { schedule, next })).await? {
            Reply::Schedule(ScheduleReply::Put { next, .. }) => Ok(next),
            other => Err(unexpected("schedule", &Some(other))),
        }
    }
}

impl IntoFuture for PutSchedule {
    type Output = Result<Option<Timestamp>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.put())
    }
}

/// The first tick after `now`.
fn first_tick(schedule: &Schedule, now: Timestamp) -> Result<Timestamp> {
    let cron = Cron::new(&schedule.cron, &schedule.timezone).map_err(|mistakes| {
        let field = mistakes.first().map_or("cron", |mistake| mistake.field);
        let details: Vec<_> = mistakes.into_iter().map(|mistake| mistake.detail).collect();
        StoreError::invalid(field, details.join("; "))
    })?;
    cron.after(now).ok_or_else(|| StoreError::invalid("cron", "does not come any more"))
}

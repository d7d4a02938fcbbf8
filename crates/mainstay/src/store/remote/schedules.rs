//! Schedules of a server: made here, fired there.

use std::sync::Arc;

use mainstay_api::{
    client::{ApiError, HttpClient},
    types as wire,
};
use mainstay_core::{
    Error, Timestamp,
    id::JobId,
    job::{JobBody, JobKeys, JobPolicy, NewJob, Unique, When},
    op::{Committed, Failure, Op, Reply},
    schedule::{CatchUp, Schedule, ScheduleOp, ScheduleRecord, ScheduleReply, ScheduleState},
};

use super::{convert, fault, read::unsupported, write};

/// One op.
pub(super) async fn one(client: &HttpClient, op: &Op) -> Result<Committed, Failure> {
    let Op::Schedule(schedule_op) = op else { return Err(unsupported("that change").into()) };
    let no = |error: ApiError| fault::of_op(&error, op);
    let reply = match schedule_op {
        // The first tick is the server's to work out: it has the clock that it is fired by.
        ScheduleOp::Put { schedule, next: _ } => {
            let answer = client.put_schedule(schedule.name.as_str(), &put(schedule)).await.map_err(no)?;
            let next = answer.next_run_at.map(|at| Timestamp(at.0));
            // Whether anything was changed the wire does not say.
            Reply::Schedule(ScheduleReply::Put { next, unchanged: false })
        }
        ScheduleOp::Delete { name } => {
            client.delete_schedule(name.as_str()).await.map_err(no)?;
            Reply::Done
        }
        ScheduleOp::Pause { name } => {
            client.pause_schedule(name.as_str()).await.map_err(no)?;
            Reply::Done
        }
        ScheduleOp::Resume { name, .. } => {
            client.resume_schedule(name.as_str()).await.map_err(no)?;
            Reply::Done
        }
        ScheduleOp::Fire(_) => return Err(unsupported("firing a schedule (the server does that)").into()),
    };
    Ok(write::one(reply))
}

fn put(schedule: &Schedule) -> wire::PutSchedule {
    wire::PutSchedule {
        cron: schedule.cron.to_string(),
        timezone: Some(schedule.timezone.to_string()),
        queue: schedule.job.queue.to_string(),
        // Every tick's job has an id of its own.
        job: wire::NewJob { id: None, ..convert::new_job(&schedule.job, true) },
        catch_up: Some(match schedule.catch_up {
            CatchUp::Skip => wire::CatchUp::Skip,
            CatchUp::One => wire::CatchUp::One,
            CatchUp::All => wire::CatchUp::All,
        }),
    }
}

/// A schedule as the server has it. Its revision is the server's own, and 0 here.
pub(super) fn record(view: &wire::ScheduleView) -> Result<ScheduleRecord, Error> {
    let time = |at: mainstay_api::Timestamp| Timestamp(at.0);
    let schedule = Schedule {
        name: convert::name(&view.name)?,
        cron: view.cron.as_str().into(),
        timezone: view.timezone.as_str().into(),
        catch_up: match view.catch_up {
            wire::CatchUp::Skip => CatchUp::Skip,
            wire::CatchUp::One => CatchUp::One,
            wire::CatchUp::All => CatchUp::All,
        },
        job: template(view)?,
    };
    Ok(ScheduleRecord {
        schedule: Arc::new(schedule),
        state: ScheduleState {
            revision: 0,
            paused: view.paused,
            next: view.next_run_at.map(time),
            last: view.last_run_at.map(time),
            last_job: view.last_job_id.map(convert::job_id).transpose()?,
            fired: view.fired,
            missed: view.missed,
        },
        created_at: time(view.created_at),
        updated_at: time(view.updated_at),
    })
}

fn template(view: &wire::ScheduleView) -> Result<NewJob, Error> {
    let wire::ScheduleView { queue, job, .. } = view;
    let default = JobPolicy::default();
    let body = JobBody {
        meta: job.meta.as_ref().map(convert::json),
        tags: job.tags.iter().map(|tag| tag.as_str().into()).collect(),
        ..JobBody::new(&job.kind, &job.payload.as_ref().map_or_else(|| "null".into(), convert::json))
    };
    let after = |ms: Option<u64>| ms.map(When::In);
    Ok(NewJob {
        priority: job.priority.unwrap_or(wire::DEFAULT_PRIORITY),
        run_at: after(job.delay_ms),
        expires: after(job.expires_in_ms),
        policy: JobPolicy {
            max_attempts: job.max_attempts.unwrap_or(default.max_attempts),
            max_crashes: job.max_crashes,
            backoff: job.backoff.as_ref().map_or(default.backoff, convert::backoff),
            timeout_ms: job.timeout_ms,
            retain_ms: job.retain_ms,
        },
        unique: job
            .unique
            .as_ref()
            .map(|unique| Unique { key: unique.key.as_str().into(), for_ms: unique.for_ms }),
        keys: JobKeys {
            concurrency: job.concurrency_key.as_deref().map(Into::into),
            fairness: job.fairness_key.as_deref().map(Into::into),
        },
        // No job has it: that of a tick is made anew.
        ..NewJob::new(JobId::MIN, convert::name(queue)?, body)
    })
}

//! Schedules: `/v1/schedules`, `/v1/schedules/{schedule}` and what is done to them.

use std::sync::Arc;

use http::StatusCode;
use mainstay::StoreError;
use mainstay::core::access::ScopeKind;
use mainstay::core::name::{Name, QueueName};
use mainstay::core::op::{IdempotencyKey, Op, Reply};
use mainstay::core::schedule::{self, Schedule, ScheduleOp, ScheduleOrder, ScheduleRecord, ScheduleReply};
use mainstay::core::store::{Key, Query, Record};
use mainstay::schedules::{Cron, CronMistake};
use mainstay_api::query::PageQuery;
use mainstay_api::types::{CatchUp, DEFAULT_TIMEZONE, Page, PutSchedule, ScheduleAnswer, ScheduleView};
use mainstay_api::{Code, FieldError, Problem};
use serde::{Deserialize, Serialize};

use super::call::{Answer, Call};
use super::input::Nothing;
use super::jobs::read;
use super::{audit, convert, empty, error, json};

/// So often a resume is worked out anew because somebody changes the schedule meanwhile.
const TRIES: usize = 8;

pub(crate) async fn list(call: Call) -> Answer {
    let mut input = call.input();
    let query = input.query(PageQuery::parse);
    let (query, _) = input.finish(query)?;
    call.caller.must_sometimes(ScopeKind::Read)?;
    let by_name = Query::Schedules(ScheduleOrder::Name);
    let slice = call.api.store.store().list(&by_name, &read::page(&query)).await;
    let slice = slice.map_err(|error| error::failed(&error))?;
    let visible = slice.items.iter().filter_map(|record| match record {
        Record::Schedule(it) if call.caller.may(ScopeKind::Read, it.name().as_str()) => Some(view(it)),
        _ => None,
    });
    json(StatusCode::OK, &Page { items: visible.collect(), next_cursor: slice.next })
}

pub(crate) async fn one(call: Call) -> Answer {
    let mut input = call.input();
    let name = input.name("schedule");
    let (name, _) = input.finish(name)?;
    call.caller.must(ScopeKind::Read, name.as_str())?;
    match call.api.store.store().get(&Key::Schedule(name)).await {
        Ok(Some(Record::Schedule(record))) => json(StatusCode::OK, &view(&record)),
        Ok(_) => Err(error::not_found("schedule")),
        Err(error) => Err(error::failed(&error)),
    }
}

pub(crate) async fn put(call: Call) -> Answer {
    let mut input = call.input();
    let name = input.name("schedule");
    let put = input.body::<PutSchedule>()?;
    // Looked at whatever else is wrong, so that everything is told at once.
    let cron = match times(&call.body) {
        Ok(cron) => cron,
        Err(mistakes) => {
            for CronMistake { field, detail } in mistakes {
                input.wrong(FieldError::new(format!("/{field}"), detail));
            }
            None
        }
    };
    let ((name, put), _) = input.finish(name.zip(put))?;
    let queue = QueueName::new(&put.queue)
        .map_err(|error| Problem::invalid(vec![FieldError::new("/queue".to_owned(), error.to_string())]))?;
    call.caller.must(ScopeKind::Admin, name.as_str())?;
    // Whoever makes a schedule makes jobs of that queue.
    call.caller.must(ScopeKind::JobsProduce, queue.as_str())?;
    let store = &call.api.store;
    let next = cron.and_then(|cron| cron.after(store.now().wall));
    let next = next.ok_or_else(|| error::internal("an expression that was accepted has no tick"))?;
    let schedule = Schedule {
        name: name.clone(),
        cron: put.cron.trim().into(),
        timezone: put.timezone.as_deref().unwrap_or(DEFAULT_TIMEZONE).into(),
        catch_up: match put.catch_up.unwrap_or_default() {
            CatchUp::Skip => schedule::CatchUp::Skip,
            CatchUp::One => schedule::CatchUp::One,
            CatchUp::All => schedule::CatchUp::All,
        },
        job: convert::new_job(store, &queue, put.job, None),
    };
    let put = Op::Schedule(ScheduleOp::Put { schedule: Arc::new(schedule), next });
    match call.apply(vec![put, audit(&call, "schedule.put", name.as_str())], None).await? {
        (Reply::Schedule(ScheduleReply::Put { next, .. }), _) => {
            json(StatusCode::OK, &ScheduleAnswer { next_run_at: next.map(convert::wire_time) })
        }
        _ => Err(error::internal("the store answered a schedule with something else")),
    }
}

/// The times that a body names, if it names any: what is no text is told by the reader.
fn times(body: &[u8]) -> Result<Option<Cron>, Vec<CronMistake>> {
    #[derive(Deserialize)]
    struct Times<'b> {
        #[serde(borrow)]
        cron: std::borrow::Cow<'b, str>,
        #[serde(borrow, default)]
        timezone: Option<std::borrow::Cow<'b, str>>,
    }
    let Ok(Times { cron, timezone }) = serde_json::from_slice(body) else { return Ok(None) };
    Cron::new(&cron, timezone.as_deref().unwrap_or(DEFAULT_TIMEZONE)).map(Some)
}

pub(crate) async fn delete(call: Call) -> Answer {
    let mut input = call.input();
    let name = input.name("schedule");
    let (name, _) = input.finish(name)?;
    call.caller.must(ScopeKind::Admin, name.as_str())?;
    let change = Op::Schedule(ScheduleOp::Delete { name: name.clone() });
    call.apply(vec![change, audit(&call, "schedule.delete", name.as_str())], None).await?;
    empty()
}

pub(crate) async fn trigger(call: Call) -> Answer {
    let (name, key) = named(&call)?;
    let reply = match call.api.store.trigger_op(&name).await {
        Ok(op) => call.apply(vec![op, audit(&call, "schedule.trigger", name.as_str())], key).await?.0,
        Err(error) => repeated(&call, key, &error).await?,
    };
    match reply {
        Reply::Enqueued(job) => json(StatusCode::OK, &convert::enqueued(&job)),
        _ => Err(error::internal("the store answered an enqueue with something else")),
    }
}

pub(crate) async fn pause(call: Call) -> Answer {
    let (name, key) = named(&call)?;
    let change = Op::Schedule(ScheduleOp::Pause { name: name.clone() });
    call.apply(vec![change, audit(&call, "schedule.pause", name.as_str())], key).await?;
    paused(&name, true)
}

pub(crate) async fn resume(call: Call) -> Answer {
    let (name, key) = named(&call)?;
    let mut tried = 0;
    loop {
        let op = match call.api.store.resume_op(&name).await {
            Ok(op) => op,
            Err(error) => {
                repeated(&call, key, &error).await?;
                return paused(&name, false);
            }
        };
        tried += 1;
        match call.apply(vec![op, audit(&call, "schedule.resume", name.as_str())], key).await {
            Ok(_) => return paused(&name, false),
            Err(problem) if problem.code == Code::StateConflict && tried < TRIES => {}
            Err(problem) => return Err(problem),
        }
    }
}

/// The first answer under a key, for a schedule that has gone since; without one, what is wrong.
async fn repeated(call: &Call, key: Option<IdempotencyKey>, error: &StoreError) -> Result<Reply, Problem> {
    if let Some(key) = key
        && let Some(committed) = call.repeat(key).await?
        && let Some(reply) = committed.replies.into_iter().next()
    {
        return Ok(reply);
    }
    Err(error::store(error))
}

/// What is asked by the path alone, by somebody who may.
fn named(call: &Call) -> Result<(Name, Option<IdempotencyKey>), Problem> {
    let mut input = call.input();
    let name = input.name("schedule");
    input.keyed();
    let nothing = input.body::<Nothing>()?;
    let ((name, _), keyed) = input.finish(name.zip(nothing))?;
    call.caller.must(ScopeKind::Admin, name.as_str())?;
    Ok((name, keyed.map(|keyed| keyed.whole())))
}

fn paused(name: &Name, paused: bool) -> Answer {
    #[derive(Serialize)]
    struct Paused<'s> {
        name: &'s str,
        paused: bool,
    }
    json(StatusCode::OK, &Paused { name: name.as_str(), paused })
}

fn view(record: &ScheduleRecord) -> ScheduleView {
    let ScheduleRecord { schedule, state, created_at, updated_at } = record;
    ScheduleView {
        name: schedule.name.to_string(),
        cron: schedule.cron.to_string(),
        timezone: schedule.timezone.to_string(),
        queue: schedule.job.queue.to_string(),
        job: convert::template(&schedule.job),
        catch_up: match schedule.catch_up {
            schedule::CatchUp::Skip => CatchUp::Skip,
            schedule::CatchUp::One => CatchUp::One,
            schedule::CatchUp::All => CatchUp::All,
        },
        paused: state.paused,
        next_run_at: state.next.map(convert::wire_time),
        last_run_at: state.last.map(convert::wire_time),
        last_job_id: state.last_job.map(convert::wire_id),
        fired: state.fired,
        missed: state.missed,
        created_at: convert::wire_time(*created_at),
        updated_at: convert::wire_time(*updated_at),
    }
}

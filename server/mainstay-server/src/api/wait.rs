//! Waiting until looking again is worth it: `POST /v1/wait`.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use mainstay::core::access::ScopeKind;
use mainstay::core::event::EventInterest;
use mainstay::core::lease::Token;
use mainstay::core::lock::LockInterest;
use mainstay::core::name::Name;
use mainstay::core::store::Interest;
use mainstay_api::Problem;
use mainstay_api::types::{WaitFor, Waited};

use super::call::{Answer, Call};
use super::{convert, error, events, jobs, json};

/// How long a wake-up is kept after its answer: whoever it woke comes back and looks. Passed on at once, one job would
/// wake everybody.
const KEEP: Duration = Duration::from_millis(100);

/// A store's own wait, for clients that are a store to their program. It takes nothing: looking is another call.
pub(crate) async fn wait(call: Call) -> Answer {
    let mut input = call.input();
    let wanted = input.body::<WaitFor>()?;
    let (wanted, _) = input.finish(wanted)?;
    let mut interests = Vec::new();
    for queue in &wanted.queues {
        call.caller.must(ScopeKind::JobsWork, queue)?;
        interests.push(Interest::Queue(name(queue)?));
    }
    // What no job can be called is none, and nobody waits for that.
    for id in wanted.finished.iter().filter_map(|id| convert::job_id(*id)) {
        jobs::must(&call, ScopeKind::Read, id).await?;
        interests.push(Interest::Finished(id));
    }
    for id in wanted.cancel_requested.iter().filter_map(|id| convert::job_id(*id)) {
        jobs::must(&call, ScopeKind::JobsWork, id).await?;
        interests.push(Interest::CancelRequested(id));
    }
    for group in &wanted.groups {
        let group = name(group)?;
        events::may_use(&call, &group).await?;
        interests.push(Interest::Event(EventInterest::Group(group)));
    }
    interests.extend(others(&call, &wanted)?);
    let at_most = call.wait(wanted.wait_ms);
    let woken = tokio::select! {
        biased;
        () = call.api.shutdown.draining() => false,
        wake = call.api.store.store().wait(&interests, at_most) => {
            let wake = wake.map_err(|error| error::failed(&error))?;
            let woken = wake.is_woken();
            if woken {
                call.api.tasks.spawn("wake-up", async move {
                    tokio::time::sleep(KEEP).await;
                    drop(wake);
                });
            }
            woken
        }
    };
    json(StatusCode::OK, &Waited { woken })
}

/// Those that are about neither jobs nor groups.
fn others(call: &Call, wanted: &WaitFor) -> Result<Vec<Interest>, Problem> {
    let mut interests = Vec::new();
    for log in &wanted.logs {
        match log.topics.as_slice() {
            [] => call.caller.must(ScopeKind::EventsSubscribe, ">")?,
            topics => topics.iter().try_for_each(|one| call.caller.must(ScopeKind::EventsSubscribe, one))?,
        }
        let filters = Arc::from(events::convert::filters(&log.topics)?);
        interests.push(Interest::Event(EventInterest::Log { filters, from: log.from }));
    }
    for lock in &wanted.locks {
        call.caller.must(ScopeKind::LocksUse, &lock.name)?;
        let name = name(&lock.name)?;
        interests.push(Interest::Lock(LockInterest::Changed { name, seen: lock.seen.map(Token) }));
    }
    if wanted.schedules {
        call.caller.must_sometimes(ScopeKind::Read)?;
        interests.push(Interest::Schedules);
    }
    Ok(interests)
}

fn name(text: &str) -> Result<Name, Problem> {
    Name::new(text).map_err(|_| error::internal("a name that was read is none"))
}

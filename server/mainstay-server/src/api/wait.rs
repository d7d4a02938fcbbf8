//! Waiting until looking again is worth it: `POST /v1/wait`.

use std::time::Duration;

use http::StatusCode;
use mainstay::core::access::ScopeKind;
use mainstay::core::name::Name;
use mainstay::core::store::Interest;
use mainstay_api::types::{WaitFor, Waited};

use super::call::{Answer, Call};
use super::{convert, error, jobs, json};

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
        let name = Name::new(queue).map_err(|_| error::internal("a name that was read is none"))?;
        interests.push(Interest::Queue(name));
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

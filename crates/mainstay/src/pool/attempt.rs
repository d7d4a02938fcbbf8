//! One run of a job: what can happen to it, inside of its own bounds.

use std::any::Any;
use std::future::{pending, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, sleep, sleep_until};

use super::slot::Slot;
use super::{Plan, PoolContext, PoolError};
use crate::job::{Ending, JobError};
use crate::tasks::panic_message;

/// How a run ended.
pub(super) enum Ran<R> {
    Ended(Result<R, PoolError>),
    /// Not now.
    PutOff(Duration),
}

/// What the handler makes of a job, so that nothing it does reaches further than itself. `job` is its own copy.
///
/// No `async fn`, here and around it: its arguments would be moved, and moved again.
pub(super) fn work<J, R, F, Fut>(
    plan: &Plan,
    handler: &F,
    job: J,
    cx: PoolContext,
    context: crate::Context,
) -> impl Future<Output = Worked<R>>
where
    J: Clone,
    F: Fn(J, PoolContext) -> Fut,
    Fut: Future<Output = Result<R, JobError>>,
{
    let work = async move {
        let Some(target) = &plan.policy else { return handler(job, cx).await };
        let attempt = move |attempt: crate::policy::Attempt| {
            handler(job.clone(), PoolContext { attempt: attempt.number(), ..cx.clone() })
        };
        // In a box: its future is long, and would be moved with every job that has no policy.
        Box::pin(target.call().run(attempt)).await.map_err(JobError::of_policy)
    };
    context.into_scope(AssertUnwindSafe(work).catch_unwind())
}

/// What the handler said, or the panic it ended with.
pub(super) type Worked<R> = Result<Result<R, JobError>, Box<dyn Any + Send>>;

/// How the run of this job ended.
pub(super) fn ran<J, R>(
    plan: &Plan,
    slot: &Slot<J, R>,
    id: u64,
    ended: Result<Worked<R>, PoolError>,
) -> Ran<R> {
    let error = match ended {
        Ok(Ok(Ok(value))) => return Ran::Ended(Ok(value)),
        Ok(Ok(Err(JobError(ending)))) => match ending {
            // What it says after it was told to stop is how it stopped.
            _ if slot.ticket().is_some_and(|ticket| ticket.is_stopped()) => PoolError::Cancelled,
            Ending::Retry { message, .. } | Ending::Permanent { message } => PoolError::Failed(message),
            Ending::Snooze(delay) => return Ran::PutOff(delay),
            Ending::Cancel => PoolError::Cancelled,
        },
        Ok(Err(panic)) => panicked(plan, id, &*panic),
        Err(error) => error,
    };
    Ran::Ended(Err(error))
}

/// Goes on with what has just been seen to be not ready: until it is, or its time is over, or it is cut.
pub(super) async fn wait<J, R, W: Future>(
    mut work: Pin<&mut W>,
    plan: &Plan,
    slot: &Slot<J, R>,
    limit: Option<Duration>,
    began: Instant,
) -> Result<W::Output, PoolError> {
    // Both outside of the task's budget: a job that always uses it up would never be found late.
    let mut late = pin!(unconstrained(async {
        match limit.and_then(|limit| began.checked_add(limit)) {
            Some(at) => sleep_until(at).await,
            None => pending().await,
        }
    }));
    let mut cut = pin!(unconstrained(async {
        // A slot that is empty is lost, and the job with it.
        match slot.ticket() {
            Some(ticket) => ticket.stopped().await,
            None => pending().await,
        }
        sleep(plan.grace).await;
    }));
    let mut just_polled = true;
    poll_fn(|cx| {
        // The work first: a value that is there counts.
        if !std::mem::take(&mut just_polled)
            && let Poll::Ready(ended) = work.as_mut().poll(cx)
        {
            return Poll::Ready(Ok(ended));
        }
        if late.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(PoolError::TimedOut(limit.unwrap_or_default())));
        }
        cut.as_mut().poll(cx).map(|()| Err(PoolError::Cancelled))
    })
    .await
}

/// Tells of a panic that a job has ended with.
pub(super) fn panicked(plan: &Plan, job: u64, panic: &(dyn Any + Send)) -> PoolError {
    metrics::counter!("mainstay.task.panics").increment(1);
    crate::log::panics::caught(&format_args!("job {job} of pool {}", plan.name), panic);
    PoolError::Panicked(panic_message(panic))
}

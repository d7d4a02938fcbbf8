//! One run of a job: what can happen to it, inside of its own bounds.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{sleep, timeout};

use super::slot::Current;
use super::{Plan, PoolContext, PoolError};
use crate::job::{Ending, JobError};
use crate::tasks::panic_message;

/// How a run ended.
pub(super) enum Ran<R> {
    Ended(Result<R, PoolError>),
    /// Not now.
    PutOff(Duration),
}

/// Runs a job so that nothing it does reaches further than itself. `job` is its own copy.
pub(super) async fn run<J, R, F, Fut>(
    plan: &Plan,
    handler: &F,
    job: J,
    cx: PoolContext,
    current: &Terms<R>,
) -> Ran<R>
where
    J: Clone,
    F: Fn(J, PoolContext) -> Fut,
    Fut: Future<Output = Result<R, JobError>>,
{
    let Terms { ticket, limit, context } = current;
    let work = async {
        let Some(target) = &plan.policy else { return handler(job, cx).await };
        let attempt = move |attempt: crate::policy::Attempt| {
            handler(job.clone(), PoolContext { attempt: attempt.number(), ..cx.clone() })
        };
        target.call().run(attempt).await.map_err(JobError::of_policy)
    };
    let context = match limit {
        Some(limit) => context.clone().with_time_limit(*limit),
        None => context.clone(),
    };
    let work = AssertUnwindSafe(context.scope(work)).catch_unwind();
    let limited = async {
        match limit {
            Some(limit) => timeout(*limit, work).await.map_err(|_| PoolError::TimedOut(*limit)),
            None => Ok(work.await),
        }
    };
    let cut = async {
        ticket.stopped().await;
        sleep(plan.grace).await;
    };
    let ended = tokio::select! {
        biased;
        ended = limited => ended,
        () = cut => Err(PoolError::Cancelled),
    };
    let error = match ended {
        Ok(Ok(Ok(value))) => return Ran::Ended(Ok(value)),
        Ok(Ok(Err(JobError(ending)))) => match ending {
            // What it says after it was told to stop is how it stopped.
            _ if ticket.is_stopped() => PoolError::Cancelled,
            Ending::Retry { message, .. } | Ending::Permanent { message } => PoolError::Failed(message),
            Ending::Snooze(delay) => return Ran::PutOff(delay),
            Ending::Cancel => PoolError::Cancelled,
        },
        Ok(Err(panic)) => panicked(plan, ticket.id, &*panic),
        Err(error) => error,
    };
    Ran::Ended(Err(error))
}

/// Tells of a panic that a job has ended with.
pub(super) fn panicked(plan: &Plan, job: u64, panic: &(dyn Any + Send)) -> PoolError {
    metrics::counter!("mainstay.task.panics").increment(1);
    crate::log::panics::caught(&format_args!("job {job} of pool {}", plan.name), panic);
    PoolError::Panicked(panic_message(panic))
}

/// What a run needs to know of its job beside the job.
pub(super) struct Terms<R> {
    ticket: std::sync::Arc<super::ticket::Ticket<R>>,
    limit: Option<Duration>,
    context: crate::Context,
}

impl<R> Terms<R> {
    pub fn of<J>(current: &Current<J, R>) -> Self {
        Self { ticket: current.ticket.clone(), limit: current.limit, context: current.context.clone() }
    }
}

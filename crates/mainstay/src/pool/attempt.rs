//! One run of a job: what can happen to it, inside of its own bounds.

use std::any::Any;
use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tokio::time::{Instant, sleep};

use super::slot::{Current, Slot};
use super::{Plan, PoolContext, PoolError};
use crate::job::{Ending, JobError};
use crate::policy::Within;
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
    slot: &Slot<J, R>,
    handler: &F,
    job: J,
    cx: PoolContext,
    terms: Terms,
) -> Ran<R>
where
    J: Clone,
    F: Fn(J, PoolContext) -> Fut,
    Fut: Future<Output = Result<R, JobError>>,
{
    let Terms { id, limit, began, context } = terms;
    let work = async {
        let Some(target) = &plan.policy else { return handler(job, cx).await };
        let attempt = move |attempt: crate::policy::Attempt| {
            handler(job.clone(), PoolContext { attempt: attempt.number(), ..cx.clone() })
        };
        // In a box: its future is long, and would be moved with every job that has no policy.
        Box::pin(target.call().run(attempt)).await.map_err(JobError::of_policy)
    };
    let context = match limit {
        Some(limit) => context.with_time_limit(limit),
        None => context,
    };
    let until = limit.and_then(|limit| began.checked_add(limit));
    let ended = {
        // Pinned here, so that what is around it moves a pointer only.
        let work = pin!(context.scope(AssertUnwindSafe(work).catch_unwind()));
        let cut = pin!(async {
            // Asked for once it has to wait: most jobs never do. A slot that is empty is lost, and the job with it.
            match slot.ticket() {
                Some(ticket) => ticket.stopped().await,
                None => pending().await,
            }
            sleep(plan.grace).await;
        });
        // The work first: a value that is there counts.
        match select(pin!(Within::new(work, until)), cut).await {
            Either::Left((Some(ended), _)) => Ok(ended),
            Either::Left((None, _)) => Err(PoolError::TimedOut(limit.unwrap_or_default())),
            Either::Right(((), _)) => Err(PoolError::Cancelled),
        }
    };
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

/// Tells of a panic that a job has ended with.
pub(super) fn panicked(plan: &Plan, job: u64, panic: &(dyn Any + Send)) -> PoolError {
    metrics::counter!("mainstay.task.panics").increment(1);
    crate::log::panics::caught(&format_args!("job {job} of pool {}", plan.name), panic);
    PoolError::Panicked(panic_message(panic))
}

/// What a run needs to know of its job beside the job.
pub(super) struct Terms {
    id: u64,
    limit: Option<Duration>,
    began: Instant,
    context: crate::Context,
}

impl Terms {
    pub fn of<J, R>(current: &Current<J, R>) -> Self {
        let Current { ticket, limit, began, context, .. } = current;
        Self { id: ticket.id, limit: *limit, began: *began, context: context.clone() }
    }
}

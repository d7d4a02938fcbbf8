//! The phases, from the first line of `boot` to the last stop hook.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use tokio::time::{Instant, sleep, timeout};

use super::Overstayer;
use super::boot::Boot;
use super::component::within;
use super::core::{Core, Entry};
use super::notify::notify;
use super::part::Part;
use super::report::Ended;
use crate::shutdown::Phase;
use crate::tasks::panic_message;
use crate::{Error, ErrorKind, Result, millis, secs};

/// A part binds a socket or opens a subscription; one that takes longer hangs.
const PART_START_LIMIT: Duration = secs(30);
/// Aborting takes effect at the next await point: a moment for that, so that pools are closed after their users.
const ABORT_LINGER: Duration = millis(100);

/// Lives one life: boots, runs until told to stop, winds down.
pub(super) async fn live<C, B>(core: &Arc<Core>, config: C, boot: B) -> Ended
where
    B: AsyncFnOnce(&mut Boot<C>) -> Result<()>,
{
    let began = Instant::now();
    core.loops.spawn("runtime progress", core.health.follow_runtime());
    core.control.spawn("health monitor", core.health.clone().monitor());
    let mut up = Boot::new(config, core.clone());
    let booted = tokio::select! {
        biased;
        _ = core.shutdown.demanded(1) => Err(Error::new(ErrorKind::Interrupted, "told to stop while starting")),
        booted = caught("boot", boot(&mut up)) => booted,
    };
    // Handles that `boot` kept to itself go now; what it registered stays.
    drop(up);
    let entries = core.take_entries();
    let started = match booted {
        Ok(()) => caught("the start", start(core, &entries)).await,
        Err(error) => Err(error),
    };
    let mut ended = Ended::default();
    let ran = started.is_ok();
    match started {
        Ok(()) => {
            core.shutdown.advance(Phase::Running);
            notify("READY=1");
            crate::admin::warn_of_unused_sockets();
            let took_ms = began.elapsed().as_millis() as u64;
            tracing::info!(app = %core.name, took_ms, "ready");
            core.shutdown.demanded(1).await;
        }
        Err(error) => {
            // Only what went wrong by itself: a signal while starting is no failure.
            if error.kind() != ErrorKind::Interrupted {
                tracing::error!(error = %error.chain(), "cannot start");
            }
            core.shutdown.begin();
            ended.error = Some(error);
        }
    }
    wind_down(core, entries, ran, &mut ended).await;
    ended.cause = ran.then(|| core.shutdown.demand_now().cause).flatten();
    if let Some(failure) = core.shutdown.take_failure() {
        ended.error = Some(failure);
    }
    ended
}

/// Starts the parts in line order, then runs the ready hooks.
async fn start(core: &Arc<Core>, entries: &[Entry]) -> Result<()> {
    core.admin.complete();
    for entry in entries {
        let Entry::Part(part) = entry else { continue };
        // Entered first: one whose start is interrupted is stopped as well.
        core.begun(part.clone());
        within(core, &part.name(), PART_START_LIMIT, part.clone().start()).await?;
    }
    for hook in core.take_ready() {
        within(core, "the last steps", PART_START_LIMIT, hook).await?;
    }
    Ok(())
}

async fn wind_down(core: &Arc<Core>, entries: Vec<Entry>, ran: bool, ended: &mut Ended) {
    notify("STOPPING=1");
    let budget = &core.budget;
    let demand = core.shutdown.demand_now();
    // Nobody was ever sent to a service that never was ready.
    if ran && demand.lame_duck && budget.lame_duck > Duration::ZERO {
        let waited = async {
            tokio::select! { () = sleep(budget.lame_duck) => {}, _ = core.shutdown.demanded(2) => {} }
        };
        timed(ended, Phase::LameDuck, waited).await;
    }

    core.shutdown.advance(Phase::Draining);
    let parts = core.parts();
    let mut idle = pin!(async {
        // What one finishes may have been handed to another that was idle before: a task's job to a worker pool. Each round
        // settles one more hand-over, and costs nothing where there was none.
        for _ in 0..=parts.len() {
            join_all(parts.iter().map(|part| part.clone().drained())).await;
            core.tasks.idle().await;
        }
    });
    let drained = async {
        tokio::select! {
            biased;
            () = &mut idle => true,
            _ = core.shutdown.demanded(2) => false,
            () = sleep(core.drain()) => false,
        }
    };
    if !timed(ended, Phase::Draining, drained).await {
        ended.cut.extend(core.in_flight());
        core.shutdown.advance(Phase::Cancelling);
        let cancelled = async {
            let linger = ABORT_LINGER.min(budget.cancel / 4);
            if timeout(budget.cancel - linger, &mut idle).await.is_err() {
                parts.iter().for_each(|part| part.abort());
                core.tasks.abort();
                let _ = timeout(linger, &mut idle).await;
            }
        };
        timed(ended, Phase::Cancelling, cancelled).await;
    }

    core.shutdown.advance(Phase::Stopping);
    let (mut late, mut unclean) = (Vec::new(), Vec::new());
    timed(ended, Phase::Stopping, stop_all(core, entries, &mut late, &mut unclean)).await;
    ended.cut.extend(late);
    ended.unclean = unclean;
    core.loops.abort();
    core.shutdown.advance(Phase::Flushing);
}

/// Undoes everything in reverse. Each has its own limit, and leaves an equal share to each of the others: one hook
/// that hangs cannot eat what the rest needs.
async fn stop_all(
    core: &Arc<Core>,
    entries: Vec<Entry>,
    late: &mut Vec<Overstayer>,
    unclean: &mut Vec<(String, Error)>,
) {
    let deadline = Instant::now() + core.budget.stop;
    let parts = core.parts();
    let begun = |part: &Arc<dyn Part>| parts.iter().any(|other| Arc::ptr_eq(part, other));
    let mut left = entries.len() as u32;
    for entry in entries.into_iter().rev() {
        let share = (deadline - Instant::now()) / left.max(1);
        left -= 1;
        let (name, limit, stop): (_, _, BoxFuture<'_, Result<()>>) = match entry {
            Entry::Hook { name, limit, stop } => (name, limit.min(share), Box::pin(async { stop().await })),
            Entry::Part(part) if begun(&part) => (part.name(), share, part.stop()),
            Entry::Part(_) => continue,
            Entry::Loop { name, task } => {
                let ended = async move {
                    let _ = task.await; // a panic has been reported where it happened
                    Ok(())
                };
                (format!("loop {name}"), share, Box::pin(ended))
            }
        };
        let began = Instant::now();
        match timeout(limit, caught(&name, stop)).await {
            Ok(Ok(())) => {
                tracing::debug!(component = %name, took_ms = began.elapsed().as_millis() as u64, "stopped");
            }
            Ok(Err(error)) => unclean.push((name, error)),
            Err(_) => late.push(Overstayer::new(name, "did not stop in time", began.elapsed())),
        }
    }
}

/// A panic in a service's own code is a failure like any other: what has been started is still to be undone.
async fn caught<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(panic) => {
            let message = panic_message(&*panic);
            Err(Error::new(ErrorKind::Other, format!("{what} panicked: {message}")))
        }
    }
}

async fn timed<T>(ended: &mut Ended, phase: Phase, work: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let out = work.await;
    ended.phases.push((phase, began.elapsed()));
    out
}

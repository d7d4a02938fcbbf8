//! The calls of a worker, each a future that owns all it needs.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use mainstay_api::client::{ApiError, HttpClient};
use mainstay_api::types::{Claim, Claimed, Settle, SettleItem, SettleOutcome, SettleResult, Settled};
use mainstay_api::{Code, JobId};
use tokio::time::Instant;

/// A call under way.
pub(super) type InFlight<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// A call's answer, once there is a call; never, if there is none.
pub(super) async fn answer<T>(call: &mut InFlight<T>) -> T {
    match call {
        Some(future) => {
            let answer = future.as_mut().await;
            *call = None;
            answer
        }
        None => std::future::pending().await,
    }
}

/// One settle of what has ended, and perhaps a claim for the free places.
pub(super) struct Exchange {
    pub items: Vec<SettleItem>,
    /// How many jobs were asked for.
    pub asked: usize,
    pub answer: Result<Settled, ApiError>,
}

pub(super) fn exchange(api: HttpClient, items: Vec<SettleItem>, claim: Option<Claim>) -> InFlight<Exchange> {
    Some(Box::pin(async move {
        let asked = claim.as_ref().map_or(0, |claim| claim.max as usize);
        let settle = Settle { items, claim };
        let answer = api.settle(&settle).await;
        Exchange { items: settle.items, asked, answer }
    }))
}

/// A claim that waits.
pub(super) struct Polled {
    pub answer: Result<Claimed, ApiError>,
    /// It came back long before the time it was to wait.
    pub hasty: bool,
}

pub(super) fn poll(api: HttpClient, claim: Claim) -> InFlight<Polled> {
    Some(Box::pin(async move {
        let begun = Instant::now();
        let answer = api.claim(&claim).await;
        Polled { answer, hasty: begun.elapsed() < Duration::from_millis(claim.wait_ms / 2) }
    }))
}

/// What became of leases that were renewed.
#[derive(Default)]
pub(super) struct Renewed {
    /// Runs whose lease is gone.
    pub lost: Vec<u64>,
    /// Runs that someone wants cancelled.
    pub cancelled: Vec<u64>,
    pub error: Option<ApiError>,
}

/// Renews leases, given with their number, in as few calls as it takes.
pub(super) fn renew(api: HttpClient, leases: Vec<(u64, JobId, String)>, extend_ms: u64) -> InFlight<Renewed> {
    /// What a server takes at once, unless it is configured to take less.
    const BATCH: usize = 1_000;
    Some(Box::pin(async move {
        let mut renewed = Renewed::default();
        let (mut most, mut rest) = (BATCH, leases.as_slice());
        while !rest.is_empty() {
            let (some, others) = rest.split_at(most.min(rest.len()));
            let extend = SettleOutcome::Extend { extend_ms, progress: None };
            let item = |(_, id, lease): &(u64, JobId, String)| SettleItem {
                id: *id,
                lease: lease.clone(),
                outcome: extend.clone(),
            };
            match api.settle(&Settle { items: some.iter().map(item).collect(), claim: None }).await {
                Ok(answer) => {
                    rest = others;
                    for ((number, ..), result) in some.iter().zip(&answer.results) {
                        if is_over(result) {
                            renewed.lost.push(*number);
                        } else if result.cancel_requested == Some(true) {
                            renewed.cancelled.push(*number);
                        }
                    }
                }
                // It takes fewer at once: nothing was done.
                Err(error) if some.len() > 1 && error.code() == Some(Code::ValidationFailed) => {
                    most = some.len().div_ceil(2);
                }
                Err(error) => {
                    renewed.error = Some(error);
                    return renewed;
                }
            }
        }
        renewed
    }))
}

/// Whether an item says that its claim has ended for good.
pub(super) fn is_over(result: &SettleResult) -> bool {
    result.error.as_ref().is_some_and(|error| {
        matches!(error.code, Code::LeaseLost | Code::NotFound | Code::StateConflict | Code::AlreadySettled)
    })
}

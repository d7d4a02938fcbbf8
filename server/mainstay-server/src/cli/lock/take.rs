//! Getting the lock, in line.

use std::time::Duration;

use mainstay::SystemClock;
use mainstay::core::clock::Clock;
use mainstay::core::time::StoreTime;
use mainstay_api::Code;
use mainstay_api::client::{ApiError, HttpClient};
use mainstay_api::types::{Acquire, AcquireMode, Acquired};
use tokio::time::Instant;

use super::command::Signals;
use super::log;
use crate::cli::Failure;
use crate::cli::words::clean;
use crate::cli::worker::{Away, is_passing};

/// How long one call waits. Shorter than what proxies allow.
const TURN: Duration = Duration::from_secs(20);
/// How long a call may take beside its waiting.
const CALL: Duration = Duration::from_secs(10);
/// How long a server may take to hear that nothing is wanted any more.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What is asked for.
pub(super) struct Asked {
    pub lock: String,
    pub owner: String,
    pub ttl: Duration,
    /// `None`: for as long as it takes.
    pub wait: Option<Duration>,
    pub mode: Option<AcquireMode>,
    pub permits: Option<u32>,
    /// How long others are kept out after an expiry.
    pub delay: Duration,
}

/// A lock that is held.
pub(super) struct Held {
    pub lock: String,
    pub lease: String,
    pub token: u64,
    /// The clock before it was asked for: its time counts from there.
    pub asked_at: StoreTime,
}

pub(super) enum Taken {
    Held(Held),
    /// Who has it.
    NotFree(String),
    /// The number of the signal that ended the waiting.
    Signalled(u8),
}

/// Takes the lock, waiting for it. The place in the line is a ticket's, so it survives a broken connection.
///
/// # Errors
/// No server, or one that refuses.
pub(super) async fn take(api: &HttpClient, asked: &Asked, signals: &mut Signals) -> Result<Taken, Failure> {
    let (one, other) = (SystemClock.entropy(), SystemClock.entropy());
    let ticket = format!("lock-run-{one:016x}{other:016x}");
    let failed = |error: ApiError| Failure::of_call(&error, api.url());
    let api = api.with_key(&ticket).map_err(failed)?.with_timeout(CALL);
    let line = in_line(&api, asked);
    let taken = tokio::select! {
        taken = line => taken,
        heard = signals.next() => Ok(Taken::Signalled(heard.number())),
    };
    if !matches!(taken, Ok(Taken::Held(_))) {
        give_up(&api, asked).await;
    }
    taken
}

async fn in_line(api: &HttpClient, asked: &Asked) -> Result<Taken, Failure> {
    let until = asked.wait.map(|wait| Instant::now() + wait);
    let left = || until.map_or(TURN, |until| until.saturating_duration_since(Instant::now()).min(TURN));
    let mut away = Away::default();
    let mut waiting = false;
    // Since when there may be a grant whose answer was lost. A repeat collects it, with its time partly gone.
    let mut asked_at = SystemClock.now().store;
    loop {
        let wait = left();
        match api.acquire(&asked.lock, &acquire(asked, wait)).await {
            Ok(grant) => return Ok(Taken::Held(held(grant, asked_at))),
            Err(error) if error.code() == Some(Code::LockHeld) => {
                asked_at = SystemClock.now().store;
                if away.is_back() {
                    log("the server is back");
                }
                let holder = error.problem().and_then(|problem| problem.holder.as_deref());
                let holder = clean(holder.unwrap_or("somebody else"));
                if wait.is_zero() {
                    return Ok(Taken::NotFree(holder));
                }
                if !std::mem::replace(&mut waiting, true) {
                    log(&format!("{} is held by {holder}; waiting", asked.lock));
                }
            }
            Err(error) => {
                let failure = Failure::of_call(&error, api.url());
                if !is_passing(&error) || wait.is_zero() {
                    return Err(failure);
                }
                if away.failed(Instant::now(), &error, SystemClock.entropy()) {
                    log(&format!("{}; trying again", failure.title()));
                }
                let pause =
                    away.until().map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
                tokio::time::sleep(pause.min(left().max(Duration::from_millis(1)))).await;
            }
        }
    }
}

/// Whoever leaves the line leaves no ticket in it, and takes nothing along: a grant that was under way goes to the next.
/// If no server hears of it, the place is passed over at once, and forgotten after ten seconds.
async fn give_up(api: &HttpClient, asked: &Asked) {
    let wanted = acquire(asked, Duration::ZERO);
    let _ = tokio::time::timeout(LAST_WORD, api.with_retry(false).withdraw(&asked.lock, &wanted)).await;
}

fn acquire(asked: &Asked, wait: Duration) -> Acquire {
    Acquire {
        owner: asked.owner.clone(),
        ttl_ms: asked.ttl.as_millis() as u64,
        wait_ms: wait.as_millis() as u64,
        mode: asked.mode,
        permits: asked.permits,
        delay_ms: asked.delay.as_millis() as u64,
    }
}

fn held(grant: Acquired, asked_at: StoreTime) -> Held {
    Held { lock: grant.name, lease: grant.lease, token: grant.token, asked_at }
}

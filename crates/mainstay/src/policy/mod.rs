//! Calls that may fail: time limits, retries, budget, hedges, breaker, bulkhead, in one order.
//!
//! ```
//! use mainstay::policy::{Policies, Policy};
//! # async fn send(_to: &str) -> std::io::Result<()> { Ok(()) }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let policies = Policies::new([("smtp".into(), Policy::from_toml("attempt_ms = 2000")?)].into())?;
//! policies.target("smtp").run(|_| send("ada@example.org")).await?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # The order
//! It is fixed, because most other orders are wrong in a way that shows only under load:
//!
//! 1. **deadline**: nothing begins for somebody who has stopped waiting;
//! 2. **rate limit**: counts calls, not attempts;
//! 3. **total time limit**: wall-clock time with all attempts and waits;
//! 4. **retry** with its budget: each attempt passes everything below anew;
//! 5. **hedge**, out of the same budget;
//! 6. **breaker**: inside the retries, so that it sees every attempt, and stops them as soon as it opens;
//! 7. **bulkhead**: an attempt that waits takes no place, and a place that is waited for is no answer of the target;
//! 8. **attempt time limit**: of the operation alone;
//! 9. the operation.
//!
//! What the policy itself refuses is never retried here, and never counts against the target.
//!
//! # Contents
//! - [`Policy`] is data: from TOML, JSON or code. [`Policies`] is a service's registry of [`Target`]s, the state that
//!   all callers of a target share. [`Target::run`] makes a call.
//! - [`Verdict`] is what an outcome means; [`Classified`] errors know theirs, [`Classify`] judges those that do not.
//! - `PolicyLayer` sends HTTP requests under a policy, in any tower stack (feature `http`).
//! - [`PolicyError`] is why there is no value. [`Event`] is every decision, for metrics and watchers.
//! - [`retry`] and [`retried`] are retries alone, for a function without a target.

mod ambient;
mod backoff;
mod breaker;
mod budget;
mod bulkhead;
mod call;
mod chance;
mod data;
mod error;
mod event;
#[cfg(feature = "http")]
mod layer;
mod policies;
mod rate;
mod retry;
mod target;
mod verdict;
mod window;
mod within;

pub use breaker::BreakerState;
pub use call::{Attempt, Call};
pub use data::{BreakerRules, BudgetRules, BulkheadRules, Hedge, Jitter, Policy, Rate, Retry};
pub(crate) use data::{DAY_MS, TOO_LONG};
#[cfg(feature = "http")]
pub(crate) use error::{Expired, Unanswered};
pub use error::{GaveUp, Later, Limit, PolicyError, Refusal};
pub use event::Event;
#[cfg(feature = "http")]
pub use layer::{ByStatus, Policed, PolicyLayer, ReplayBody};
pub use policies::Policies;
pub use retry::{retried, retry};
pub use target::Target;
pub use verdict::{ByError, Classified, Classify, Verdict, verdict_of};
pub(crate) use within::Within;

//! Every decision of a policy, as one typed event: for metrics, the log and whoever watches.

use std::time::Duration;

use super::{BreakerState, GaveUp, Limit, Refusal, Verdict};
use crate::context::Context;

/// A decision. Each feeds the metrics `mainstay.policy.*`; [`Policies::watch`](super::Policies::watch) shows it to a
/// program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An attempt ended; attempts count from 1, hedges with them.
    Attempt {
        /// Which one.
        number: u32,
        /// What it meant.
        verdict: Verdict,
    },
    /// An attempt did not end in time.
    TimedOut {
        /// Which one.
        number: u32,
        /// By which limit.
        limit: Limit,
    },
    /// The call will be tried again.
    Retry {
        /// The number of the next attempt.
        number: u32,
        /// After this wait.
        delay: Duration,
    },
    /// A second attempt begins beside a slow one.
    Hedge {
        /// Its number.
        number: u32,
    },
    /// A hedge was wanted, and the breaker did not let it through, the budget did not have it, or the first attempt
    /// still waits for a place.
    HedgeRefused,
    /// The call failed for good.
    GaveUp {
        /// After so many attempts.
        attempts: u32,
        /// For this reason.
        why: GaveUp,
    },
    /// A call or an attempt was not let through.
    Refused {
        /// By this.
        by: Refusal,
    },
    /// It would not have been let through, if the policy were not on a dry run.
    WouldRefuse {
        /// By this.
        by: Refusal,
    },
    /// The breaker changed.
    Breaker {
        /// To this state.
        to: BreakerState,
    },
}

impl Event {
    /// The event as a word: the value of the context's field `policy`, which stands on every later line of what is
    /// running. Attempts that work at once leave it alone.
    pub fn as_str(self) -> &'static str {
        match self {
            Event::Attempt { verdict, .. } => verdict.as_str(),
            Event::TimedOut { .. } => "timed_out",
            Event::Retry { .. } => "retry",
            Event::Hedge { .. } => "hedge",
            Event::HedgeRefused => "hedge_refused",
            Event::GaveUp { .. } => "gave_up",
            Event::Refused { .. } => "refused",
            Event::WouldRefuse { .. } => "would_refuse",
            Event::Breaker { .. } => "breaker",
        }
    }
}

/// The metrics of one target. What a good call counts is registered once, so that counting allocates nothing.
pub(super) struct Meters {
    target: String,
    ok: metrics::Counter,
    budget: metrics::Gauge,
}

impl Meters {
    pub fn new(target: &str) -> Self {
        let target = target.to_owned();
        Self {
            ok: metrics::counter!("mainstay.policy.attempts", "target" => target.clone(), "verdict" => "ok"),
            budget: metrics::gauge!("mainstay.policy.budget_tokens", "target" => target.clone()),
            target,
        }
    }

    /// What a good attempt costs: one addition.
    pub fn ok(&self) {
        self.ok.increment(1);
    }

    /// Extra attempts that could be had now, in thousandths.
    pub fn budget(&self, left: u64) {
        self.budget.set(left as f64 / 1_000.0);
    }

    pub fn count(&self, event: Event) {
        let target = || self.target.clone();
        match event {
            Event::Attempt { verdict: Verdict::Ok, .. } => self.ok(),
            Event::Attempt { verdict, .. } => {
                metrics::counter!("mainstay.policy.attempts", "target" => target(), "verdict" => verdict.as_str())
                    .increment(1);
            }
            Event::TimedOut { .. } => {
                metrics::counter!("mainstay.policy.attempts", "target" => target(), "verdict" => "timed_out")
                    .increment(1);
            }
            Event::Retry { delay, .. } => {
                metrics::counter!("mainstay.policy.retries", "target" => target()).increment(1);
                metrics::histogram!("mainstay.policy.retry_delay", "target" => target())
                    .record(delay.as_secs_f64());
            }
            Event::Hedge { .. } => {
                metrics::counter!("mainstay.policy.hedges", "target" => target(), "outcome" => "sent")
                    .increment(1);
            }
            Event::HedgeRefused => {
                metrics::counter!("mainstay.policy.hedges", "target" => target(), "outcome" => "refused")
                    .increment(1);
            }
            Event::GaveUp { why, .. } => {
                metrics::counter!("mainstay.policy.gave_up", "target" => target(), "reason" => why.as_str())
                    .increment(1);
            }
            Event::Refused { by } => self.refusal(by, "false"),
            Event::WouldRefuse { by } => self.refusal(by, "true"),
            Event::Breaker { to } => {
                let level = match to {
                    BreakerState::Closed => 0.0,
                    BreakerState::HalfOpen => 1.0,
                    BreakerState::Open => 2.0,
                };
                metrics::gauge!("mainstay.policy.breaker_state", "target" => target()).set(level);
            }
        }
    }

    fn refusal(&self, by: Refusal, dry_run: &'static str) {
        metrics::counter!(
            "mainstay.policy.rejections",
            "target" => self.target.clone(), "reason" => by.as_str(), "dry_run" => dry_run
        )
        .increment(1);
    }

    /// Changes and refusals are worth a line; attempts are for whoever debugs.
    pub fn log(&self, event: Event) {
        let (target, word) = (self.target.as_str(), event.as_str());
        // Never for a plain success, which pays for no field.
        Context::peek(|context| context.set("policy", word));
        match event {
            Event::Breaker { to } => {
                let state = to.as_str();
                tracing::warn!(policy.target = target, breaker = state, "breaker changed");
            }
            _ => tracing::debug!(policy.target = target, policy.event = word, details = ?event, "policy"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::io;

    use super::super::{Policy, Retry, Target};
    use super::*;

    fn field(context: &Context) -> Option<String> {
        let mut found = None;
        context.each_line_field(&mut |name, value| {
            if name == "policy" {
                found = Some(format!("{value:?}"));
            }
        });
        found
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_decision_stands_on_the_contexts_lines() {
        let retry = Retry { max_attempts: 2, ..Retry::default() };
        let target = Target::new("target", Policy { retry, ..Policy::default() }).unwrap();
        let context = Context::new();
        let call = async |good_from: u32| {
            let outcome = move |number| {
                if number >= good_from { Ok(()) } else { Err(io::Error::from(io::ErrorKind::TimedOut)) }
            };
            context.scope(target.run(|attempt| ready(outcome(attempt.number())))).await
        };
        call(1).await.unwrap();
        assert_eq!(field(&context), None, "what works at once decides nothing");
        call(2).await.unwrap();
        assert_eq!(field(&context).unwrap(), "Text(\"retry\")");
        call(9).await.unwrap_err();
        assert_eq!(field(&context).unwrap(), "Text(\"gave_up\")");
    }
}

//! How often one caller may ask.

use std::net::IpAddr;
use std::time::Duration;

use mainstay::core::name::Name;
use mainstay::rate::{Rate, RateLimiter};

/// Who is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asker {
    /// A token, from wherever it comes.
    Token(Name),
    /// Whoever has no token, by address.
    Address(IpAddr),
}

impl Asker {
    fn key(&self) -> String {
        match self {
            Asker::Token(name) => format!("token {name}"),
            Asker::Address(address) => format!("address {address}"),
        }
    }
}

/// The limit of `caller_rate_per_second` and `caller_burst`.
///
/// # Errors
/// A rate that makes no sense; the configuration has refused those before.
pub fn limiter(per_second: f64, burst: Option<u64>) -> mainstay::Result<RateLimiter> {
    let burst = burst.unwrap_or((2.0 * per_second) as u64).clamp(1, 1_000_000) as u32;
    // Less than one a second is one in so many seconds; more is counted by the second, in thousandths.
    let rate = if per_second < 1_000.0 {
        Rate::new(1, Duration::from_secs_f64((1.0 / per_second).min(86_400.0)))
    } else {
        Rate::per_second(per_second.min(f64::from(u32::MAX)) as u32)
    };
    RateLimiter::new("callers", rate.burst(burst))
}

/// Counts a request.
///
/// # Errors
/// How long to wait, when it is one too many.
pub async fn ask(limiter: &RateLimiter, asker: Asker) -> Result<(), Duration> {
    let decision = limiter.check(&asker.key()).await;
    if decision.is_allowed() { Ok(()) } else { Err(decision.retry_after.unwrap_or(decision.reset)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_the_rate_holds() {
        let limiter = limiter(10.0, Some(3)).unwrap();
        let here = Asker::Address([127, 0, 0, 1].into());
        let let_through = async |count: usize| {
            let mut through = 0;
            for _ in 0..count {
                through += usize::from(ask(&limiter, here.clone()).await.is_ok());
            }
            through
        };
        assert_eq!(let_through(5).await, 3);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(let_through(5).await, 1);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(let_through(5).await, 3);
        assert_eq!(ask(&limiter, here.clone()).await, Err(Duration::from_millis(100)));
        assert!(ask(&limiter, Asker::Token(Name::new("other").unwrap())).await.is_ok());
    }

    #[test]
    fn rates_from_one_a_day_to_a_billion_a_second_are_taken() {
        for rate in [1e-9, 0.001, 0.5, 2.5, 999.9, 1_000.0, 1e9] {
            let limiter = limiter(rate, None).unwrap().rate();
            let meant = f64::from(limiter.count()) / limiter.per().as_secs_f64();
            assert!(meant >= rate * 0.999 && (rate < 1e-4 || meant <= rate * 1.001), "{rate}: {meant}");
        }
    }
}

//! Retries alone, for a function that has no target.

use futures_util::future::BoxFuture;
use std::time::Duration;
use tokio::time::sleep;

use tokio::time::Instant;

use super::chance::Chance;
use super::{Classified, Retry, Verdict, ambient};

/// Makes a call until it has worked, with the waits and the number of attempts that `rules` say. The outcome is that
/// of the last attempt, as the operation gave it: errors that say they are permanent surface at once, and so does any
/// when the next wait would last beyond the context's deadline, or when whoever asked is on a retry of its own.
///
/// No budget and no breaker stand behind it, because nothing is shared: calls to one target under load belong under
/// a [`Policy`](super::Policy).
///
/// ```
/// # use mainstay::policy::{Retry, retry};
/// # async fn fetch(_url: &str) -> std::io::Result<String> { Ok("ok".into()) }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let page = retry(Retry::default(), || fetch("https://example.org")).await?;
/// # Ok::<_, std::io::Error>(())
/// # }).unwrap();
/// ```
///
/// The rules are taken as they are: for those that come from outside, see [`Retry::check`].
///
/// # Errors
/// The operation's last one.
///
/// # Cancel safety
/// Dropping the future drops the attempt where it awaits.
pub async fn retry<T, E, F, Fut>(rules: Retry, mut op: F) -> Result<T, E>
where
    E: Classified,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let (mut made, mut previous) = (0, Duration::ZERO);
    // Nothing is drawn for what works at once.
    let mut chance = None;
    loop {
        let error = match op().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        made += 1;
        let floor = match error.verdict() {
            Verdict::Retry => None,
            Verdict::RetryAfter(after) => Some(after),
            _ => return Err(error),
        };
        let (deadline, upstream) = ambient::deadline_and_retries();
        if made >= rules.max_attempts || upstream > 0 {
            return Err(error);
        }
        let entropy = chance.get_or_insert_with(Chance::from_system).draw();
        let Some(delay) = rules.delay_from(floor, made, previous, entropy) else { return Err(error) };
        if deadline.is_some_and(|at| at.saturating_duration_since(Instant::now()) <= delay) {
            return Err(error);
        }
        previous = delay;
        sleep(delay).await;
    }
}

/// A function with retries around it: the same argument, the same outcome. Several arguments are a tuple.
///
/// ```
/// # use mainstay::policy::{Retry, retried};
/// async fn fetch(url: String) -> std::io::Result<String> { Ok(url) }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let fetch = retried(Retry::default(), fetch);
/// let page = fetch("https://example.org".into()).await?;
/// # Ok::<_, std::io::Error>(())
/// # }).unwrap();
/// ```
pub fn retried<A, T, E, F, Fut>(rules: Retry, op: F) -> impl Fn(A) -> BoxFuture<'static, Result<T, E>> + Clone
where
    A: Clone + Send + Sync + 'static,
    T: Send + 'static,
    E: Classified + Send + 'static,
    F: Fn(A) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
{
    move |argument| {
        let op = op.clone();
        Box::pin(retry(rules, move || op(argument.clone())))
    }
}

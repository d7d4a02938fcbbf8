//! Waiting for room in a full queue.

use std::time::Duration;

use mainstay_api::Code;
use mainstay_api::client::ApiError;
use tokio::time::{Instant, sleep};

/// Calls again while the queue is full, when the server says, and begins no call later than this.
pub(super) async fn with_patience<T>(
    ms: u64,
    call: impl AsyncFn() -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    let began = Instant::now();
    loop {
        let error = match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let pause = error.retry_after().unwrap_or(Duration::from_secs(1));
        let left = Duration::from_millis(ms).saturating_sub(began.elapsed());
        if error.code() != Some(Code::QueueFull) || left.is_zero() {
            return Err(error);
        }
        // When the server says is a guess: the end of our patience is worth a last look.
        sleep(pause.min(left)).await;
    }
}

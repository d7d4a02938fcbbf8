//! Two looks at a server, and what lies between.

use std::collections::HashMap;
use std::time::Duration;

use mainstay_api::Timestamp;
use mainstay_api::client::{ApiError, HttpClient};
use mainstay_api::query::PageQuery;
use mainstay_api::types::{QueueView, Totals, WorkerView};
use serde::Serialize;
use tokio::time::Instant;

use crate::cli::words::now;

/// So much is looked at; what lies beyond is counted by nobody.
const PAGE: u32 = 1_000;

/// One look.
pub(super) struct Sample {
    at: Instant,
    wall: Timestamp,
    queues: Vec<QueueView>,
    workers: Vec<WorkerView>,
    more: bool,
}

/// What is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Top {
    /// When it was looked.
    pub at: Timestamp,
    /// The queues, the busiest first.
    pub queues: Vec<QueueRow>,
    /// The workers, by name.
    pub workers: Vec<WorkerView>,
    /// There are more queues or workers than were looked at.
    pub more: bool,
}

/// A queue with what goes through it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct QueueRow {
    #[serde(flatten)]
    pub queue: QueueView,
    /// Jobs that came a second; absent where it is not known.
    pub enqueued_per_second: Option<f64>,
    /// Jobs that finished a second.
    pub finished_per_second: Option<f64>,
}

impl Sample {
    pub(super) async fn take(api: &HttpClient) -> Result<Sample, ApiError> {
        let page = PageQuery { limit: PAGE, cursor: None };
        let queues = api.queues(&page).await?;
        let workers = api.workers(&page).await?;
        Ok(Sample {
            at: Instant::now(),
            wall: now(),
            more: queues.next_cursor.is_some() || workers.next_cursor.is_some(),
            queues: queues.items,
            workers: workers.items,
        })
    }

    /// What is shown, with rates since an earlier look.
    pub(super) fn since(&self, earlier: Option<&Sample>) -> Top {
        let before: HashMap<&str, Option<Totals>> = earlier
            .map(|earlier| earlier.queues.iter().map(|queue| (queue.name.as_str(), queue.totals)).collect())
            .unwrap_or_default();
        let passed = earlier.map(|earlier| self.at.saturating_duration_since(earlier.at));
        let mut queues: Vec<QueueRow> = self
            .queues
            .iter()
            .map(|queue| {
                // A queue that was not there before had nothing.
                let was = before.get(queue.name.as_str()).copied().unwrap_or(Some(Totals::default()));
                let rate = |of: fn(&Totals) -> u64| {
                    let (is, was) = (queue.totals?, was?);
                    per_second(of(&was), of(&is), passed?)
                };
                QueueRow {
                    queue: queue.clone(),
                    enqueued_per_second: rate(|totals| totals.enqueued),
                    finished_per_second: rate(Totals::finished),
                }
            })
            .collect();
        queues.sort_by(|a, b| busy(b).cmp(&busy(a)).then_with(|| a.queue.name.cmp(&b.queue.name)));
        Top { at: self.wall, queues, workers: self.workers.clone(), more: self.more }
    }
}

/// `None` when the server was started anew in between.
fn per_second(was: u64, is: u64, passed: Duration) -> Option<f64> {
    let more = is.checked_sub(was)?;
    (passed > Duration::ZERO).then(|| more as f64 / passed.as_secs_f64())
}

fn busy(row: &QueueRow) -> u64 {
    let depth = &row.queue.depth;
    depth.available + depth.running + depth.retryable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(name: &str, available: u64, totals: Option<(u64, u64)>) -> QueueView {
        let mut queue: QueueView = serde_json::from_value(serde_json::json!({
            "name": name, "paused": false, "depth": {"available": available}, "oldest_available_age_ms": null,
            "config": {},
        }))
        .unwrap();
        queue.totals =
            totals.map(|(enqueued, completed)| Totals { enqueued, completed, ..Totals::default() });
        queue
    }

    fn sample(at: Instant, queues: Vec<QueueView>) -> Sample {
        Sample { at, wall: Timestamp(0), queues, workers: vec![], more: false }
    }

    #[tokio::test(start_paused = true)]
    async fn rates_are_differences_over_the_time_that_passed() {
        let start = Instant::now();
        let all = |n: u64| {
            vec![
                queue("a", 1, Some((10 * n, 5 * n))),
                queue("b", 9, None),
                queue("again", 0, Some((100 - n, 0))),
            ]
        };
        let first = sample(start, all(1));
        let mut queues = all(3);
        queues.push(queue("new", 0, Some((8, 0))));
        let second = sample(start + Duration::from_secs(2), queues);
        let top = second.since(Some(&first));
        let rows: Vec<_> = top
            .queues
            .iter()
            .map(|row| (row.queue.name.as_str(), row.enqueued_per_second, row.finished_per_second))
            .collect();
        // The busiest first; what cannot be known is not said.
        assert_eq!(
            rows,
            [
                ("b", None, None),
                ("a", Some(10.0), Some(5.0)),
                ("again", None, Some(0.0)),
                ("new", Some(4.0), Some(0.0)),
            ]
        );
        assert_eq!(first.since(None).queues[1].enqueued_per_second, None);
    }
}

//! `mainstay queues`.

use clap::Subcommand;
use mainstay_api::types::{QueueConfig, QueueView};
use mainstay_api::{Code, Limits, RawJson, strict};

use super::jobs::{PageArgs, more};
use super::table::{Table, facts};
use super::words::{count, span};
use super::{Failure, Outcome, Session, session};

#[derive(Debug, Subcommand)]
pub(crate) enum Queues {
    /// List queues and how many jobs they have
    List(PageArgs),
    /// Show a queue with its configuration
    Show {
        /// The queue
        queue: String,
    },
    /// Hand out no more jobs of a queue; it goes on taking them
    Pause {
        /// The queue
        queue: String,
    },
    /// Hand out jobs of a paused queue again
    Resume {
        /// The queue
        queue: String,
    },
    /// Replace the whole configuration of a queue
    Set {
        /// The queue
        queue: String,
        /// As in the API, such as {"max_depth":1000,"concurrency":20} or {"rate":{"per_ms":1000,"count":50}}; {} means
        /// the defaults
        config: String,
    },
    /// Forget every job of a queue that is neither running nor dead
    Purge {
        /// The queue
        queue: String,
        /// Yes, really
        #[arg(long, required = true)]
        yes: bool,
    },
    /// Forget a queue in which nothing is unfinished or dead
    Delete {
        /// The queue
        queue: String,
    },
}

impl Queues {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        let api = session.api()?;
        let failed = |error| Failure::of_call(&error, api.url());
        match self {
            Queues::List(page) => {
                let page = api.queues(&page.query()).await.map_err(failed)?;
                if session.is_text() && page.items.is_empty() {
                    session::note("no queues yet: a queue exists from its first job");
                    return Ok(());
                }
                session.answer(&page, || table(&page.items).render())?;
                more(&page, session);
                Ok(())
            }
            Queues::Show { queue } => {
                let view = api.queue(&queue).await.map_err(failed)?;
                session.answer(&view, || shown(&view))
            }
            Queues::Pause { queue } => {
                // A typo makes a queue: who may not look is not told.
                let is_new =
                    matches!(api.queue(&queue).await, Err(error) if error.code() == Some(Code::NotFound));
                api.pause(&queue).await.map_err(failed)?;
                if is_new {
                    session.note(&format!("there was no queue {queue}: it was made"));
                }
                session.answer(&done(&queue, "paused", true), || format!("{queue} is paused"))
            }
            Queues::Resume { queue } => {
                api.resume(&queue).await.map_err(failed)?;
                session.answer(&done(&queue, "paused", false), || format!("{queue} goes on"))
            }
            Queues::Set { queue, config } => {
                let config = strict::parse::<QueueConfig>(config.as_bytes(), &Limits::default());
                let config = config.map_err(|problem| Failure::of_problem(&problem))?.value;
                api.put_queue(&queue, &config).await.map_err(failed)?;
                session.answer(&done(&queue, "config", &config), || format!("{queue} is configured"))
            }
            Queues::Purge { queue, .. } => {
                let purged = api.purge(&queue).await.map_err(failed)?;
                session.answer(&purged, || format!("{} purged", count(purged.purged, "job")))
            }
            Queues::Delete { queue } => {
                api.delete_queue(&queue).await.map_err(failed)?;
                session.answer(&done(&queue, "deleted", true), || format!("{queue} is forgotten"))
            }
        }
    }
}

/// The document of what the server answers without one.
fn done(queue: &str, what: &str, value: impl serde::Serialize) -> serde_json::Value {
    serde_json::json!({ "name": queue, what: value })
}

fn table(queues: &[QueueView]) -> Table {
    let mut table = Table::new(&[
        "QUEUE",
        "#AVAILABLE",
        "#RUNNING",
        "#RETRYABLE",
        "#SCHEDULED",
        "#BLOCKED",
        "#DEAD",
        "#OLDEST",
        "NOTE",
    ]);
    for queue in queues {
        let depth = &queue.depth;
        let numbers =
            [depth.available, depth.running, depth.retryable, depth.scheduled, depth.blocked, depth.dead];
        let cells = std::iter::once(queue.name.clone())
            .chain(numbers.map(|number| number.to_string()))
            .chain([age(queue), if queue.paused { "paused".to_owned() } else { String::new() }]);
        table.row(cells);
    }
    table
}

fn age(queue: &QueueView) -> String {
    queue.oldest_available_age_ms.map(span).unwrap_or_default()
}

fn shown(queue: &QueueView) -> String {
    let depth = &queue.depth;
    let config = RawJson::of(&queue.config).map(|config| config.to_string()).unwrap_or_default();
    facts(&[
        ("queue", queue.name.clone()),
        ("paused", if queue.paused { "yes" } else { "no" }.to_owned()),
        ("available", depth.available.to_string()),
        ("oldest", age(queue)),
        ("running", depth.running.to_string()),
        ("retryable", depth.retryable.to_string()),
        ("scheduled", depth.scheduled.to_string()),
        ("blocked", depth.blocked.to_string()),
        ("dead", depth.dead.to_string()),
        ("config", config),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_a_row() {
        let queue: QueueView = serde_json::from_str(
            r#"{"name":"mail","paused":true,"depth":{"available":3,"running":1},"oldest_available_age_ms":61000,"config":{}}"#,
        )
        .unwrap();
        let text = table(std::slice::from_ref(&queue)).render();
        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["mail", "3", "1", "0", "0", "0", "0", "1m1s", "paused"]);
        assert!(shown(&queue).contains("paused:    yes"));
    }
}

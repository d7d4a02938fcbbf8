//! `mainstay workers`.

use clap::Subcommand;
use mainstay_api::Timestamp;
use mainstay_api::types::WorkerView;

use super::jobs::{PageArgs, more};
use super::table::Table;
use super::words::{brief, now, when};
use super::{Failure, Outcome, Session, session};

#[derive(Debug, Subcommand)]
pub(crate) enum Workers {
    /// List who claims what
    List(PageArgs),
}

impl Workers {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        let Workers::List(page) = self;
        let api = session.api()?;
        let page = api.workers(&page.query()).await.map_err(|error| Failure::of_call(&error, api.url()))?;
        if session.is_text() && page.items.is_empty() && page.next_cursor.is_none() {
            session::note("no workers: none has claimed under a name in the last 5 minutes");
            return Ok(());
        }
        session.answer(&page, || table(&page.items, now()).render())?;
        more(&page, session);
        Ok(())
    }
}

/// A row a worker.
pub(crate) fn table(workers: &[WorkerView], now: Timestamp) -> Table {
    let mut table = Table::new(&["WORKER", "#RUNNING", "SEEN", "QUEUES"]);
    for worker in workers {
        table.row([
            worker.name.clone(),
            worker.running.to_string(),
            when(worker.last_seen, now),
            brief(&worker.queues.join(" "), 60),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_a_row() {
        let (name, queues) = ("w-1".to_owned(), vec!["mail".to_owned(), "sms".to_owned()]);
        let worker = WorkerView { name, queues, running: 2, last_seen: Timestamp(0) };
        let text = table(&[worker], Timestamp(3_000)).render();
        assert_eq!(text, "WORKER  RUNNING  SEEN    QUEUES\nw-1           2  3s ago  mail sms\n");
    }
}

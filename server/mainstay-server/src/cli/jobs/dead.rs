//! `mainstay jobs dead`.

use clap::{ArgGroup, Args, Subcommand};
use mainstay_api::JobId;
use mainstay_api::types::DeadSelect;

use super::super::words::count;
use super::list::{self, PageArgs};
use super::{Failure, Outcome, Session};

#[derive(Debug, Subcommand)]
pub(crate) enum Dead {
    /// List the dead letters of a queue
    List(ListDead),
    /// Give dead letters new attempts
    Requeue(Which),
    /// Forget dead letters
    Delete(Which),
}

/// Flags of `mainstay jobs dead list`.
#[derive(Debug, Args)]
pub(crate) struct ListDead {
    /// The queue
    queue: String,
    /// Print only the ids, for the next command
    #[arg(long)]
    ids: bool,
    #[command(flatten)]
    page: PageArgs,
}

/// Which dead letters; all of them has to be said.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["id", "kind", "error_type", "all"]))]
pub(crate) struct Which {
    /// The queue
    queue: String,
    /// This one; may be repeated
    #[arg(long)]
    id: Vec<JobId>,
    /// Those of this kind
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Those whose last error had this type
    #[arg(long, value_name = "TYPE")]
    error_type: Option<String>,
    /// All of them
    #[arg(long)]
    all: bool,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Only count
    #[arg(long)]
    dry_run: bool,
}

impl Dead {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        let api = session.api()?;
        let failed = |error| Failure::of_call(&error, api.url());
        let (which, changed, done) = match self {
            Dead::List(ListDead { queue, ids, page }) => {
                let page = api.dead(&queue, &page.query()).await.map_err(failed)?;
                return list::answer(&page, ids, session);
            }
            Dead::Requeue(which) => {
                let changed = api.requeue_dead(&which.queue, &which.select()).await.map_err(failed)?;
                (which, changed, "requeued")
            }
            Dead::Delete(which) => {
                let changed = api.delete_dead(&which.queue, &which.select()).await.map_err(failed)?;
                (which, changed, "deleted")
            }
        };
        session.answer(&changed, || {
            let matched = count(changed.matched, "dead letter");
            if which.dry_run {
                format!("{matched} would be {done}")
            } else {
                format!("{} of {matched} {done}", changed.changed)
            }
        })
    }
}

impl Which {
    fn select(&self) -> DeadSelect {
        DeadSelect {
            ids: (!self.id.is_empty()).then(|| self.id.clone()),
            kind: self.kind.clone(),
            error_type: self.error_type.clone(),
            limit: self.limit,
            dry_run: self.dry_run,
        }
    }
}

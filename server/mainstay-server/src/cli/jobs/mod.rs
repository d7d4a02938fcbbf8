//! `mainstay jobs`.

mod act;
mod bulk;
mod dead;
mod enqueue;
mod list;
mod patience;
mod result;
mod show;

use clap::Subcommand;

use super::{Failure, Outcome, Session, session};
pub(crate) use enqueue::payload;
pub(crate) use list::{PageArgs, more};

#[derive(Debug, Subcommand)]
pub(crate) enum Jobs {
    /// Make a job, or many; prints their ids
    Enqueue(Box<enqueue::Enqueue>),
    /// List jobs, newest first
    List(list::List),
    /// Show everything about a job
    Show(show::Show),
    /// Print what came out of a job, waiting for it if asked
    Result(result::ResultOf),
    /// Make jobs available again, with their attempts reset
    Retry(act::Ids),
    /// Call jobs off; one that runs is told to stop
    Cancel(act::Ids),
    /// Forget jobs
    Delete(act::Ids),
    /// Look at dead letters, give them another chance, or forget them
    #[command(subcommand)]
    Dead(dead::Dead),
}

impl Jobs {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        match self {
            Jobs::Enqueue(command) => command.run(session).await,
            Jobs::List(command) => command.run(session).await,
            Jobs::Show(command) => command.run(session).await,
            Jobs::Result(command) => command.run(session).await,
            Jobs::Retry(ids) => ids.run(act::Verb::Retry, session).await,
            Jobs::Cancel(ids) => ids.run(act::Verb::Cancel, session).await,
            Jobs::Delete(ids) => ids.run(act::Verb::Delete, session).await,
            Jobs::Dead(command) => command.run(session).await,
        }
    }
}

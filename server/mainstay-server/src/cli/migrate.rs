//! `mainstay migrate`: the tables of a `postgres:` store, by hand.

use clap::Args;
use serde::Serialize;

use super::{Failure, Outcome, Session};

/// Flags of `mainstay migrate`.
#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// The store: postgres://USER:PASSWORD@HOST/DATABASE?schema=NAME
    #[arg(long, value_name = "URL", env = "MAINSTAY_STORE", hide_env_values = true)]
    store: String,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Migrated {
    steps: usize,
}

impl Migrate {
    pub(crate) fn run(self, session: &Session) -> Outcome {
        let steps = mainstay::store::migrate(&self.store)
            .map_err(|error| Failure::new(error.to_string()).with_code(error.exit_code()))?;
        session.answer(&Migrated { steps }, || match steps {
            0 => "the tables are up to date".to_owned(),
            1 => "the tables were brought one format forward".to_owned(),
            steps => format!("the tables were brought {steps} formats forward"),
        })
    }
}

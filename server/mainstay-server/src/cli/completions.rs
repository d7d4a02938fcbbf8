//! `mainstay completions`.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::{Cli, Outcome, session};

/// Flags of `mainstay completions`.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Outcome {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "mainstay", &mut script);
        session::print(&String::from_utf8_lossy(&script))
    }
}

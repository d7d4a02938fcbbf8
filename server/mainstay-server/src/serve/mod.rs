//! `mainstay serve`: flags, configuration, and the boot that puts the server together.

mod addr_file;
mod args;
mod banner;
mod boot;
pub mod config;

use std::process::ExitCode;

use mainstay::App;

pub use args::{LogFormat, ServeArgs};
pub use boot::{assemble, boot};
pub use config::{Config, LimitsConfig, loader};

/// Runs the server until a signal, `POST /admin/drain` or a failure ends it.
///
/// The exit code is 0 when everything drained, 1 when something had to be cut or the store did not close in good order,
/// 69 when the store is unavailable at start, 74 when it cannot be trusted any more, 78 for a wrong configuration.
pub fn run(args: ServeArgs) -> ExitCode {
    app(&args).run(boot)
}

/// The server's app, to be run with [`boot`].
pub fn app(args: &ServeArgs) -> App<Config> {
    App::new("mainstay")
        .version(env!("CARGO_PKG_VERSION"))
        // Set where the binary is built from a checkout that is known.
        .commit(option_env!("MAINSTAY_COMMIT").unwrap_or_default())
        .config(args.loader())
}

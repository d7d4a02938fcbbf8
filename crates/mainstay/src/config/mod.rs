//! Layered configuration: defaults < file < variables < flags.
//!
//! A service's configuration is a plain struct with `Default`, `Serialize` and `Deserialize`. Its keys stand in one
//! flat TOML file beside the chassis' own ([`Settings`]); every key is also a variable (`SHOP_GRACE_MS`, tables
//! with `__` as in `SHOP_DB__URL`). Unknown keys are refused, and every problem is reported at once with the place
//! it comes from.
//!
//! ```
//! # use serde::{Serialize, Deserialize};
//! #[derive(Serialize, Deserialize, Default)]
//! struct Config { listen: String, workers: Option<u32> }
//!
//! let loaded = mainstay::config::Loader::<Config>::new("shop")
//!     .variables([("SHOP_WORKERS", "4")])
//!     .flag("listen", "127.0.0.1:0", "--listen")
//!     .load()?;
//! assert_eq!(loaded.config.workers, Some(4));
//! assert_eq!(loaded.config.listen, "127.0.0.1:0");
//! # Ok::<(), mainstay::Error>(())
//! ```

mod apply;
mod effective;
mod file;
mod loader;
mod nearest;
mod prints;
mod problems;
mod secret;
mod settings;
mod tree;

#[cfg(feature = "http")]
pub(crate) use effective::to_json;
pub use effective::{Effective, Loaded};
pub use loader::Loader;
pub(crate) use prints::Prints;
pub use problems::{Problem, Problems};
pub(crate) use secret::REDACTED;
pub use secret::Secret;
pub use settings::Settings;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// A line of a file, counted from 1.
    File(String, usize),
    /// An environment variable.
    Variable(String),
    /// A command line flag.
    Flag(String),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File(path, line) => write!(f, "{path}:{line}"),
            Source::Variable(name) => write!(f, "variable {name}"),
            Source::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

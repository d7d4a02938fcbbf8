//! What can be chosen.

use super::{Format, Output};

/// How the log is set up. Plain data.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "options do nothing until they are given to `init`"]
pub struct Options {
    pub(super) format: Format,
    pub(super) level: String,
    pub(super) output: Output,
    pub(super) lines_per_second: u32,
    pub(super) redact: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            format: Format::Auto,
            level: "info".to_owned(),
            output: Output::Stderr,
            lines_per_second: 1000,
            redact: Vec::new(),
        }
    }
}

impl Options {
    /// The defaults: format by the output's kind, level `info`, to standard error.
    pub fn new() -> Self {
        Self::default()
    }

    /// How a line looks. Defaults to [`Format::Auto`].
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// `info`, or `info,hyper=warn,shop::mail=debug`. Defaults to `info`.
    pub fn level(mut self, level: impl Into<String>) -> Self {
        self.level = level.into();
        self
    }

    /// Where lines go. Defaults to standard error.
    pub fn output(mut self, output: Output) -> Self {
        self.output = output;
        self
    }

    /// How many lines one place in the source may write in a second; what is beyond is counted and confessed.
    /// 0 for no limit. Defaults to 1,000. The access log is exempt: requests bound it.
    pub fn lines_per_second(mut self, lines: u32) -> Self {
        self.lines_per_second = lines;
        self
    }

    /// Hides the fields of this name as well, and of names that end in it after `_`, `.` or `-`. Hidden in any case:
    /// `password`, `passwd`, `passphrase`, `secret`, `authorization`, `cookie`, `bearer`, `api_key`, `apikey`,
    /// `private_key`, `auth_token`, `access_token`, `refresh_token`. (Not `token`: a fencing token is no secret.)
    pub fn redact(mut self, name: impl Into<String>) -> Self {
        self.redact.push(name.into());
        self
    }
}

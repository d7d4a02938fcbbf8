//! Where the server is, and how answers are written.

use std::io::{IsTerminal, Write};

use clap::{Args, ValueEnum};
use mainstay_api::client::{HttpClient, Options};
use serde::Serialize;

use super::{Failure, Outcome};

/// Holds the bearer token. A variable only: flags are seen by everyone who can list processes.
const TOKEN: &str = "MAINSTAY_AUTH_TOKEN";

/// The variables that the command line reads, beside those of the server's configuration.
pub(crate) const VARIABLES: [&str; 3] = ["MAINSTAY_SERVER", "MAINSTAY_ADMIN", TOKEN];

/// Flags that every command takes.
#[derive(Args, Debug, Clone)]
pub(crate) struct SessionArgs {
    /// Address of the server's API
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "MAINSTAY_SERVER",
        default_value = "http://127.0.0.1:6246",
        help_heading = "Connection"
    )]
    server: String,
    /// Address of the server's admin listener
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "MAINSTAY_ADMIN",
        default_value = "http://127.0.0.1:6247",
        help_heading = "Connection"
    )]
    admin: String,
    /// How answers are written: for people, or as one JSON document [the access token comes from MAINSTAY_AUTH_TOKEN]
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text", help_heading = "Connection")]
    output: Output,
}

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Text,
    /// One JSON document
    Json,
}

impl SessionArgs {
    pub(crate) fn session(self) -> Session {
        let token = std::env::var(TOKEN).ok().filter(|token| !token.is_empty());
        Session { server: self.server, admin: self.admin, output: self.output, token }
    }
}

/// One run of a command.
pub(crate) struct Session {
    /// Address of the API.
    pub server: String,
    /// Address of the admin listener.
    pub admin: String,
    /// How answers are written.
    pub output: Output,
    token: Option<String>,
}

impl Session {
    /// A client of the API. It tries each call once: somebody at a terminal wants to know at once what is wrong.
    pub(crate) fn api(&self) -> Result<HttpClient, Failure> {
        self.client(&self.server)
    }

    /// A client of the admin listener.
    pub(crate) fn admin(&self) -> Result<HttpClient, Failure> {
        self.client(&self.admin)
    }

    fn client(&self, url: &str) -> Result<HttpClient, Failure> {
        let options = Options { token: self.token.clone(), retry: false, ..Options::default() };
        HttpClient::new(url, options).map_err(|error| Failure::of_call(&error, url))
    }

    /// Writes an answer: the text for people, or the value as one JSON document.
    pub(crate) fn answer<T: Serialize + ?Sized>(&self, value: &T, text: impl FnOnce() -> String) -> Outcome {
        match self.output {
            Output::Text => print(&text()),
            Output::Json => print(&json(value)?),
        }
    }

    /// Writes a line beside the answer; a document of its own, where answers are for programs.
    pub(crate) fn note(&self, text: &str) {
        match self.output {
            Output::Text => note(text),
            Output::Json => note(&serde_json::json!({ "note": text }).to_string()),
        }
    }

    /// Whether answers are for people.
    pub(crate) fn is_text(&self) -> bool {
        self.output == Output::Text
    }
}

/// Writes a block of text and the end of its last line to standard output.
pub(crate) fn print(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    out.write_all(text.as_bytes())
        .and_then(|()| out.write_all(newline.as_bytes()))
        .and_then(|()| out.flush())
        .map_err(|error| Failure::of_output(&error))
}

/// Writes a line beside the answer. Nobody is there to tell if that fails.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, Failure> {
    let pretty = std::io::stdout().is_terminal();
    let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    text.map_err(|error| Failure::new(format!("the answer cannot be written as JSON: {error}")))
}

/// Runs a command that makes a call after the other.
pub(crate) fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(format!("cannot start: {error}")))?.block_on(command)
}

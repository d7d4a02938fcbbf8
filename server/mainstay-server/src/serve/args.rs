//! The flags of `mainstay serve`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use mainstay::config::Loader;
use mainstay::log::LogLevel;

use super::Config;

/// The flags of `mainstay serve`. Each is also a `MAINSTAY_*` variable and a key of the file; what is given nearer to
/// the process wins.
#[derive(Args, Debug, Clone, Default)]
pub struct ServeArgs {
    /// Read this TOML file; `MAINSTAY_CONFIG` may name one too
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where everything is kept: `memory:`, `sqlite:PATH` or `postgres://…` [default: sqlite:./mainstay.db]
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Address of the API; port 0 takes a free one, fd:NAME a socket that was passed [default: 127.0.0.1:6246]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub listen: Option<String>,
    /// Address of probes, metrics and administration, or `off` [default: 127.0.0.1:6247]
    #[arg(long, value_name = "ADDR", value_parser = address_or_off)]
    pub admin_listen: Option<String>,
    /// For tests: a store in memory, free ports, no lame duck, and gone with the process that started it; what is given
    /// beside it wins
    #[arg(long)]
    pub ephemeral: bool,
    /// End when the process that started the server has gone [default: false]
    #[arg(long)]
    pub with_parent: bool,
    /// Write the bound addresses to this file, as JSON, once both listen
    #[arg(long, value_name = "FILE")]
    pub addr_file: Option<String>,
    /// What the platform gives us between the first signal and its SIGKILL [default: 30000]
    #[arg(long, value_name = "N")]
    pub grace_ms: Option<u64>,
    /// How long to go on accepting after SIGTERM [default: 5000]
    #[arg(long, value_name = "N")]
    pub lame_duck_ms: Option<u64>,
    /// How long requests in flight may go on after that [default: 15000]
    #[arg(long, value_name = "N")]
    pub drain_ms: Option<u64>,
    /// The longest request body [default: 16777216]
    #[arg(long, value_name = "N")]
    pub max_body_bytes: Option<u64>,
    /// How log lines look [default: pretty on a terminal, else json]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// A level, or `level,target=level,…` [default: info]
    #[arg(long, value_name = "L", value_parser = level)]
    pub log_level: Option<String>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One flat JSON object a line
    Json,
    /// `ts=… level=… msg=… key=value`
    Logfmt,
    /// `LEVEL message key=value`, without the time
    Plain,
    /// For people
    Pretty,
}

impl LogFormat {
    fn as_str(self) -> &'static str {
        match self {
            LogFormat::Json => "json",
            LogFormat::Logfmt => "logfmt",
            LogFormat::Plain => "plain",
            LogFormat::Pretty => "pretty",
        }
    }
}

impl ServeArgs {
    /// The configuration's loader with these flags as its last layer.
    pub fn loader(&self) -> Loader<Config> {
        let mut loader = super::config::loader();
        if let Some(file) = &self.config {
            loader = loader.file(file);
        }
        let numbers = [
            ("grace_ms", self.grace_ms),
            ("lame_duck_ms", self.lame_duck_ms),
            ("drain_ms", self.drain_ms),
            ("max_body_bytes", self.max_body_bytes),
        ];
        let texts = [
            ("store", &self.store),
            ("listen", &self.listen),
            ("admin_listen", &self.admin_listen),
            ("addr_file", &self.addr_file),
            ("log_level", &self.log_level),
        ];
        let ephemeral = EPHEMERAL.iter().filter(|_| self.ephemeral);
        let loader = ephemeral.fold(loader, |loader, (key, value)| loader.flag(*key, value, "--ephemeral"));
        let with_parent = self.with_parent.then(|| ("with_parent", "true".to_owned()));
        let format = self.log_format.map(|format| format.as_str().to_owned());
        let given = numbers
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?.to_string())))
            .chain(texts.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))))
            .chain(format.map(|format| ("log_format", format)))
            .chain(with_parent);
        given.fold(loader, |loader, (key, value)| {
            loader.flag(key, value, format!("--{}", key.replace('_', "-")))
        })
    }
}

/// What `--ephemeral` stands for.
const EPHEMERAL: [(&str, &str); 5] = [
    ("store", "memory:"),
    ("listen", "127.0.0.1:0"),
    ("admin_listen", "127.0.0.1:0"),
    ("lame_duck_ms", "0"),
    ("with_parent", "true"),
];

/// What clap refuses here is exit code 2; what only the configuration as a whole can refuse is 78.
fn address(text: &str) -> Result<String, String> {
    if text.strip_prefix("fd:").is_some_and(|name| !name.is_empty()) {
        return Ok(text.to_owned());
    }
    let port = text.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then_some(port));
    match port.map(str::parse::<u16>) {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => Err("must be HOST:PORT, such as 127.0.0.1:6246 or [::1]:0, or fd:NAME".to_owned()),
    }
}

fn address_or_off(text: &str) -> Result<String, String> {
    if text == "off" {
        Ok(text.to_owned())
    } else {
        address(text).map_err(|error| format!("{error}, or off"))
    }
}

fn level(text: &str) -> Result<String, String> {
    LogLevel::check(text).map(|()| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ill_typed_flags_are_refused_by_their_reader() {
        for good in ["127.0.0.1:0", "[::1]:6246", "localhost:80", "fd:api", "fd:3"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in ["", "fd:", "6246", ":6246", "localhost", "localhost:http", "a:70000"] {
            assert!(address(bad).is_err(), "{bad}");
        }
        assert!(address_or_off("off").is_ok());
        assert!(level("info,mainstay=debug").is_ok());
        assert!(level("loud").is_err() && level("").is_err());
    }

    #[test]
    fn an_ephemeral_server_looks_at_no_variables_for_what_it_is_and_at_flags_all_the_same() {
        let args = ServeArgs { ephemeral: true, lame_duck_ms: Some(7), ..Default::default() };
        let variables = [("MAINSTAY_STORE", "sqlite:real.db"), ("MAINSTAY_LISTEN", "127.0.0.1:1")];
        let loaded = args.loader().variables(variables).load().unwrap();
        assert_eq!((loaded.config.store.as_str(), loaded.config.listen.as_str()), ("memory:", "127.0.0.1:0"));
        assert_eq!((loaded.settings.lame_duck_ms, loaded.config.with_parent), (Some(7), true));
    }

    #[test]
    fn flags_win_over_variables() {
        let args = ServeArgs { grace_ms: Some(900), log_format: Some(LogFormat::Json), ..Default::default() };
        let loaded = args
            .loader()
            .variables([("MAINSTAY_GRACE_MS", "5000"), ("MAINSTAY_LISTEN", "127.0.0.1:1")])
            .load()
            .unwrap();
        assert_eq!(loaded.settings.grace_ms, 900);
        assert_eq!(loaded.config.listen, "127.0.0.1:1");
        assert_eq!(loaded.settings.admin_listen, "127.0.0.1:6247");
    }
}

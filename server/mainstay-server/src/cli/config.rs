//! `mainstay config`, and the loader that it shares with `serve`.

use mainstay::config::Loader;
use mainstay_api::RawJson;
use mainstay_api::types::{Config, ConfigEntry};
use mainstay_server::serve::{self, ServeArgs};

use super::{Failure, Outcome, Session, session};

/// The server's configuration; the command line's own variables are no mistakes in it.
pub(crate) fn loader(args: &ServeArgs) -> Loader<serve::Config> {
    session::VARIABLES.into_iter().fold(args.loader(), |loader, name| loader.foreign_variable(name))
}

pub(crate) fn run(args: &ServeArgs, session: &Session) -> Outcome {
    let loaded = loader(args).load().map_err(|problems| {
        let count = problems.iter().count();
        let failure = Failure::config(format!(
            "the configuration has {}",
            super::words::count(count as u64, "problem")
        ));
        problems.iter().fold(failure, |failure, problem| failure.detail(problem.to_string()))
    })?;
    for warning in &loaded.warnings {
        session.note(&format!("warning: {warning}"));
    }
    let entry = |value: &mainstay::config::Effective| {
        let shown = RawJson::of(&value.value).unwrap_or_default();
        (value.key.clone(), ConfigEntry { value: shown, source: value.source.to_string() })
    };
    session.answer(&loaded.values.iter().map(entry).collect::<Config>(), || loaded.to_toml())
}

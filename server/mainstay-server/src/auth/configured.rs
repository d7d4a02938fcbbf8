//! Access tokens from the configuration.

use mainstay::core::{access::Scope, name::Name};
use serde::{Deserialize, Serialize};

use super::secret::read_hash;
use super::tokens::Known;

/// An access token in the configuration file: by its hash, so that the file is no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfiguredToken {
    /// What it is called in lists and in the audit trail.
    pub name: String,
    /// The SHA-256 of the token, as 64 hexadecimal digits: `printf %s "$TOKEN" | sha256sum`.
    pub hash: String,
    /// What it allows: `SCOPE` or `SCOPE=PREFIX`.
    pub scopes: Vec<String>,
}

impl ConfiguredToken {
    /// Reports everything that is wrong with it.
    pub fn check(&self, mut report: impl FnMut(String)) {
        if let Err(error) = Name::new(&self.name) {
            report(format!("name: {error}"));
        }
        if read_hash(&self.hash).is_none() {
            report("hash: must be a SHA-256, 64 hexadecimal digits".to_owned());
        }
        if self.scopes.is_empty() {
            report("scopes: must name at least one".to_owned());
        }
        for scope in &self.scopes {
            if let Err(error) = Scope::parse(scope) {
                report(format!("scopes: {error}"));
            }
        }
    }

    /// The token as requests are compared with it; `None` if [`check`](Self::check) would report anything.
    pub(super) fn known(&self) -> Option<Known> {
        let scopes: Result<Vec<_>, _> = self.scopes.iter().map(|scope| Scope::parse(scope)).collect();
        let name = Name::new(&self.name).ok()?;
        Some(Known { name, hash: read_hash(&self.hash)?, scopes: scopes.ok()?.into(), created_at: None })
    }
}

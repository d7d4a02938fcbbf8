//! Access tokens and audit records: kept in the store, shared by all its nodes.

use serde::{Deserialize, Serialize};

use crate::{name::Name, time::Timestamp};

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ScopeKind {
    /// `jobs:produce`
    #[serde(rename = "jobs:produce")]
    JobsProduce,
    /// `jobs:work`
    #[serde(rename = "jobs:work")]
    JobsWork,
    /// `locks:use`
    #[serde(rename = "locks:use")]
    LocksUse,
    /// `events:publish`
    #[serde(rename = "events:publish")]
    EventsPublish,
    /// `events:subscribe`
    #[serde(rename = "events:subscribe")]
    EventsSubscribe,
    /// `read`
    #[serde(rename = "read")]
    Read,
    /// `admin`: implies all.
    #[serde(rename = "admin")]
    Admin,
}

impl ScopeKind {
    /// All of them, in the order of the contract.
    pub const ALL: [ScopeKind; 7] = [
        ScopeKind::JobsProduce,
        ScopeKind::JobsWork,
        ScopeKind::LocksUse,
        ScopeKind::EventsPublish,
        ScopeKind::EventsSubscribe,
        ScopeKind::Read,
        ScopeKind::Admin,
    ];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            ScopeKind::JobsProduce => "jobs:produce",
            ScopeKind::JobsWork => "jobs:work",
            ScopeKind::LocksUse => "locks:use",
            ScopeKind::EventsPublish => "events:publish",
            ScopeKind::EventsSubscribe => "events:subscribe",
            ScopeKind::Read => "read",
            ScopeKind::Admin => "admin",
        }
    }
}

/// A scope, possibly limited to names that begin with a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scope {
    /// What is allowed.
    pub kind: ScopeKind,
    /// Only on names with this prefix; `None` means all.
    pub prefix: Option<String>,
}

impl Scope {
    /// Reads `SCOPE` or `SCOPE=PREFIX`; the error says which scopes exist.
    pub fn parse(text: &str) -> Result<Scope, String> {
        let (name, prefix) = match text.split_once('=') {
            Some((name, prefix)) => (name, Some(prefix.to_owned())),
            None => (text, None),
        };
        let kind = ScopeKind::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or_else(|| {
            let names: Vec<_> = ScopeKind::ALL.iter().map(|kind| kind.as_str()).collect();
            format!("no scope is called `{name}`; there are {}", names.join(", "))
        })?;
        Ok(Scope { kind, prefix })
    }

    /// Whether this scope allows `kind` on `name`. `admin` implies all, within its prefix.
    pub fn allows(&self, kind: ScopeKind, name: &str) -> bool {
        (self.kind == kind || self.kind == ScopeKind::Admin)
            && self.prefix.as_ref().is_none_or(|prefix| name.starts_with(prefix.as_str()))
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.prefix {
            Some(prefix) => write!(f, "{}={prefix}", self.kind.as_str()),
            None => f.write_str(self.kind.as_str()),
        }
    }
}

/// An access token as a store keeps it: by the SHA-256 of its text, never the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessToken {
    /// Who it is for; one token a name.
    pub name: Name,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// One line of the audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// When.
    pub at: Timestamp,
    /// The token's name, or `anonymous`.
    pub actor: String,
    /// What was done: `token.create`, `queue.purge`, …
    pub action: String,
    /// To what.
    pub subject: String,
    /// More, for people.
    pub detail: String,
}

/// A store keeps this many of the newest audit records.
pub const AUDIT_KEPT: u64 = 10_000;

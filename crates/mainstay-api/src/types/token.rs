//! Access tokens.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::read::name;
use crate::Timestamp;
use crate::names::is_prefix;
use crate::strict::{Cx, Fields, Path, Strict, Value};

/// What a token lets its bearer do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Enqueue, cancel, retry and delete jobs.
    JobsProduce,
    /// Claim, extend and settle jobs.
    JobsWork,
    /// Everything with locks but force.
    LocksUse,
    /// Publish events.
    EventsPublish,
    /// Groups, deliveries and streams.
    EventsSubscribe,
    /// Look at everything, and metrics.
    Read,
    /// Everything.
    Admin,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 7] = [
        Self::JobsProduce,
        Self::JobsWork,
        Self::LocksUse,
        Self::EventsPublish,
        Self::EventsSubscribe,
        Self::Read,
        Self::Admin,
    ];

    /// The scope's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JobsProduce => "jobs:produce",
            Self::JobsWork => "jobs:work",
            Self::LocksUse => "locks:use",
            Self::EventsPublish => "events:publish",
            Self::EventsSubscribe => "events:subscribe",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A scope, perhaps only for names that begin in a certain way; written `SCOPE` or `SCOPE=PREFIX`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Grant {
    /// What is allowed.
    pub scope: Scope,
    /// On names that begin so; empty means on all.
    pub prefix: String,
}

impl Grant {
    /// Whether this allows `scope` on `name`. Nothing but `admin` implies another scope.
    pub fn allows(&self, scope: Scope, name: &str) -> bool {
        (self.scope == scope || self.scope == Scope::Admin) && name.starts_with(&self.prefix)
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scope.as_str())?;
        if !self.prefix.is_empty() {
            write!(f, "={}", self.prefix)?;
        }
        Ok(())
    }
}

impl FromStr for Grant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (word, prefix) = text.split_once('=').unwrap_or((text, ""));
        let scope = Scope::ALL.into_iter().find(|scope| scope.as_str() == word).ok_or_else(|| {
            format!(
                "must be SCOPE or SCOPE=PREFIX, with {}",
                crate::strict::alternatives(&Scope::ALL.map(Scope::as_str))
            )
        })?;
        if !is_prefix(prefix) {
            return Err("must have a prefix that a name can begin with".to_owned());
        }
        Ok(Self { scope, prefix: prefix.to_owned() })
    }
}

impl Serialize for Grant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Grant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A token to be made: `POST /admin/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewToken {
    /// What it is called in lists and in the audit log.
    pub name: String,
    /// What it allows: `SCOPE` or `SCOPE=PREFIX`, at least one.
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 64))]
    pub scopes: Vec<Grant>,
}

impl Strict for NewToken {
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self> {
        let f = Fields::open(cx, at, value, &["name", "scopes"])?;
        let name = f.required(cx, at, "name", name);
        let scopes = f.list(cx, at, "scopes", 1..=64, grant);
        Some(Self { name: name?, scopes: scopes? })
    }
}

fn grant(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Grant> {
    match value.as_str().unwrap_or_default().parse() {
        Ok(grant) => Some(grant),
        Err(rule) => {
            cx.error(at, rule);
            None
        }
    }
}

/// The answer to the making of a token: the only time it is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenCreated {
    /// What it is called.
    pub name: String,
    /// What the bearer sends.
    pub token: String,
    /// What it allows.
    pub scopes: Vec<Grant>,
    /// When it was made.
    pub created_at: Timestamp,
}

// The token must not reach a log by way of a derived `Debug`.
impl fmt::Debug for TokenCreated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCreated")
            .field("name", &self.name)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

/// A token in a list: `GET /admin/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenView {
    /// What it is called.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<Grant>,
    /// When it was made; `null` for one from the configuration.
    pub created_at: Option<Timestamp>,
}

//! All access tokens, at hand for every request.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use http::HeaderValue;
use mainstay::core::access::{AccessToken, Scope};
use mainstay::core::name::Name;
use mainstay::core::store::{Page, Query, Record};
use mainstay::core::time::Timestamp;
use mainstay::{Client, StoreError};
use mainstay_api::{Code, Problem};

use super::secret::{hash, same};
use super::{Caller, ConfiguredToken};

/// The access tokens of the store and of the configuration, as they were at the last [`refresh`](Tokens::refresh).
pub struct Tokens {
    store: Client,
    configured: Vec<Known>,
    /// By the hash of the secret: how long a look-up takes says nothing about any secret.
    table: RwLock<Arc<HashMap<[u8; 32], Known>>>,
    /// One refresh at a time: an older reading must not replace a newer one.
    refreshing: tokio::sync::Mutex<()>,
    anonymous: bool,
}

/// A token as requests are compared with it.
#[derive(Debug, Clone)]
pub struct Known {
    /// What it is called.
    pub name: Name,
    /// The SHA-256 of its secret.
    pub hash: [u8; 32],
    /// What it allows.
    pub scopes: Arc<[Scope]>,
    /// When it was made; `None` for one from the configuration.
    pub created_at: Option<Timestamp>,
}

impl Tokens {
    /// The tokens of this configuration; those of the store come with the first [`refresh`](Tokens::refresh).
    pub fn new(store: Client, configured: &[ConfiguredToken]) -> Tokens {
        let configured: Vec<_> = configured.iter().filter_map(ConfiguredToken::known).collect();
        let table = by_hash(configured.iter().cloned());
        Tokens {
            store,
            configured,
            table: RwLock::new(Arc::new(table)),
            refreshing: Default::default(),
            anonymous: false,
        }
    }

    /// Where there is no token, none is needed. Only for listeners that other machines cannot reach: without this an
    /// empty table, such as after the last token was revoked, lets nobody in.
    pub fn allow_anonymous(&mut self) {
        self.anonymous = true;
    }

    /// Whether there is any token. Then every request needs one.
    pub fn any(&self) -> bool {
        !self.table().is_empty()
    }

    /// The tokens of the configuration.
    pub fn configured(&self) -> &[Known] {
        &self.configured
    }

    /// Who a request with this `Authorization` is from.
    ///
    /// # Errors
    /// `unauthenticated`, when this is none of the tokens; where there are none, unless
    /// [`allow_anonymous`](Tokens::allow_anonymous) was called.
    pub fn identify(&self, authorization: Option<&HeaderValue>) -> Result<Caller, Problem> {
        let table = self.table();
        if table.is_empty() && self.anonymous {
            return Ok(Caller::anybody());
        }
        if table.is_empty() {
            let detail = "there is no access token any more, and this server can be reached from other machines: stop \
                          it and make one with `mainstay token create --name admin --scope admin --store URL`";
            return Err(Problem::new(Code::Unauthenticated, detail));
        }
        let Some(secret) = authorization.and_then(bearer) else {
            let detail = "send an access token: `Authorization: Bearer …`";
            return Err(Problem::new(Code::Unauthenticated, detail));
        };
        let hash = hash(secret);
        match table.get(&hash).filter(|known| same(&known.hash, &hash)) {
            Some(known) => Ok(Caller::known(known.name.clone(), known.scopes.clone())),
            None => Err(Problem::new(Code::Unauthenticated, "the access token is not known, or was revoked")),
        }
    }

    /// Reads the store's tokens again. After a change by this process, and every second for those of others.
    ///
    /// # Errors
    /// The store's; what was known stays.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.refreshing.lock().await;
        let mut all = self.configured.clone();
        let mut page = Page { limit: 1_000, cursor: None };
        loop {
            let slice = self.store.store().list(&Query::AccessTokens, &page).await?;
            all.extend(slice.items.into_iter().filter_map(|record| match record {
                Record::AccessToken(token) => Some(Known::from(token)),
                _ => None,
            }));
            match slice.next {
                Some(next) => page.cursor = Some(next),
                None => break,
            }
        }
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(by_hash(all));
        Ok(())
    }

    fn table(&self) -> Arc<HashMap<[u8; 32], Known>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl From<AccessToken> for Known {
    fn from(token: AccessToken) -> Known {
        let AccessToken { name, hash, scopes, created_at } = token;
        Known { name, hash, scopes: scopes.into(), created_at: Some(created_at) }
    }
}

fn by_hash(all: impl IntoIterator<Item = Known>) -> HashMap<[u8; 32], Known> {
    all.into_iter().map(|known| (known.hash, known)).collect()
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim()).filter(|secret| !secret.is_empty())
}

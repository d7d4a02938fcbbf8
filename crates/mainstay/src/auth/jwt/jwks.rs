//! Key sets as text.

use std::sync::Arc;

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm as Theirs, DecodingKey};
use serde_json::Value;

use super::Algorithm;
use crate::{Error, Result};

/// A public key of an issuer.
#[derive(Clone)]
pub(super) struct Key {
    pub id: Option<String>,
    pub key: Arc<DecodingKey>,
    /// The only algorithm it is for, if it says so.
    only: Option<KeyAlgorithm>,
}

impl Key {
    pub fn fits(&self, id: Option<&str>, algorithm: Algorithm) -> bool {
        let theirs: Theirs = algorithm.theirs();
        let named = id.is_none() || self.id.as_deref() == id;
        named
            && self.key.family().algorithms().contains(&theirs)
            && self.only.is_none_or(|only| only == theirs.into())
    }
}

/// The keys of a set that can be used. One that cannot (another use, a kind we do not know, a shared secret, something
/// broken) is left out: it must not take the others with it.
pub(super) fn parse(text: &str) -> Result<Vec<Key>> {
    let set: Value = serde_json::from_str(text)?;
    let keys = set.get("keys").and_then(Value::as_array).ok_or("a key set is an object with `keys`")?;
    let usable: Vec<_> = keys.iter().filter_map(usable).collect();
    if usable.is_empty() {
        return Err(Error::from(format!("none of the set's {} keys can be used", keys.len())));
    }
    Ok(usable)
}

fn usable(value: &Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
    let secret = matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_));
    let other_use = jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature);
    if secret || other_use {
        return None;
    }
    let key = Arc::new(DecodingKey::from_jwk(&jwk).ok()?);
    Some(Key { id: jwk.common.key_id, key, only: jwk.common.key_algorithm })
}

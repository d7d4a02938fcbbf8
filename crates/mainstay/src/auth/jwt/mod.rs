//! JSON web tokens (RFC 7519) as bearer tokens.
//!
//! ```
//! use mainstay::auth::{Authenticate, jwt::JwtVerifier};
//!
//! # async fn fetch(_url: &str) -> mainstay::Result<String> { Ok(String::new()) }
//! let keys = || fetch("https://id.example.org/jwks.json"); // by the HTTP client you have
//! let tokens = JwtVerifier::jwks("id", keys).issuer("https://id.example.org").audience("shop");
//! let authenticate = Authenticate::bearer(tokens);
//! ```
//!
//! A key set is fetched when it is first needed, again once an hour, and when a token names a key that is not in it (but
//! not within 30 s of the last fetch: tokens that name invented keys must not become requests to the issuer; while no
//! keys have ever been fetched, within 1 s). While the issuer cannot be reached, keys up to 24 hours old go on being used.
//! Callers share one fetch, which has 5 s and goes on for the others when the caller that began it leaves.
//!
//! A token whose header has `crit` is refused (RFC 7515, section 4.1.11): no extension is understood.

mod algorithm;
mod jwks;
mod keyring;

use std::sync::Arc;
use std::time::Duration;

pub use algorithm::Algorithm;
use async_trait::async_trait;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use keyring::Keyring;
use mainstay_core::clock::Clock;
use serde_json::{Map, Value};

use super::{Denied, Principal, Verify};
use crate::{Result, SystemClock, secs};

type Claims = Map<String, Value>;

/// Verifies JSON web tokens: signature, algorithm, issuer, audience, and time. The [`Principal`]'s name is `sub`, its
/// scopes are `scope` (words) or `scp` (words or a list), and all claims are with it.
pub struct JwtVerifier {
    keys: Keys,
    algorithms: Vec<Algorithm>,
    issuers: Vec<String>,
    audiences: Vec<String>,
    leeway: Duration,
    clock: Arc<dyn Clock>,
}

enum Keys {
    Secret(DecodingKey),
    Set(Keyring),
}

impl JwtVerifier {
    /// Tokens signed with a secret that the issuer shares with us, by HS256, HS384 or HS512.
    pub fn secret(secret: &[u8]) -> Self {
        Self::new(Keys::Secret(DecodingKey::from_secret(secret)), &Algorithm::SYMMETRIC)
    }

    /// Tokens signed with one of the keys of a JSON web key set (RFC 7517), which `fetch` gets as text. The name is a
    /// label of logs and metrics. Only asymmetric algorithms: a key that everybody can read proves nothing else.
    pub fn jwks<F, Fut>(name: impl Into<String>, fetch: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String>> + Send + 'static,
    {
        let fetch = Box::new(move || Box::pin(fetch()) as _);
        Self::new(Keys::Set(Keyring::new(name.into(), fetch)), &Algorithm::ASYMMETRIC)
    }

    fn new(keys: Keys, algorithms: &[Algorithm]) -> Self {
        Self {
            keys,
            algorithms: algorithms.to_vec(),
            issuers: Vec::new(),
            audiences: Vec::new(),
            leeway: secs(60),
            clock: Arc::new(SystemClock),
        }
    }

    /// Only tokens of this issuer (`iss`); called again, of one of them. By default it is not looked at.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuers.push(issuer.into());
        self
    }

    /// Only tokens for this audience (`aud`); called again, for one of them. By default only tokens that name none.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Only these algorithms. Defaults to all that fit the kind of key; those that do not fit are left out.
    #[must_use]
    pub fn algorithms(mut self, allowed: impl IntoIterator<Item = Algorithm>) -> Self {
        let fitting = std::mem::take(&mut self.algorithms);
        self.algorithms = allowed.into_iter().filter(|algorithm| fitting.contains(algorithm)).collect();
        self
    }

    /// By how much clocks may differ when `exp` and `nbf` are judged. Defaults to 60 s.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Judges `exp` and `nbf` by another clock than the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    fn check(&self, token: &str, key: &DecodingKey, algorithm: Algorithm) -> Result<Claims, Denied> {
        let mut rules = Validation::new(algorithm.theirs());
        // Time is judged below, by our clock.
        rules.validate_exp = false;
        rules.required_spec_claims.clear();
        if !self.issuers.is_empty() {
            rules.set_issuer(&self.issuers);
            rules.required_spec_claims.insert("iss".to_owned());
        }
        if !self.audiences.is_empty() {
            rules.set_audience(&self.audiences);
            rules.required_spec_claims.insert("aud".to_owned());
        }
        let claims = decode::<Claims>(token, key, &rules)
            .map_err(|error| Denied::Invalid(words(error.kind())))?
            .claims;
        let now = self.clock.now().wall.0 as f64 / 1_000.0;
        let leeway = self.leeway.as_secs_f64();
        match claims.get("exp").map(Value::as_f64) {
            Some(Some(end)) if now < end + leeway => {}
            Some(Some(_)) => return Err(Denied::Invalid("the token has expired")),
            Some(None) => return Err(Denied::Invalid("the token's exp is not a number")),
            None => return Err(Denied::Invalid("the token has no exp")),
        }
        match claims.get("nbf").map(Value::as_f64) {
            None => Ok(claims),
            Some(Some(begin)) if begin <= now + leeway => Ok(claims),
            Some(_) => Err(Denied::Invalid("the token is not valid yet")),
        }
    }
}

#[async_trait]
impl Verify for JwtVerifier {
    async fn verify(&self, token: &str) -> Result<Principal, Denied> {
        let header = decode_header(token).map_err(|_| Denied::Invalid("the token is not a JWT"))?;
        if header.crit.is_some() {
            return Err(Denied::Invalid("the token's crit is not understood"));
        }
        // Before any key is looked for: `none`, and what is not allowed, costs nothing.
        let algorithm = self.algorithms.iter().copied().find(|allowed| allowed.theirs() == header.alg);
        let algorithm = algorithm.ok_or(Denied::Invalid("the token's algorithm is not allowed"))?;
        let claims = match &self.keys {
            Keys::Secret(key) => self.check(token, key, algorithm)?,
            Keys::Set(ring) => {
                self.check(token, &*ring.find(header.kid.as_deref(), algorithm).await?, algorithm)?
            }
        };
        let subject = claims.get("sub").and_then(Value::as_str).filter(|subject| !subject.is_empty());
        let subject = subject.ok_or(Denied::Invalid("the token has no sub"))?.to_owned();
        Ok(Principal::new(subject, scopes(&claims)).with_claims(claims))
    }
}

fn scopes(claims: &Claims) -> Vec<String> {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    match claims.get("scope").or_else(|| claims.get("scp")) {
        Some(Value::String(text)) => words(text),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn words(error: &ErrorKind) -> &'static str {
    match error {
        ErrorKind::InvalidSignature => "the token's signature does not fit",
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks iss or aud",
        ErrorKind::InvalidAlgorithm => "the token's algorithm does not fit its key",
        _ => "the token is not a JWT",
    }
}

impl std::fmt::Debug for JwtVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = f.debug_struct("JwtVerifier");
        fields.field("algorithms", &self.algorithms).field("issuers", &self.issuers);
        fields.field("audiences", &self.audiences).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

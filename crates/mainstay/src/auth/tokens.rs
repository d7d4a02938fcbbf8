//! A fixed set of bearer tokens.

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::{Denied, Principal, Verify};

type Hash = [u8; 32];

/// Tokens known from the start. What is kept and compared are their SHA-256 hashes, each to its end: neither memory nor
/// time tells a token. Their secrets must be random, not passwords: the hash is fast on purpose.
#[derive(Debug, Clone, Default)]
pub struct StaticTokens(Vec<(Hash, Principal)>);

impl StaticTokens {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one by its secret.
    #[must_use]
    pub fn token(
        self,
        name: impl Into<String>,
        secret: &str,
        scopes: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.hashed(name, Sha256::digest(secret.as_bytes()).into(), scopes)
    }

    /// Adds one by the SHA-256 of its secret, so that the configuration holds none.
    #[must_use]
    pub fn hashed(
        mut self,
        name: impl Into<String>,
        hash: Hash,
        scopes: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.0.push((hash, Principal::new(name, scopes)));
        self
    }
}

#[async_trait]
impl Verify for StaticTokens {
    async fn verify(&self, token: &str) -> Result<Principal, Denied> {
        let given: Hash = Sha256::digest(token.as_bytes()).into();
        let mut found = None;
        for (hash, principal) in &self.0 {
            if same(hash, &given) {
                found = Some(principal.clone());
            }
        }
        found.ok_or(Denied::Invalid("the token is not known"))
    }
}

/// Without telling by its duration where the difference is.
fn same(one: &Hash, other: &Hash) -> bool {
    let difference = one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(difference) == 0
}

//! Who asks: bearer tokens, checked before a handler runs.
//!
//! ```
//! use mainstay::auth::{Authenticate, StaticTokens};
//! use mainstay::rate::{Rate, RateLimiter};
//! use mainstay::request::Pipeline;
//!
//! # fn example(pipeline: Pipeline) -> mainstay::Result<Pipeline> {
//! let tokens = StaticTokens::new().token("ci", "a-long-random-secret", ["builds"]);
//! let limiter = RateLimiter::new("callers", Rate::per_second(50).burst(100))?;
//! # let pipeline =
//! pipeline.authenticate(Authenticate::bearer(tokens)).rate_limit(limiter)
//! # ;
//! # Ok(pipeline)
//! # }
//! ```
//!
//! A handler takes the [`Principal`] as an extractor, and every log line below says who it is. [`Verify`] is the seam
//! for other kinds of tokens; `JwtVerifier` (feature `jwt`) is one.

#[cfg(feature = "jwt")]
pub mod jwt;
mod layer;
mod principal;
mod tokens;

use async_trait::async_trait;
pub use layer::Authenticate;
pub use principal::Principal;
pub use tokens::StaticTokens;

/// Tells from a bearer token who asks.
#[async_trait]
pub trait Verify: Send + Sync + 'static {
    /// Who the token belongs to.
    ///
    /// # Errors
    /// [`Denied`].
    async fn verify(&self, token: &str) -> Result<Principal, Denied>;
}

/// Why a token does not tell who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denied {
    /// It is nobody's, or not any more: 401. The words are for the caller; mind what they give away.
    Invalid(&'static str),
    /// It could not be checked now: 503. The words are for the log.
    Unavailable(String),
}

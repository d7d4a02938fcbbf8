//! Who asks, and whether they may.
//!
//! [`Tokens`] knows all access tokens and tells who a request is from; [`Caller`] is the answer, and says what they may
//! do. [`Origins`] keeps foreign web pages out, [`ask`] those who ask too often.

mod caller;
mod configured;
mod origin;
mod rate;
mod secret;
mod tokens;

pub use caller::Caller;
pub use configured::ConfiguredToken;
pub use origin::{Origins, is_origin};
pub use rate::{Asker, ask, limiter};
pub use secret::{hash, new_secret};
pub use tokens::Tokens;

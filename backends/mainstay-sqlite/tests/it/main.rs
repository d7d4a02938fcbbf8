//! The embedded store before the judges every store has, and what only it promises.

mod harness;
mod judges;

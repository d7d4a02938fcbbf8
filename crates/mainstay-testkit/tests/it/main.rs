//! The memory store before both judges, and the judges before stores that lie.

mod conformance;
mod documents;
mod harness;
mod history;
mod judges;
mod memory;
mod model;
mod recorded;

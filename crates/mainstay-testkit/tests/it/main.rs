//! The memory store before both judges.

mod conformance;
mod harness;
mod model;

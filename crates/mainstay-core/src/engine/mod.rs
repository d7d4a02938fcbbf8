//! x
pub mod change;

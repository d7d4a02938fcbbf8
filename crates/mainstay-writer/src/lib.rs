//! What the stores share in which one writer owns the engine: everything between the caller and the disk that is not
//! about a certain disk.
//!
//! 1. `desk` is where callers come: it hands their commits to the writer and answers questions that only the engine can;
//! 2. `inbox` carries both to the `writer`, which makes groups of them; `answer` carries the answers back;
//! 3. [`writer::Ground`] is what a store brings: where a group becomes durable, and what the engine asks of its tables;
//! 4. `codec` makes bytes of changes, `batch` the last state of each row of many groups, `numbers` says what is written
//!    for the words of the vocabulary; `block` makes one row of many events;
//! 5. where tables follow a journal, `behind` holds what they lack, `places` bounds the journal, and `archive` answers the
//!    engine as if they had it;
//! 6. `cache` keeps bodies that are about to be claimed, `ahead` those that are read for it, `tail` the end of the log,
//!    `clock` goes on over a restart.
//!
//! A crate for the stores of this workspace alone: no promise is made to others.
#![expect(missing_docs, reason = "read together with the stores that use it; what needs words has them")]

pub mod ahead;
pub mod answer;
pub mod archive;
pub mod batch;
pub mod behind;
#[cfg(test)]
mod behind_model;
#[cfg(test)]
mod behind_tests;
pub mod block;
pub mod cache;
pub mod clock;
pub mod codec;
pub mod desk;
pub mod fault;
pub mod inbox;
#[cfg(test)]
mod inbox_model;
#[cfg(test)]
mod inbox_tests;
pub mod message;
pub mod numbers;
pub mod places;
pub mod stopwatch;
mod sync;
pub mod tail;
pub mod writer;

//! The embedded store before the judges every store has, and what only it promises.

mod bounds;
mod callers;
mod crash;
mod events;
mod files;
mod harness;
mod journal;
mod judges;
mod locks;
mod policies;
mod trouble;

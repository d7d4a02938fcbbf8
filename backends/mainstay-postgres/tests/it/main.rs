//! PostgreSQL as the store before the judges every store has, and what only it promises.

mod hands;
mod harness;
mod judges;
mod outbox;

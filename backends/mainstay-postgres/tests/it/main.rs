//! PostgreSQL as the store before the judges every store has, and what only it promises.

mod faults;
mod hands;
mod harness;
mod judges;
mod outbox;
mod schema;
mod wire;

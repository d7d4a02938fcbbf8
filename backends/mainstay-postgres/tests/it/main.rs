//! PostgreSQL as the store before the judges every store has, and what only it promises.

mod crowd;
mod faults;
mod follow;
mod hands;
mod harness;
mod journal;
mod judges;
mod outbox;
mod pooler;
mod schema;
mod server;
mod standby;
mod tls;
mod wire;

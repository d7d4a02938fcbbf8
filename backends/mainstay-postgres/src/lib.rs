//! PostgreSQL as the store of mainstay, for several processes.
//!
//! Of all processes that have a schema open, one leads. It has the very [`Engine`](mainstay_core::engine::Engine) that
//! every store has, in RAM, takes what waits as one group, and writes what that changed in one transaction, which proves
//! first that nobody else has begun to lead. The answers go out when it has been committed.
//!
//! 1. `store` is what callers see, `options` how it is opened; `home` says what this process is to the store, `lead` who
//!    leads, `term` is a time of leading;
//! 2. `ground` is what the writer of `mainstay_writer` stands on here: `write`, `recent` and `things` make the statements of a group,
//!    `archive` answers the engine (`fronts` is the oldest of what has finished), `fill` adds what answers lack;
//! 3. `load` rebuilds the engine, `read` answers everything else from snapshots; `rows` and `schema` say how tables look;
//! 4. `post` carries `calls` of processes that follow to the one that leads, and the answers back; `local` is how that one
//!    answers its own and theirs;
//! 5. `outbox` takes what other transactions of the database want done;
//! 6. `session` is for what tools ask; `link` is how any session works, on which `pipeline` sends what `step` describes;
//!    `fault` is what an error of the database means, `clock` the database's time.

mod archive;
mod calls;
mod clock;
mod fault;
mod fill;
mod fronts;
mod ground;
mod home;
mod journal;
mod lead;
mod link;
mod load;
mod local;
mod options;
mod outbox;
mod pipeline;
mod post;
mod read;
mod rows;
mod schema;
mod session;
mod step;
mod store;
mod tables;
mod term;
mod things;
mod write;

pub use options::{FatalHook, Options};
pub use outbox::Outbox;
pub use session::{Session, TextRow};
pub use store::{PostgresStore, migrate};
/// The client whose transactions an [`Outbox`] takes.
pub use tokio_postgres;
pub use tokio_postgres::Config;

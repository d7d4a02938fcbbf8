//! A disk that can fail, under a store that lives in SQLite: feature `sqlite-faults`.
//!
//! A [`Disk`] is a SQLite VFS over the system's own, and files for a journal beside it ([`Disk::files`]). It passes everything through and keeps a log of what would have
//! changed the disk; each such call is a *write point*. Two things are done with it:
//!
//! - **Trouble while the store lives**: [`Disk::plan`] makes a write fail, a sync fail, or the disk full.
//! - **A power cut, afterwards**: [`Disk::replay`] goes through the log again and says at each write point what a
//!   disk could hold if the power had failed right there ([`Survival`]). One run gives every crash there can be, and
//!   each image is opened by the store as it is used. The test puts marks into the log ([`Disk::mark`]) when the
//!   store has answered, so it knows what was promised before each point.
//!
//! A power cut is not acted out: what a store does after its disk is gone is no different from what it does after
//! `kill -9`, which is nothing. `kill -9` itself is [`Survival::All`]: the system keeps what it was given.
//!
//! What is simulated: nothing is durable but by a sync of its file; a sync makes all of its file durable that was
//! written before; between syncs the disk writes what it likes, in any order, sector by sector; after a failed sync
//! the system takes what it could not write for written, so that later syncs do not write it either. A file that was
//! made is there, empty. A file that was written past the VFS while no connection had it open counts as synced. Real syncs never happen: they would only take time. The shared memory of a write-ahead log
//! (`-shm`) goes to the system untouched: it is rebuilt after a crash and no image has it.

mod disk;
mod files;
mod log;
mod replay;
mod vfs;

pub use disk::{Disk, On, Trouble};
pub use files::{DiskFile, DiskFiles};
pub use replay::{Image, Replay, Survival};

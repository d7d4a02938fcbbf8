//! Changes as bytes, and back.

mod after;
pub mod decode;
pub mod encode;
mod events;
pub mod locks;
pub mod parts;

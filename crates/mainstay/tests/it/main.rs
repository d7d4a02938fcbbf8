//! Behaviour of the chassis on real sockets and real processes.

mod admin;
mod call_site;
mod config;
mod harness;
mod http;
mod life;
mod process;
mod store;
mod workers;

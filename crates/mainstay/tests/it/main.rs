//! Behaviour of the chassis on real sockets and real processes.

mod admin;
mod call_site;
mod components;
mod config;
mod failures;
mod harness;
mod http;
mod life;
mod loops;
mod pipeline;
mod policy;
mod process;
mod queue;
mod readme;
mod reload;
mod store;
mod systemd;
mod workers;

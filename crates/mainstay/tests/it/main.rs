//! Behaviour of the chassis on real sockets and real processes.

mod admin;
#[cfg(feature = "testing")]
mod batch;
mod bus;
mod call_site;
mod components;
mod config;
#[cfg(feature = "testing")]
mod deadline;
mod failures;
mod fuzz;
mod gate;
mod group;
#[cfg(feature = "testing")]
mod group_trouble;
mod harness;
mod health;
mod http;
#[cfg(feature = "testing")]
mod kit;
mod life;
#[cfg(feature = "testing")]
mod locks;
mod log;
#[cfg(feature = "testing")]
mod log_of_events;
mod loops;
mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
mod overload;
mod pipeline;
mod policy;
mod pool;
mod process;
mod queue;
mod readme;
mod reload;
mod statsd;
mod store;
mod systemd;
#[cfg(feature = "web")]
mod web;
mod workers;
mod workers_at_work;

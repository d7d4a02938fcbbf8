//! The server from outside: over real sockets, on a store in memory unless a test is about another.

mod changing;
mod client;
mod server;

mod admin;
mod api;
mod auth;
mod bad_input;
mod bench;
mod cli;
mod cli_lock;
mod cli_lock_terminal;
mod cli_worker;
mod codes;
mod commit;
mod dead;
mod dependencies;
mod document;
mod drain;
mod events;
mod fuzz;
mod keys;
mod leases;
mod limits;
mod lock_histories;
mod locks;
mod locks_lost;
mod lost;
mod pages;
mod process;
mod remote;
mod schedules;
mod settle;
mod stop;
mod two_servers;

//! Too much work, in virtual time: what is served in time, and what trouble grows to.

mod admission;
mod http;
mod sim;
mod storm;

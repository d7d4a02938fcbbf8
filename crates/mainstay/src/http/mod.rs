//! HTTP listeners: our own accept loop and connections, axum routers on top.
//!
//! HTTP/1.1 and cleartext HTTP/2 (by prior knowledge) share a port. Every connection is owned: during the lame duck
//! HTTP/1.1 responses carry `Connection: close` and HTTP/2 connections get GOAWAY, so that clients move away without
//! losing a request; when the drain begins the listener closes and requests in flight finish; what overstays is cut
//! and named. Idle connections and half-sent heads never hold it up.
//!
//! A connection that changes its protocol (a WebSocket) is in flight until its stream is dropped; [`crate::streams`]
//! has what tells it, and event streams, that the service is about to end.
//!
//! A request whose client is gone is dropped where it awaits: its handler does not run to its end. What must be
//! finished belongs into [`Boot::tasks`](crate::Boot::tasks) or a job.
//!
//! Handlers get a request's [`Peer`], [`Shutdown`](crate::Shutdown) and [`Delivery`] as arguments; other code finds
//! them in its extensions with `of`.

mod api_error;
mod arrival;
mod aside;
mod boot;
mod conn;
mod delivery;
mod extract;
mod flight;
#[cfg(feature = "testing")]
mod inlet;
mod listener;
mod passed;
mod sniff;
mod sse;
mod upgrade;

pub use api_error::ApiError;
pub(crate) use arrival::Arrival;
pub use boot::Http;
pub(crate) use boot::cannot_listen;
pub use delivery::Delivery;
pub use extract::Peer;
pub use flight::Resumable;
#[cfg(feature = "testing")]
pub(crate) use inlet::Inlet;
pub(crate) use listener::{Door, Limits, accept};
pub use passed::resolve;
pub(crate) use passed::{adopt, bind, unused};

//! Server-sent events that end when the service does.

use axum::response::sse::{Event, Sse};
use futures_util::Stream;

use crate::shutdown::Shutdown;
use crate::streams::EndingStream;

impl Shutdown {
    /// The events as a response that ends when no new work should be begun, with `event: drain` as its last: a client
    /// that reconnects at once meets a server that stays.
    pub fn sse<S, E>(&self, events: S) -> Sse<EndingStream<S>>
    where
        S: Stream<Item = Result<Event, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        // Without data a browser would not show it to anybody.
        let drain = Event::default().event("drain").data("{}");
        Sse::new(self.end_stream(events).last(Ok(drain)))
    }
}

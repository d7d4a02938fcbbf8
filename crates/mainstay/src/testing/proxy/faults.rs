//! What a fault proxy does to the bytes of one direction.

use std::time::Duration;

/// What happens to what passes in one direction. `Faults::default()` is nothing at all.
///
/// Times are of `tokio::time`: virtual where time is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub(super) latency: Duration,
    pub(super) jitter: Duration,
    pub(super) bandwidth: Option<u64>,
    pub(super) slice: Option<usize>,
    pub(super) limit: Option<u64>,
    pub(super) stalled: bool,
}

impl Faults {
    /// Every byte comes this much later. What is under way when it changes keeps the latency it began with.
    #[must_use]
    pub fn latency(mut self, latency: Duration) -> Faults {
        self.latency = latency;
        self
    }

    /// And up to this much later still, by chance that follows the proxy's seed. The order of bytes stays.
    #[must_use]
    pub fn jitter(mut self, jitter: Duration) -> Faults {
        self.jitter = jitter;
        self
    }

    /// At most so many bytes a second, of each connection. At least one.
    #[must_use]
    pub fn bandwidth(mut self, bytes_a_second: u64) -> Faults {
        self.bandwidth = Some(bytes_a_second.max(1));
        self
    }

    /// Writes of at most so many bytes, at least one. The receiver's system may join what it does not read in time.
    #[must_use]
    pub fn slice(mut self, bytes: usize) -> Faults {
        self.slice = Some(bytes.max(1));
        self
    }

    /// Closes each connection, in both directions, when so many bytes have passed in this one.
    #[must_use]
    pub fn limit(mut self, bytes: u64) -> Faults {
        self.limit = Some(bytes);
        self
    }

    /// Nothing passes any more, not even the end: the connection is half open. Lifted, what has been held goes on.
    #[must_use]
    pub fn stall(mut self) -> Faults {
        self.stalled = true;
        self
    }
}

/// A direction through a fault proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

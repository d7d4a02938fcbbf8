//! How large things may be.

/// Bounds on what a request may carry; a server's configuration can change them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// A job's payload, in bytes of JSON text. Defaults to 1 MiB.
    pub payload_bytes: usize,
    /// A job's result, in bytes of JSON text. Defaults to 1 MiB.
    pub result_bytes: usize,
    /// A job's `meta`, in bytes of JSON text. Defaults to 4 KiB.
    pub meta_bytes: usize,
    /// A progress report, in bytes of JSON text. Defaults to 4 KiB.
    pub progress_bytes: usize,
    /// The data of an event, in bytes. Defaults to 1 MiB.
    pub event_bytes: usize,
    /// The text of an error, in bytes. Defaults to 16 KiB.
    pub message_bytes: usize,
    /// A backtrace, in bytes. Defaults to 16 KiB.
    pub backtrace_bytes: usize,
    /// Tags of one job. Defaults to 16.
    pub tags: usize,
    /// One tag, in bytes. Defaults to 64.
    pub tag_bytes: usize,
    /// Jobs of one bulk enqueue. Defaults to 10,000.
    pub bulk: usize,
    /// Items of one settle. Defaults to 1,000.
    pub batch: usize,
    /// Operations of one commit. Defaults to 1,000.
    pub commit: usize,
    /// Jobs of one claim. Defaults to 1,000.
    pub claim: u32,
    /// Queues one claim may name. Defaults to 100.
    pub claim_queues: usize,
    /// Jobs one may wait for. Defaults to 10,000, and no store takes more.
    pub after: usize,
    /// The shortest lease, in milliseconds. Defaults to 1 s.
    pub lease_min_ms: u64,
    /// The longest lease, in milliseconds. Defaults to 24 h.
    pub lease_max_ms: u64,
    /// The longest wait of one call, in milliseconds. Defaults to 60 s.
    pub wait_max_ms: u64,
}

impl Limits {
    /// How long a lease lives: as asked, or as is usual, but within the bounds of leases.
    pub(crate) fn lease_or(&self, asked_ms: Option<u64>, usual_ms: u64) -> u64 {
        // A maximum below the minimum is nobody's configuration, and no reason to panic.
        asked_ms.unwrap_or_else(|| usual_ms.max(self.lease_min_ms).min(self.lease_max_ms))
    }
}

impl Default for Limits {
    fn default() -> Self {
        const KIB: usize = 1 << 10;
        const MIB: usize = 1 << 20;
        Self {
            payload_bytes: MIB,
            result_bytes: MIB,
            meta_bytes: 4 * KIB,
            progress_bytes: 4 * KIB,
            event_bytes: MIB,
            message_bytes: 16 * KIB,
            backtrace_bytes: 16 * KIB,
            tags: 16,
            tag_bytes: 64,
            bulk: 10_000,
            batch: 1_000,
            commit: 1_000,
            claim: 1_000,
            claim_queues: 100,
            after: 10_000,
            lease_min_ms: 1_000,
            lease_max_ms: 24 * 3_600 * 1_000,
            wait_max_ms: 60_000,
        }
    }
}

/// The longest time span any field takes: 100 years. Instants stay inside what RFC 3339 can say.
pub const MAX_SPAN_MS: u64 = 100 * 366 * 86_400_000;

/// The largest integer every JSON reader keeps exactly: 2^53 − 1.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

//! Requests and answers, as they stand on the wire.
//!
//! Requests are written with `serde` (by clients) and read with [`Strict`](crate::strict::Strict) (by the server);
//! answers go both ways with `serde`. An optional field that is absent has the contract's default.

mod admin;
mod claim;
mod commit;
mod enqueue;
mod event;
mod group;
mod job;
mod list;
mod lock;
mod queue;
mod read;
mod schedule;
#[cfg(feature = "openapi")]
mod schema;
mod settle;
mod store;
mod token;
mod topic;
mod wait;

pub use admin::{
    AuditRecord, CheckState, CheckView, Config, ConfigEntry, Draining, LogLevel, LoopView, Probe,
    ProbeReason, ProbeStatus,
};
pub use claim::{Claim, Claimed, ClaimedJob};
pub use commit::{Commit, CommitOp, CommitResult, Committed, Require};
pub use enqueue::{
    AfterFailure, AfterRef, Backoff, BulkEnqueue, BulkEnqueued, BulkResult, DEFAULT_MAX_ATTEMPTS,
    DEFAULT_MAX_CRASHES, DEFAULT_PRIORITY, Enqueued, Jitter, NewJob, Unique,
};
pub use event::{
    CLOUDEVENT_BATCH_JSON, CLOUDEVENT_JSON, CloudEvent, CloudEventBatch, Envelope, EventData, Headers,
    LogPage, LoggedEvent, Published, PublishedBatch,
};
pub use group::{
    DEFAULT_ACK_WAIT_MS, DEFAULT_MAX_DELIVER, DEFAULT_MAX_IN_FLIGHT, DeadEvent, DeadEventSelect,
    DeliveredEvent, DeliveriesReleased, DeliverySettled, ExtendDelivery, Fetch, Fetched, GroupConfig,
    GroupView, Lagged, MAX_FILTERS, Nack, ReleaseDeliveries, Seek, SettleDeliveries, SettledDeliveries,
    Sought, Start,
};
pub use job::{AttemptError, CancelAnswer, DeadReason, JobResult, JobState, JobView};
pub use list::Page;
pub use lock::{
    Acquire, AcquireMode, Acquired, CheckLock, LockChecked, LockHolder, LockMode, LockView, LockWaiter,
    ReleaseLock, Released, Renew, RenewItem, RenewMany, RenewResult, Renewed, RenewedMany, Withdrawn,
};
pub use queue::{
    DeadChanged, DeadSelect, Depth, Fairness, FairnessBy, Overflow, Purged, QueueConfig, QueueView, Rate,
    Retention, Totals, WorkerView,
};
pub use schedule::{CatchUp, DEFAULT_TIMEZONE, PutSchedule, ScheduleAnswer, ScheduleView};
pub use settle::{
    Complete, DEFAULT_EXTEND_MS, Extend, Extended, Fail, ItemError, JobFailure, Release, Retry, Settle,
    SettleItem, SettleOutcome, SettleResult, Settled, StateAnswer,
};
pub use store::{CommitScope, StoreInfo, TokenOrder};
pub use token::{Grant, NewToken, Scope, TokenCreated, TokenView};
pub use topic::{TopicConfig, TopicPut, TopicRetention, TopicView};
pub use wait::{WaitFor, WaitLock, WaitLog, Waited};

pub use claim::{DEFAULT_CLAIM_MAX, DEFAULT_LEASE_MS};
pub use lock::{DEFAULT_TTL_MS, MAX_PERMITS};

#[cfg(test)]
mod tests;

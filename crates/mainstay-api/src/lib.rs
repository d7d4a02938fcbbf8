//! Wire types and error codes of the mainstay server, and its HTTP client.
//!
//! Reading order: [`problem`] (what goes wrong, and how it is said), [`strict`] (how a body is read), [`types`]
//! (what stands in it), [`query`] (what stands behind the `?`), and with the feature `client` the [`client`].
//!
//! ```
//! use mainstay_api::{Limits, strict, types::NewJob};
//!
//! let body = br#"{"kind": "send_email", "priority": 12, "payloads": {}}"#;
//! let problem = strict::parse::<NewJob>(body, &Limits::default()).unwrap_err();
//!
//! assert_eq!(problem.status, 422);
//! let wrong: Vec<_> = problem.errors.iter().map(|error| error.pointer.as_str()).collect();
//! assert_eq!(wrong, ["/payloads", "/priority"]);
//! ```

pub mod problem;
pub mod strict;
pub mod types;

pub mod query;

#[cfg(feature = "client")]
pub mod client;

mod id;
mod limits;
mod names;
mod path;
mod raw;
mod timestamp;

pub use id::{JobId, JobIdError};
pub use limits::{Limits, MAX_SAFE_INTEGER, MAX_SPAN_MS};
pub use names::{FILTER_RULE, NAME_RULE, TOPIC_RULE, is_filter, is_name, is_prefix, is_topic};
pub use path::{idempotency_key, path_job_id, path_name, request_timeout};
pub use problem::{Code, FieldError, Outcome, PROBLEM_JSON, Place, Problem};
pub use raw::RawJson;
pub use timestamp::{Timestamp, TimestampError, format_rfc3339, parse_rfc3339, write_rfc3339};

//! The answers that are given thousands of times a second, written by hand: the same members as the wire types, without
//! building those first. A test compares the two.

use std::io::Write as _;

use mainstay::core::job::{Grant, JobState};
use mainstay::core::op::{Committed, Enqueued, Failure, Reply};
use mainstay::core::time::Timestamp;
use mainstay_api::types::{ItemError, SettleResult};
use mainstay_api::write_rfc3339;

use crate::api::{convert, error};

/// JSON text under construction.
pub(super) struct Json(Vec<u8>);

impl Json {
    pub fn with_capacity(bytes: usize) -> Json {
        Json(Vec::with_capacity(bytes))
    }

    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    /// Text that is JSON as it stands.
    pub fn raw(&mut self, text: &str) -> &mut Json {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// A value. Writing to a vector cannot fail, and none of these types can.
    fn value<T: serde::Serialize + ?Sized>(&mut self, value: &T) -> &mut Json {
        let written = serde_json::to_writer(&mut self.0, value);
        debug_assert!(written.is_ok());
        self
    }

    fn time(&mut self, at: Timestamp) -> &mut Json {
        let mut buffer = [0; 24];
        self.raw("\"").raw(write_rfc3339(at.0, &mut buffer)).raw("\"")
    }

    /// `{"results":[…]}` of a bulk enqueue.
    pub fn bulk(&mut self, replies: &[Reply]) {
        self.raw("{\"results\":[");
        for (index, reply) in replies.iter().enumerate() {
            let Reply::Enqueued(job) = reply else { continue };
            self.raw(if index == 0 { "{\"id\":" } else { ",{\"id\":" }).value(&convert::wire_id(job.id));
            self.state(job.state).raw(",\"deduplicated\":").value(&job.deduplicated).raw("}");
        }
        self.raw("]");
        // Of the last, which found it fullest.
        let last = replies.iter().rev().find_map(|reply| match reply {
            Reply::Enqueued(job) => Some(job.pressure),
            _ => None,
        });
        self.pressure(last.flatten()).raw("}");
    }

    fn pressure(&mut self, thousandths: Option<u16>) -> &mut Json {
        if let Some(pressure) = convert::pressure(thousandths) {
            self.raw(",\"pressure\":").value(&pressure);
        }
        self
    }

    /// The answer to an enqueue.
    pub fn enqueued(&mut self, job: &Enqueued) {
        self.raw("{\"id\":").value(&convert::wire_id(job.id));
        self.raw(",\"queue\":").value(job.queue.as_str());
        self.raw(",\"kind\":").value(job.kind.as_deref().unwrap_or_default());
        self.state(job.state).raw(",\"priority\":").value(&job.priority);
        self.raw(",\"run_at\":").time(job.run_at).raw(",\"created_at\":").time(job.created_at);
        self.raw(",\"deduplicated\":").value(&job.deduplicated);
        self.pressure(job.pressure).raw("}");
    }

    /// `"jobs":[…]` of a claim.
    pub fn jobs(&mut self, grants: &[Grant]) {
        self.raw("\"jobs\":[");
        for (index, grant) in grants.iter().enumerate() {
            if index > 0 {
                self.raw(",");
            }
            self.grant(grant);
        }
        self.raw("]");
    }

    fn grant(&mut self, grant: &Grant) {
        let body = grant.body.as_deref();
        self.raw("{\"id\":").value(&convert::wire_id(grant.id));
        self.raw(",\"queue\":").value(grant.queue.as_str());
        self.raw(",\"kind\":").value(body.map_or("", |body| &body.kind));
        self.raw(",\"payload\":").raw(body.map_or("null", |body| &body.payload));
        self.raw(",\"priority\":").value(&grant.priority).raw(",\"attempt\":").value(&grant.attempt);
        self.raw(",\"max_attempts\":").value(&grant.policy.max_attempts);
        self.raw(",\"crashes\":").value(&grant.crashes).raw(",\"created_at\":").time(grant.created_at);
        self.raw(",\"meta\":").raw(body.and_then(|body| body.meta.as_deref()).unwrap_or("{}"));
        self.raw(",\"tags\":[");
        for (index, tag) in body.iter().flat_map(|body| &body.tags).enumerate() {
            self.raw(if index == 0 { "" } else { "," }).value(&**tag);
        }
        self.raw("]");
        if let Some(trace) = body.and_then(|body| body.traceparent.as_deref()) {
            self.raw(",\"traceparent\":").value(trace);
        }
        if let Some(timeout_ms) = grant.policy.timeout_ms {
            self.raw(",\"timeout_ms\":").value(&timeout_ms);
        }
        self.raw(",\"lease\":\"");
        let _ = write!(self.0, "{}", grant.lease);
        self.raw("\",\"token\":").value(&grant.lease.token.0);
        self.raw(",\"expires_at\":").time(grant.expires_at).raw("}");
    }

    /// One result of a settle.
    pub fn settled(&mut self, id: mainstay_api::JobId, answer: &Result<Committed, Failure>) {
        match answer.as_ref().map(|committed| committed.replies.first()) {
            Ok(Some(Reply::Settled { state, run_at, .. })) => {
                self.raw("{\"id\":").value(&id).state(*state);
                if let Some(run_at) = run_at {
                    self.raw(",\"run_at\":").time(*run_at);
                }
                self.raw("}");
            }
            Ok(Some(Reply::Extended { expires_at, cancel_requested, .. })) => {
                self.raw("{\"id\":").value(&id).state(JobState::Running);
                self.raw(",\"expires_at\":").time(*expires_at);
                self.raw(",\"cancel_requested\":").value(cancel_requested).raw("}");
            }
            Ok(_) => self.failed(id, error::item_bug()),
            Err(failure) => self.failed(id, error::item(failure)),
        }
    }

    /// One result of a settle that changed nothing.
    pub fn failed(&mut self, id: mainstay_api::JobId, error: ItemError) {
        self.value(&SettleResult::error(id, error.code, error.detail));
    }

    fn state(&mut self, state: JobState) -> &mut Json {
        self.raw(",\"state\":\"").raw(state.as_str()).raw("\"")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mainstay::core::id::JobId;
    use mainstay::core::job::{JobBody, JobPolicy};
    use mainstay::core::lease::{LeaseId, Token};
    use mainstay::core::op::{Place, Reason, Rejection};
    use mainstay_api::types as wire;

    use super::*;

    fn id() -> JobId {
        JobId::parse("0192f7c6-5f2a-7000-8000-000000000001").unwrap()
    }

    fn grant(body: JobBody, timeout_ms: Option<u64>) -> Grant {
        Grant {
            id: id(),
            n: 1,
            queue: "mail".parse().unwrap(),
            priority: 5,
            attempt: 2,
            crashes: 1,
            policy: JobPolicy { timeout_ms, ..JobPolicy::default() },
            created_at: Timestamp(1_700_000_000_123),
            lease: LeaseId { token: Token(77), nonce: 9 },
            expires_at: Timestamp(1_700_000_030_000),
            body: Some(Arc::new(body)),
        }
    }

    #[test]
    fn a_claim_is_written_as_its_type_reads_and_writes_it() {
        let full = JobBody {
            kind: "a \"kind\"\u{1}é".into(),
            payload: r#"{"to":["ada",1.50]}"#.into(),
            meta: Some(r#"{"a":1}"#.into()),
            tags: vec!["x".into(), "y\"".into()],
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            after: None,
            unique_for_ms: None,
        };
        let mut json = Json::with_capacity(0);
        json.raw("{").jobs(&[grant(full, Some(5)), grant(JobBody::new("k", "null"), None)]);
        json.raw("}");
        let text = String::from_utf8(json.finish()).unwrap();
        let claimed: wire::Claimed = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&claimed).unwrap(), text);
        assert_eq!(claimed.jobs[0].kind, "a \"kind\"\u{1}é");
        assert_eq!((claimed.jobs[1].token, claimed.jobs[1].lease.as_str()), (77, "4d-0000000000000009"));
    }

    #[test]
    fn enqueues_and_settles_are_written_as_their_types() {
        let job = Enqueued {
            id: id(),
            n: 1,
            queue: "mail".parse().unwrap(),
            kind: Some("k".into()),
            state: JobState::Available,
            priority: 5,
            run_at: Timestamp(1),
            created_at: Timestamp(1),
            deduplicated: true,
            pressure: Some(873),
        };
        let mut json = Json::with_capacity(0);
        json.enqueued(&job);
        let expected = serde_json::to_string(&convert::enqueued(&job)).unwrap();
        assert_eq!(String::from_utf8(json.finish()).unwrap(), expected);

        let mut json = Json::with_capacity(0);
        json.bulk(&[Reply::Enqueued(job.clone()), Reply::Enqueued(job)]);
        let text = String::from_utf8(json.finish()).unwrap();
        let bulk: wire::BulkEnqueued = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&bulk).unwrap(), text);

        let settled = |reply| Ok(Committed { replies: vec![reply], repeated: false });
        let at = Some(Timestamp(5));
        let lost = Rejection { at: Place::Op(0), reason: Reason::LeaseLost };
        let answers = [
            settled(Reply::Settled { id: id(), state: JobState::Completed, run_at: None }),
            settled(Reply::Settled { id: id(), state: JobState::Retryable, run_at: at }),
            settled(Reply::Extended { id: id(), expires_at: Timestamp(7), cancel_requested: true }),
            Err(Failure::Rejected(lost)),
        ];
        for answer in answers {
            let mut json = Json::with_capacity(0);
            json.settled(convert::wire_id(id()), &answer);
            let text = String::from_utf8(json.finish()).unwrap();
            let result: wire::SettleResult = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&result).unwrap(), text);
        }
    }
}

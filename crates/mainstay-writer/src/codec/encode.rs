//! Changes as bytes. The form belongs to the format of a store's journal, which has a version: what a released build
//! has written, later ones read.
//!
//! Numbers are little-endian; a text is its length in four bytes, then its bytes; an optional value has a byte before
//! it. What is rare and already has a JSON form keeps it.

use std::sync::Arc;

use mainstay_core::{
    LeaseId, StoreTime, Timestamp,
    engine::change::{
        Change, Counters, Extras, FinishedKey, LimitChange, LimitKey, LiveJob, LiveLease, SettledLease,
    },
    job::{Backoff, JobBody, JobKeys, JobPolicy},
    schedule::ScheduleChange,
};

use super::after;
use crate::numbers::{jitter_number, reason_number, state_number, verb_number};

/// What stands before a change.
pub(super) mod tag {
    pub(in super::super) const JOB_PUT: u8 = 1;
    pub(in super::super) const JOB_UPDATED: u8 = 2;
    pub(in super::super) const JOB_FINISHED: u8 = 3;
    pub(in super::super) const FINISHED_REVIVED: u8 = 4;
    pub(in super::super) const JOB_REMOVED: u8 = 5;
    pub(in super::super) const FINISHED_REMOVED: u8 = 6;
    pub(in super::super) const QUEUE: u8 = 7;
    pub(in super::super) const QUEUE_REMOVED: u8 = 8;
    pub(in super::super) const POLICY: u8 = 9;
    pub(in super::super) const RESULT: u8 = 10;
    pub(in super::super) const PROGRESS: u8 = 11;
    pub(in super::super) const FAILURE: u8 = 12;
    pub(in super::super) const UNIQUE: u8 = 13;
    pub(in super::super) const UNIQUE_REMOVED: u8 = 14;
    pub(in super::super) const KEYED: u8 = 15;
    pub(in super::super) const KEYED_FORGOTTEN: u8 = 16;
    pub(in super::super) const ACCESS_TOKEN: u8 = 17;
    pub(in super::super) const ACCESS_TOKEN_REMOVED: u8 = 18;
    pub(in super::super) const AUDIT: u8 = 19;
    pub(in super::super) const AUDIT_FORGOTTEN: u8 = 20;
    /// A job that was put with what few have behind it: a list of what it waits for, a time for its unique key.
    pub(in super::super) const JOB_PUT_MORE: u8 = 21;
    pub(in super::super) const POLICY_REMOVED: u8 = 22;
    pub(in super::super) const LIMIT_HANDED: u8 = 90;
    pub(in super::super) const LIMIT_TURN: u8 = 91;
    pub(in super::super) const LIMIT_NOW: u8 = 92;
    pub(in super::super) const SCHEDULE_PUT: u8 = 70;
    pub(in super::super) const SCHEDULE_MOVED: u8 = 71;
    pub(in super::super) const SCHEDULE_REMOVED: u8 = 72;
}

/// Bits of a job's flags beside its phase, which takes the lowest two.
pub(super) const RETRYING: u8 = 4;
pub(super) const CANCEL_REQUESTED: u8 = 8;
pub(super) const HAS_EXTRAS: u8 = 16;
/// With [`HAS_EXTRAS`]: the concurrency and fairness keys follow those. Only where extras are written.
pub(super) const HAS_KEYS: u8 = 32;

/// The counters of a group.
pub fn counters(out: &mut Vec<u8>, counters: &Counters) {
    let Counters { token, n, f, k, audit, clock } = *counters;
    for number in [token, n, f, k, audit, clock.0] {
        out.extend(number.to_le_bytes());
    }
}

/// Appends one change.
pub fn change(out: &mut Vec<u8>, change: &Change) {
    match change {
        Change::JobPut { job, extras, settled, body } => {
            let after = body.as_ref().and_then(|body| body.after.as_ref());
            let unique_for_ms = body.as_ref().and_then(|body| body.unique_for_ms);
            let tag = match (after, unique_for_ms) {
                (None, None) => tag::JOB_PUT,
                (Some(_), None) => after::tag::JOB_PUT_AFTER,
                (_, Some(_)) => tag::JOB_PUT_MORE,
            };
            out.push(tag);
            job_with_extras(out, job, extras);
            opt(out, settled.as_ref(), put_settled);
            opt(out, body.as_deref(), put_body);
            match (tag, after) {
                (tag::JOB_PUT_MORE, after) => {
                    opt(out, after, after::put_list);
                    number_opt(out, unique_for_ms);
                }
                (_, Some(after)) => after::put_list(out, after),
                _ => {}
            }
        }
        Change::JobUpdated { job, lease, settled } => {
            out.push(tag::JOB_UPDATED);
            live_job(out, job, 0);
            opt(out, lease.as_ref(), put_lease);
            opt(out, settled.as_ref(), put_settled);
        }
        Change::JobFinished(finished) => {
            out.push(tag::JOB_FINISHED);
            key(out, &finished.key);
            job_with_extras(out, &finished.job, &finished.extras);
            out.push(state_number(finished.state) as u8);
            out.push(finished.reason.map_or(u8::MAX, |reason| reason_number(reason) as u8));
            time(out, finished.finished_at);
            opt(out, finished.settled.as_ref(), put_settled);
        }
        Change::FinishedRevived { key: place, id } => {
            out.push(tag::FINISHED_REVIVED);
            key(out, place);
            out.extend(id.as_bytes());
        }
        Change::JobRemoved { id, n } => {
            out.push(tag::JOB_REMOVED);
            out.extend(id.as_bytes());
            u64(out, *n);
        }
        Change::FinishedRemoved(gone) => {
            out.push(tag::FINISHED_REMOVED);
            key(out, &gone.key);
            out.extend(gone.id.as_bytes());
            u64(out, gone.n);
            time(out, gone.finished_at);
        }
        other => rare(out, other),
    }
}

fn rare(out: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Queue { id, name, config, paused, dropped } => {
            out.push(tag::QUEUE);
            u32(out, id.0);
            text(out, name.as_str());
            json(out, config);
            out.push(u8::from(*paused) | u8::from(*dropped) << 1);
        }
        Change::QueueRemoved(id) => {
            out.push(tag::QUEUE_REMOVED);
            u32(out, id.0);
        }
        Change::Policy { id, policy } => {
            out.push(tag::POLICY);
            u32(out, id.0);
            put_policy(out, policy);
        }
        Change::PolicyRemoved(id) => {
            out.push(tag::POLICY_REMOVED);
            u32(out, id.0);
        }
        Change::Result { n, result } => {
            out.push(tag::RESULT);
            u64(out, *n);
            text(out, result);
        }
        Change::Progress { n, progress } => {
            out.push(tag::PROGRESS);
            u64(out, *n);
            text(out, progress);
        }
        Change::Failure { n, record } => {
            out.push(tag::FAILURE);
            u64(out, *n);
            u32(out, record.attempt);
            time(out, record.at);
            text_opt(out, record.failure.kind.as_ref());
            text(out, &record.failure.message);
            text_opt(out, record.failure.backtrace.as_ref());
        }
        Change::Unique { queue, key, id, until } => {
            out.push(tag::UNIQUE);
            u32(out, queue.0);
            text(out, key);
            out.extend(id.as_bytes());
            time_opt(out, *until);
        }
        Change::UniqueRemoved { queue, key } => {
            out.push(tag::UNIQUE_REMOVED);
            u32(out, queue.0);
            text(out, key);
        }
        Change::After(change) => after::put(out, change),
        Change::Limit(change) => limit(out, change),
        Change::Keyed { k, key, at, replies } => {
            out.push(tag::KEYED);
            u64(out, *k);
            out.extend(key.scope);
            out.extend(key.fingerprint);
            time(out, *at);
            json(out, &**replies);
        }
        Change::KeyedForgotten { up_to } => {
            out.push(tag::KEYED_FORGOTTEN);
            u64(out, *up_to);
        }
        Change::AccessToken(token) => {
            out.push(tag::ACCESS_TOKEN);
            json(out, token);
        }
        Change::AccessTokenRemoved(name) => {
            out.push(tag::ACCESS_TOKEN_REMOVED);
            text(out, name.as_str());
        }
        Change::Audit { number, record } => {
            out.push(tag::AUDIT);
            u64(out, *number);
            json(out, record);
        }
        Change::AuditForgotten { up_to } => {
            out.push(tag::AUDIT_FORGOTTEN);
            u64(out, *up_to);
        }
        Change::Lock(change) => super::locks::put(out, change),
        Change::Event(change) => super::events::put(out, change),
        Change::Schedule(change) => schedule(out, change),
        // Written by the caller.
        Change::JobPut { .. }
        | Change::JobUpdated { .. }
        | Change::JobFinished(_)
        | Change::FinishedRevived { .. }
        | Change::JobRemoved { .. }
        | Change::FinishedRemoved(_) => {}
    }
}

fn schedule(out: &mut Vec<u8>, change: &ScheduleChange) {
    match change {
        ScheduleChange::Put(record) => {
            out.push(tag::SCHEDULE_PUT);
            json(out, record);
        }
        ScheduleChange::Moved { name, state } => {
            out.push(tag::SCHEDULE_MOVED);
            text(out, name.as_str());
            json(out, state);
        }
        ScheduleChange::Removed(name) => {
            out.push(tag::SCHEDULE_REMOVED);
            text(out, name.as_str());
        }
    }
}

fn live_job(out: &mut Vec<u8>, job: &LiveJob, more_flags: u8) {
    out.extend(job.id.as_bytes());
    u64(out, job.n);
    time(out, job.run_at);
    time(out, job.created_at);
    for number in [job.queue.0, job.policy.0, job.attempt, job.size, job.crashes] {
        u32(out, number);
    }
    let flag = |is: bool, bit: u8| if is { bit } else { 0 };
    let flags = more_flags
        | flag(job.retrying, RETRYING)
        | flag(job.cancel_requested, CANCEL_REQUESTED)
        | flag(job.has_extras, HAS_EXTRAS);
    out.extend([job.priority, job.phase as u8 | flags]);
}

/// The job's flags say whether there are any.
fn job_with_extras(out: &mut Vec<u8>, job: &LiveJob, extras: &Extras) {
    let keys = extras.keys.as_deref().filter(|_| job.has_extras);
    live_job(out, job, if keys.is_some() { HAS_KEYS } else { 0 });
    if job.has_extras {
        time_opt(out, extras.expires_at);
        text_opt(out, extras.unique_key.as_ref());
    }
    if let Some(JobKeys { concurrency, fairness }) = keys {
        text_opt(out, concurrency.as_ref());
        text_opt(out, fairness.as_ref());
    }
}

fn limit(out: &mut Vec<u8>, change: &LimitChange) {
    let LimitChange { queue, key, value } = change;
    out.push(match key {
        LimitKey::Handed(_) => tag::LIMIT_HANDED,
        LimitKey::Turn(_) => tag::LIMIT_TURN,
        LimitKey::Now => tag::LIMIT_NOW,
    });
    u32(out, queue.0);
    match key {
        LimitKey::Handed(at) => u64(out, at.0),
        LimitKey::Turn(key) => text_opt(out, key.as_ref()),
        LimitKey::Now => {}
    }
    number_opt(out, *value);
}

fn put_lease(out: &mut Vec<u8>, lease: &LiveLease) {
    let LiveLease { id, until: StoreTime(until), ms, claimed_at: StoreTime(claimed_at), worker } = lease;
    lease_id(out, id);
    for number in [until, ms, claimed_at] {
        u64(out, *number);
    }
    opt(out, worker.as_ref(), |out, worker| text(out, worker.as_str()));
}

fn put_settled(out: &mut Vec<u8>, settled: &SettledLease) {
    let SettledLease { id, verb, state, run_at } = settled;
    lease_id(out, id);
    out.extend([verb_number(*verb) as u8, state_number(*state) as u8]);
    time_opt(out, *run_at);
}

/// All but what it waits for and how long its unique key is held, which few have.
pub(super) fn put_body(out: &mut Vec<u8>, body: &JobBody) {
    text(out, &body.kind);
    text(out, &body.payload);
    text_opt(out, body.meta.as_ref());
    u32(out, body.tags.len() as u32);
    body.tags.iter().for_each(|tag| text(out, tag));
    text_opt(out, body.traceparent.as_ref());
}

fn put_policy(out: &mut Vec<u8>, policy: &JobPolicy) {
    let JobPolicy { max_attempts, max_crashes, backoff, timeout_ms, retain_ms } = *policy;
    let Backoff { base_ms, factor_milli, max_ms, jitter } = backoff;
    u32(out, max_attempts);
    number_opt(out, max_crashes.map(u64::from));
    for number in [base_ms, factor_milli, max_ms] {
        u64(out, number);
    }
    out.push(jitter_number(jitter) as u8);
    number_opt(out, timeout_ms);
    number_opt(out, retain_ms);
}

fn key(out: &mut Vec<u8>, key: &FinishedKey) {
    u32(out, key.queue.0);
    out.push(key.lane as u8);
    u64(out, key.f);
}

pub(super) fn lease_id(out: &mut Vec<u8>, id: &LeaseId) {
    u64(out, id.token.0);
    u64(out, id.nonce);
}

pub(super) fn opt<T: ?Sized>(out: &mut Vec<u8>, value: Option<&T>, put: impl FnOnce(&mut Vec<u8>, &T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

pub(super) fn u32(out: &mut Vec<u8>, number: u32) {
    out.extend(number.to_le_bytes());
}

pub(super) fn u64(out: &mut Vec<u8>, number: u64) {
    out.extend(number.to_le_bytes());
}

pub(super) fn number_opt(out: &mut Vec<u8>, number: Option<u64>) {
    opt(out, number.as_ref(), |out, number| u64(out, *number));
}

pub(super) fn time(out: &mut Vec<u8>, at: Timestamp) {
    out.extend(at.0.to_le_bytes());
}

pub(super) fn time_opt(out: &mut Vec<u8>, at: Option<Timestamp>) {
    number_opt(out, at.map(|at| at.0 as u64));
}

pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    u32(out, text.len() as u32);
    out.extend(text.as_bytes());
}

pub(super) fn text_opt(out: &mut Vec<u8>, value: Option<&Arc<str>>) {
    opt(out, value, |out, value| text(out, value));
}

pub(super) fn json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let bytes = serde_json::to_vec(value).expect("the vocabulary has a JSON form");
    u32(out, bytes.len() as u32);
    out.extend(bytes);
}

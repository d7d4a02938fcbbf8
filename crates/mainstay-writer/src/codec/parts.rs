//! Parts of changes that tables keep in columns of their own.

use mainstay_core::{engine::change::EventMeta, event::Event, job::JobBody};

use super::{
    after,
    decode::{Bytes, Result, whole},
    encode, events,
};

/// A job's body, with what it was enqueued to wait for.
pub fn body(body: &JobBody) -> Vec<u8> {
    let mut out = Vec::new();
    encode::put_body(&mut out, body);
    encode::opt(&mut out, body.after.as_ref(), after::put_list);
    encode::number_opt(&mut out, body.unique_for_ms);
    out
}

pub fn body_of(bytes: &[u8]) -> Result<JobBody> {
    whole(bytes, |bytes| {
        let body = bytes.body()?;
        let (after, unique_for_ms) = (bytes.opt(Bytes::after_list)?, bytes.opt(Bytes::u64)?);
        Ok(JobBody { after, unique_for_ms, ..body })
    })
}

pub fn meta(meta: &EventMeta) -> Vec<u8> {
    let mut out = Vec::with_capacity(48);
    events::put_meta(&mut out, meta);
    out
}

pub fn meta_of(bytes: &[u8]) -> Result<EventMeta> {
    whole(bytes, Bytes::meta)
}

pub fn event(event: &Event) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.size() + 48);
    events::put_event(&mut out, event);
    out
}

pub fn put_event(out: &mut Vec<u8>, event: &Event) {
    events::put_event(out, event);
}

pub fn event_of(bytes: &[u8]) -> Result<Event> {
    event_like(bytes, None)
}

/// Texts that are the same as in `like` are shared with it.
pub fn event_like(bytes: &[u8], like: Option<&Event>) -> Result<Event> {
    whole(bytes, |bytes| bytes.an_event(like))
}

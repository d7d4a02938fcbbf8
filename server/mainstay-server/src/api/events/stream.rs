//! `GET /v1/events/stream`: the log as server-sent events. A reader takes from the log at its own pace: what it has not
//! taken yet is on the disk, not in a queue of ours.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::unfold;
use http::{HeaderValue, header};
use mainstay::core::access::ScopeKind;
use mainstay::core::event::{EventInterest, LogBudget, LogSlice, Position};
use mainstay::core::store::Interest;
use mainstay::core::topic::{TopicFilter, TopicName};
use mainstay::http::Resumable;
use mainstay::secs;
use mainstay_api::query::Query;
use mainstay_api::types::{Lagged, Start};
use mainstay_api::{FieldError, Place};
use tokio::time::{Instant, sleep, sleep_until};

use super::read::{is_there, read, start, topics};
use super::{convert, write};
use crate::api::Api;
use crate::api::call::{Answer, Call};

/// A proxy that hears nothing for a minute or so takes a connection for dead.
const PING: Duration = secs(15);
/// What is read of the log at once, and in memory for one reader.
const CHUNK: LogBudget = LogBudget { events: 500, bytes: 1 << 20 };
/// After a read that failed.
const TRY_AGAIN: Duration = secs(1);

pub(crate) async fn stream(call: Call) -> Answer {
    let mut input = call.input();
    let asked = input.query(|query| {
        let mut query = Query::new(query, &["topics", "from"]);
        let topics = query.optional("topics", topics);
        let from = query.optional("from", start);
        query.finish((topics.unwrap_or_else(|| vec![">".to_owned()]), from))
    });
    let last = call.headers().get("last-event-id").map(|value| {
        let text = value.to_str().unwrap_or_default().trim();
        text.parse::<u64>().ok().filter(|seq| *seq < u64::MAX)
    });
    if last == Some(None) {
        let detail = "must be the number of an event: the `id:` of one from this stream";
        input.is_wrong(FieldError::outside(Place::Header, "last-event-id", detail));
    }
    let ((topics, from), _) = input.finish(asked)?;
    topics.iter().try_for_each(|filter| call.caller.must(ScopeKind::EventsSubscribe, filter))?;
    let filters: Arc<[TopicFilter]> = convert::filters(&topics)?.into();

    let (from, resumes) = match last.flatten() {
        Some(last) => (Start::Seq(last + 1), true),
        None => (from.unwrap_or(Start::Latest), false),
    };
    let slice = read(&call, &filters, convert::position(from), CHUNK).await?;
    if !resumes {
        is_there(from, &slice)?;
    }
    let reader = Reader {
        api: call.api.clone(),
        filters,
        cursor: slice.from,
        // Who asks for what there is misses nothing that went before.
        told: if resumes { Vec::new() } else { slice.removed.clone() },
        ready: Some(slice),
        until: call.until(),
        ended: false,
    };
    let body = unfold(reader, |mut reader| async move {
        let chunk = reader.next().await?;
        Some((Ok::<_, Infallible>(chunk), reader))
    });
    let mut response = Response::new(Body::from_stream(body));
    response.extensions_mut().insert(Resumable);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Some proxies collect answers before they pass them on.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Where one reader is.
struct Reader {
    api: Api,
    filters: Arc<[TopicFilter]>,
    /// The next number to look at.
    cursor: u64,
    /// Of these topics it knows up to where retention has removed something that it had not read.
    told: Vec<(TopicName, u64)>,
    /// Read, and not written yet.
    ready: Option<LogSlice>,
    /// Its caller waits no longer than this. An end without a word, from which they can resume.
    until: Option<Instant>,
    ended: bool,
}

impl Reader {
    /// The next piece of the body; `None` at its end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.ended || self.until.is_some_and(|until| until <= Instant::now()) {
                return None;
            }
            if self.api.shutdown.is_draining() {
                self.ended = true;
                return Some(Bytes::from_static(b"event: drain\ndata: {}\n\n"));
            }
            let slice = match self.ready.take() {
                Some(slice) => slice,
                None => match self.read().await {
                    Some(slice) => slice,
                    None => continue,
                },
            };
            let text = self.text(&slice);
            self.cursor = slice.next.max(self.cursor);
            if !text.is_empty() {
                return Some(text.into());
            }
            if self.cursor > slice.head && !self.wait().await {
                return Some(Bytes::from_static(b": ping\n\n"));
            }
        }
    }

    /// `None` when it has to be tried again: the reader stays, it has missed nothing.
    async fn read(&self) -> Option<LogSlice> {
        let read = self.api.store.store().read_log(&self.filters, Position::Seq(self.cursor), CHUNK).await;
        match read {
            Ok(slice) => Some(slice),
            Err(error) => {
                tracing::warn!(%error, "a stream cannot read the log; it tries again");
                self.api.shutdown.unless_draining(sleep(TRY_AGAIN)).await;
                None
            }
        }
    }

    fn text(&mut self, slice: &LogSlice) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some((from, up_to)) = self.gone(&slice.removed) {
            let next = slice.events.first().map_or(slice.next, |event| event.seq);
            let skipped = up_to - from;
            out.extend_from_slice(b"event: lagged\ndata: ");
            let written = serde_json::to_writer(&mut out, &Lagged { skipped, next });
            debug_assert!(written.is_ok(), "two numbers");
            out.extend_from_slice(b"\n\n");
        }
        // A topic that is not in it any more can be again only with a higher number.
        self.told.clone_from(&slice.removed);
        for logged in &slice.events {
            out.extend_from_slice(format!("id: {}\ndata: ", logged.seq).as_bytes());
            write::envelope(&mut out, &logged.topic, logged.seq, &logged.event);
            out.extend_from_slice(b"\n\n");
        }
        out
    }

    /// Behind which number, up to which, something is gone that the reader was not told of. Each topic counts for
    /// itself: one that lost much may hide that another lost a little.
    fn gone(&self, removed: &[(TopicName, u64)]) -> Option<(u64, u64)> {
        let read = self.cursor.saturating_sub(1);
        let told: HashMap<_, _> = self.told.iter().map(|(topic, up_to)| (topic, *up_to)).collect();
        let news = removed.iter().filter_map(|(topic, up_to)| {
            let known = told.get(topic).map_or(read, |told| read.max(*told));
            (*up_to > known).then_some((known, *up_to))
        });
        news.reduce(|(from, up_to), (other, further)| (from.min(other), up_to.max(further)))
    }

    /// Its caller's time is over.
    async fn over(&self) {
        match self.until {
            Some(until) => sleep_until(until).await,
            None => std::future::pending().await,
        }
    }

    /// Waits for more; `false` when it is time to show that somebody is still here.
    async fn wait(&self) -> bool {
        let interest = EventInterest::Log { filters: self.filters.clone(), from: self.cursor };
        let interests = [Interest::Event(interest)];
        tokio::select! {
            biased;
            () = self.api.shutdown.draining() => true,
            () = self.over() => true,
            wake = self.api.store.store().wait(&interests, PING) => match wake {
                Ok(wake) => wake.is_woken(),
                Err(error) => {
                    tracing::debug!(%error, "a stream cannot wait");
                    sleep(TRY_AGAIN).await;
                    true
                }
            },
        }
    }
}

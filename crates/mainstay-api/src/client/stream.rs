//! Server-sent events, as the event stream of a server has them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Method;
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::Frame;

use super::{ApiError, Call, ErrorKind, HttpClient};
use crate::types::{Envelope, Lagged};

/// A server sends something every 15 s, if only a comment: after this long it is gone.
const SILENCE: Duration = Duration::from_secs(45);
/// No message is longer: an event's data has 1 MiB at most, twice that as Base64 and with what it is escaped by.
const LONGEST: usize = 8 << 20;

pub(super) type Body = BoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// An open stream of events. Dropped, its connection is closed.
#[derive(Debug)]
pub struct EventStream {
    body: Body,
    buffer: BytesMut,
    url: String,
}

/// What comes out of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Streamed {
    /// An event. To go on after it, open a stream with its number as the last one.
    Event(Envelope),
    /// Retention has removed what this reader had not read yet.
    Lagged(Lagged),
    /// The server is about to stop: open another stream.
    Drain,
}

impl HttpClient {
    pub(super) async fn open_stream(&self, path: String, last: Option<u64>) -> Result<EventStream, ApiError> {
        let mut call = Call::new(Method::GET, path);
        call.last_event_id = last;
        let deadline = tokio::time::Instant::now() + self.timeout;
        let body = self.transport.open(&call, deadline).await?;
        Ok(EventStream { body, buffer: BytesMut::new(), url: self.url().to_owned() })
    }
}

impl EventStream {
    /// A stream of what is there already, as it arrived. For tests of the reader.
    #[doc(hidden)]
    pub fn of(pieces: Vec<Bytes>) -> Self {
        Self { body: Pieces(pieces.into()).boxed(), buffer: BytesMut::new(), url: String::new() }
    }

    /// The next message; `None` when the server has ended the stream. Cancel safe.
    ///
    /// # Errors
    /// The connection broke, or nothing came for 45 s; what the server sent is no stream of events.
    pub async fn next(&mut self) -> Result<Option<Streamed>, ApiError> {
        loop {
            while let Some(message) = split(&mut self.buffer) {
                if let Some(streamed) = self.read(&message)? {
                    return Ok(Some(streamed));
                }
            }
            if self.buffer.len() > LONGEST {
                return Err(ApiError::new(ErrorKind::Answer, "a message of the stream is too long"));
            }
            let broken = || ApiError::new(ErrorKind::Broken, format!("lost the stream of {}", self.url));
            match tokio::time::timeout(SILENCE, self.body.frame()).await {
                Err(_) => return Err(broken()),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(broken().caused_by(error)),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    /// `None` for a comment.
    fn read(&self, message: &[u8]) -> Result<Option<Streamed>, ApiError> {
        let text = String::from_utf8_lossy(message);
        let field = |name: &str| {
            text.lines().find_map(|line| {
                let value = line.strip_prefix(name)?.strip_prefix(':')?;
                Some(value.strip_prefix(' ').unwrap_or(value))
            })
        };
        let Some(data) = field("data") else { return Ok(None) };
        let unreadable = |error| {
            ApiError::new(ErrorKind::Answer, "a message of the stream cannot be read").caused_by(error)
        };
        match field("event") {
            None | Some("message") => {
                serde_json::from_str(data).map(|event| Some(Streamed::Event(event))).map_err(unreadable)
            }
            Some("lagged") => {
                serde_json::from_str(data).map(|lagged| Some(Streamed::Lagged(lagged))).map_err(unreadable)
            }
            Some("drain") => Ok(Some(Streamed::Drain)),
            // Of a later version.
            Some(_) => Ok(None),
        }
    }
}

struct Pieces(VecDeque<Bytes>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

/// A whole message, without the empty line that ends it.
fn split(buffer: &mut BytesMut) -> Option<BytesMut> {
    let end = buffer.windows(2).position(|two| two == b"\n\n")?;
    let message = buffer.split_to(end);
    let _ = buffer.split_to(2);
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_however_they_arrive() {
        let stream = EventStream::of(vec![]);
        let sent = ": ping\n\nid: 7\ndata: {\"topic\":\"t\",\"seq\":7,\"event\":{}}\n\nevent: lagged\ndata: \
                    {\"skipped\":2,\"next\":9}\n\nevent: drain\ndata: {}\n\nid: 8";
        let mut buffer = BytesMut::new();
        let mut seen = Vec::new();
        for byte in sent.bytes() {
            buffer.extend_from_slice(&[byte]);
            while let Some(message) = split(&mut buffer) {
                seen.extend(stream.read(&message).unwrap());
            }
        }
        assert!(matches!(&seen[0], Streamed::Event(event) if event.seq == 7));
        assert_eq!(seen[1..], [Streamed::Lagged(Lagged { skipped: 2, next: 9 }), Streamed::Drain]);
        assert_eq!(&buffer[..], b"id: 8");
    }
}

//! The asynchronous HTTP client.
//!
//! ```no_run
//! # async fn example() -> Result<(), mainstay_api::client::ApiError> {
//! use mainstay_api::client::{HttpClient, Options};
//! use mainstay_api::types::{Claim, Complete, NewJob};
//! use mainstay_api::RawJson;
//!
//! let client = HttpClient::new("http://127.0.0.1:6246", Options::default())?;
//! client.enqueue("mail", &NewJob::new("send_email", RawJson::parse(r#"{"to":"ada"}"#).unwrap_or_default())).await?;
//! for job in client.claim(&Claim { wait_ms: 10_000, ..Claim::from_queue("mail") }).await?.jobs {
//!     client.complete(job.id, &Complete { lease: job.lease, result: None }).await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Every call has a deadline, and inside it is tried again after connection errors and the answers 429, 502 and
//! 503, never earlier than `Retry-After` says (not after `queue-full`: how long a producer waits for room is its own
//! affair). That is safe: what is not idempotent by itself carries an
//! `Idempotency-Key` that is the same in every try. Dropping a call's future gives it up; whether it was applied is
//! then unknown.

mod admin;
mod error;
mod events;
mod jobs;
mod locks;
mod queues;
mod retry;
mod schedules;
mod stream;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use error::{ApiError, ErrorKind};
pub use stream::{EventStream, Streamed};
use transport::{Answer, Transport};

/// What a client needs to know beside the address.
#[derive(Debug, Clone)]
pub struct Options {
    /// The bearer token. Defaults to none.
    pub token: Option<String>,
    /// How long a call may take, tries and pauses included; waiting that the call asks for (`wait_ms`) comes on
    /// top. Defaults to 30 s.
    pub timeout: Duration,
    /// How long the opening of a connection may take. Defaults to 5 s.
    pub connect_timeout: Duration,
    /// Whether to try again inside the time limit. Defaults to yes.
    pub retry: bool,
    /// How large an answer may be, in bytes. Defaults to 64 MiB.
    pub max_answer: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            token: None,
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            retry: true,
            max_answer: 64 << 20,
        }
    }
}

/// A client of one listener of a server: its API, or its admin listener. Clones share their connections.
#[derive(Debug, Clone)]
pub struct HttpClient {
    transport: Arc<Transport>,
    timeout: Duration,
    retry: bool,
    key: Option<Arc<str>>,
    trace: Option<Arc<str>>,
}

impl HttpClient {
    /// A client of the server at `http://HOST:PORT`, perhaps with a path below it. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ErrorKind::Url`] when the address or the token cannot be used.
    pub fn new(url: &str, options: Options) -> Result<Self, ApiError> {
        let (timeout, retry) = (options.timeout, options.retry);
        let transport = Arc::new(Transport::new(url, options)?);
        Ok(Self { transport, timeout, retry, key: None, trace: None })
    }

    /// The address, without a slash at its end.
    pub fn url(&self) -> &str {
        self.transport.base()
    }

    /// The same client with another time limit.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// The same client, trying each call only once, or again.
    #[must_use]
    pub fn with_retry(&self, retry: bool) -> Self {
        Self { retry, ..self.clone() }
    }

    /// The same client, sending this `Idempotency-Key` with every `POST` instead of a new one each: for one logical
    /// call that must survive the caller's own restart.
    ///
    /// # Errors
    /// [`ErrorKind::Url`] when it is not 1 to 255 visible ASCII characters.
    pub fn with_key(&self, key: &str) -> Result<Self, ApiError> {
        crate::idempotency_key(key.as_bytes()).map_err(|error| ApiError::unusable(error.detail))?;
        Ok(Self { key: Some(key.into()), ..self.clone() })
    }

    /// The same client, sending this W3C `traceparent` with every call; none with `None`, or what no header can carry.
    #[must_use]
    pub fn with_trace(&self, traceparent: Option<&str>) -> Self {
        let sane = traceparent.filter(|text| http::HeaderValue::from_str(text).is_ok());
        Self { trace: sane.map(Into::into), ..self.clone() }
    }

    async fn get<A: DeserializeOwned>(&self, path: String) -> Result<A, ApiError> {
        self.json(Call::new(Method::GET, path)).await
    }

    /// A `POST` that is not idempotent by itself.
    async fn post_once<B: Serialize, A: DeserializeOwned>(
        &self,
        path: String,
        body: &B,
    ) -> Result<A, ApiError> {
        self.once(Call::new(Method::POST, path).body(body)?).await
    }

    /// The same, of a call that is put together already.
    async fn once<A: DeserializeOwned>(&self, mut call: Call) -> Result<A, ApiError> {
        call.key = Some(match &self.key {
            Some(key) => key.to_string(),
            None => retry::new_key()?,
        });
        self.json(call).await
    }

    /// A `POST` that can be repeated as it is: its lease, or its effect, makes it idempotent.
    async fn post<B: Serialize, A: DeserializeOwned>(
        &self,
        path: String,
        body: &B,
        wait_ms: u64,
    ) -> Result<A, ApiError> {
        let mut call = Call::new(Method::POST, path).body(body)?;
        call.wait = Duration::from_millis(wait_ms);
        call.key = self.key.as_ref().map(|key| key.to_string());
        self.json(call).await
    }

    /// A `POST` that says everything in its path, and whose answer says no more than that it was done.
    async fn post_bare(&self, path: String) -> Result<(), ApiError> {
        self.answer(&Call::new(Method::POST, path)).await.map(drop)
    }

    async fn put<B: Serialize>(&self, path: String, body: &B) -> Result<(), ApiError> {
        self.answer(&Call::new(Method::PUT, path).body(body)?).await.map(drop)
    }

    /// A `PUT` whose answer says something.
    async fn put_json<B: Serialize, A: DeserializeOwned>(
        &self,
        path: String,
        body: &B,
    ) -> Result<A, ApiError> {
        self.json(Call::new(Method::PUT, path).body(body)?).await
    }

    async fn delete(&self, path: String) -> Result<(), ApiError> {
        self.answer(&Call::new(Method::DELETE, path)).await.map(drop)
    }

    async fn json<A: DeserializeOwned>(&self, call: Call) -> Result<A, ApiError> {
        self.answer(&call).await?.json()
    }

    /// The good answer; anything else is an error, after the tries the time limit allows.
    async fn answer(&self, call: &Call) -> Result<Answer, ApiError> {
        let deadline = tokio::time::Instant::now() + self.timeout + call.wait;
        let mut tried = 0;
        loop {
            let error = match self.transport.send(call, self.trace.as_deref(), deadline).await {
                Ok(answer) if answer.is_success() => return Ok(answer),
                Ok(answer) => answer.into_error(),
                Err(error) => error,
            };
            if !self.retry || !error.is_worth_another_try() {
                return Err(error);
            }
            let pause = retry::pause(tried, error.retry_after(), retry::random().unwrap_or(u64::MAX / 2));
            // A pause that ends too late would only hide what is wrong.
            if tokio::time::Instant::now() + pause >= deadline {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            tried += 1;
        }
    }
}

/// One logical call; all tries of it are the same to the byte, but for the time that is left.
#[derive(Debug)]
struct Call {
    method: Method,
    path: String,
    body: Option<Bytes>,
    key: Option<String>,
    /// How long the server is asked to wait.
    wait: Duration,
    /// What the body is declared as, if there is one.
    content_type: &'static str,
    /// Of a stream that goes on.
    last_event_id: Option<u64>,
}

impl Call {
    fn new(method: Method, path: String) -> Self {
        let content_type = "application/json";
        Self { method, path, body: None, key: None, wait: Duration::ZERO, content_type, last_event_id: None }
    }

    fn body<B: Serialize>(mut self, body: &B) -> Result<Self, ApiError> {
        let text = serde_json::to_vec(body)
            .map_err(|error| ApiError::unusable(format!("unusable body: {error}")))?;
        self.body = Some(text.into());
        Ok(self)
    }

    fn declared(mut self, content_type: &'static str) -> Self {
        self.content_type = content_type;
        self
    }
}

#[cfg(test)]
mod tests;

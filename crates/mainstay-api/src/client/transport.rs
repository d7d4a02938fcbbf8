//! One try of one call, over pooled HTTP/1.1 connections.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::stream::Body;
use super::{ApiError, Call, ErrorKind, Options};
use crate::{PROBLEM_JSON, Problem};

/// Below what servers and balancers usually allow, so that the client is the one who closes.
const IDLE: Duration = Duration::from_secs(20);

pub(super) struct Transport {
    base: String,
    authorization: Option<HeaderValue>,
    client: Client<HttpConnector, Full<Bytes>>,
    max_answer: usize,
}

impl Transport {
    pub(super) fn new(url: &str, options: Options) -> Result<Self, ApiError> {
        let base = url.trim_end_matches('/');
        let uri: Uri = base.parse().map_err(|error| {
            ApiError::unusable(format!("{url:?} is no address of a server, such as http://127.0.0.1:6246"))
                .caused_by(Box::new(error) as Box<dyn std::error::Error + Send + Sync>)
        })?;
        if uri.scheme_str() != Some("http") || uri.host().is_none_or(str::is_empty) || uri.query().is_some() {
            return Err(ApiError::unusable(format!(
                "{url:?} is no address of a server: it must be http://HOST:PORT"
            )));
        }
        let authorization = options.token.map(|token| {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| ApiError::unusable("the token has characters that no header can carry"))?;
            value.set_sensitive(true);
            Ok::<_, ApiError>(value)
        });
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(options.connect_timeout));
        connector.set_keepalive(Some(Duration::from_secs(30)));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(Self {
            base: base.to_owned(),
            authorization: authorization.transpose()?,
            client,
            max_answer: options.max_answer,
        })
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) async fn send(
        &self,
        call: &Call,
        trace: Option<&str>,
        deadline: Instant,
    ) -> Result<Answer, ApiError> {
        let request = self.request(call, trace, deadline)?;
        let answer = match timeout_at(deadline, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => {
                Err(ApiError::new(ErrorKind::Deadline, format!("no answer from {} in time", self.base)))
            }
        };
        answer.map_err(|error| error.of_read(call.method == Method::GET))
    }

    /// Begins an answer that has no end of its own.
    pub(super) async fn open(&self, call: &Call, deadline: Instant) -> Result<Body, ApiError> {
        let mut request = self.request(call, None, deadline)?;
        let headers = request.headers_mut();
        // What the server may take is the reader's patience, not this deadline.
        headers.remove("x-request-timeout-ms");
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream, application/problem+json"));
        if let Some(last) = call.last_event_id {
            headers.insert("last-event-id", HeaderValue::from(last));
        }
        let late = || ApiError::new(ErrorKind::Deadline, format!("no answer from {} in time", self.base));
        let response = timeout_at(deadline, self.begin(request)).await.map_err(|_| late())??;
        if response.status().is_success() {
            return Ok(response.into_body().map_err(|error| Box::new(error) as _).boxed());
        }
        let answer = timeout_at(deadline, self.collect(response)).await.map_err(|_| late())??;
        Err(answer.into_error())
    }

    fn request(
        &self,
        call: &Call,
        trace: Option<&str>,
        deadline: Instant,
    ) -> Result<Request<Full<Bytes>>, ApiError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut request = Request::builder()
            .method(&call.method)
            .uri(format!("{}{}", self.base, call.path))
            .header(ACCEPT, HeaderValue::from_static("application/json, application/problem+json"))
            .header(USER_AGENT, HeaderValue::from_static(concat!("mainstay/", env!("CARGO_PKG_VERSION"))))
            .header("x-request-timeout-ms", left.as_millis().to_string());
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(key) = &call.key {
            request = request.header("idempotency-key", key);
        }
        if let Some(trace) = trace {
            request = request.header("traceparent", trace);
        }
        if call.body.is_some() {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static(call.content_type));
        }
        request
            .body(Full::new(call.body.clone().unwrap_or_default()))
            .map_err(|error| ApiError::unusable("the request cannot be sent").caused_by(error))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, ApiError> {
        self.collect(self.begin(request).await?).await
    }

    async fn begin(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ApiError> {
        self.client.request(request).await.map_err(|error| {
            if error.is_connect() {
                ApiError::new(ErrorKind::Connect, format!("cannot connect to {}", self.base)).caused_by(error)
            } else {
                ApiError::new(ErrorKind::Broken, format!("lost the connection to {}", self.base))
                    .caused_by(error)
            }
        })
    }

    async fn collect(&self, response: Response<Incoming>) -> Result<Answer, ApiError> {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, self.max_answer).collect().await.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                ApiError::new(
                    ErrorKind::Answer,
                    format!("the answer has more than {} bytes", self.max_answer),
                )
            } else {
                ApiError::new(ErrorKind::Broken, format!("lost the connection to {}", self.base))
                    .caused_by(error)
            }
        })?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("base", &self.base).finish_non_exhaustive()
    }
}

/// A complete answer.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        self.status.is_success()
    }

    pub(super) fn json<A: DeserializeOwned>(&self) -> Result<A, ApiError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            ApiError::new(ErrorKind::Answer, format!("the answer ({}) cannot be read", self.status))
                .caused_by(error)
        })
    }

    /// What a refusal says.
    pub(super) fn into_error(self) -> ApiError {
        let after = self.retry_after();
        let is_problem = self
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(PROBLEM_JSON.as_bytes()));
        if is_problem && let Ok(problem) = serde_json::from_slice::<Problem>(&self.body) {
            return ApiError::problem_answer(problem).with_retry_after(after);
        }
        let refusal = matches!(self.status.as_u16(), 429 | 502 | 503);
        ApiError::new(
            ErrorKind::Answer,
            format!("the answer is {}, from something that is no mainstay server", self.status),
        )
        .with_retry_after(after.or(refusal.then_some(Duration::ZERO)))
    }

    /// Seconds only: a date would need two clocks that agree.
    fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
    }
}

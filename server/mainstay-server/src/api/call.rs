//! A request, once it is known who asks, until when, and with what.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use http_body_util::{BodyExt, LengthLimitError};
use mainstay::context::{Context, RequestId};
use mainstay::core::op::{Commit, Committed, Failure, IdempotencyKey, Op, Place, Rejection, Reply, Require};
use mainstay::core::store::Batch;
use mainstay::http::{Delivery, Peer};
use mainstay_api::{Code, FieldError, Problem};
use tokio::time::Instant;

use super::error::{self, Shape};
use super::{Api, Input};
use crate::auth::{Asker, Caller, ask};

/// What a handler gives.
pub(crate) type Answer = Result<Response, Problem>;

/// A request that may be handled.
pub(crate) struct Call {
    pub api: Api,
    pub caller: Caller,
    pub parts: Parts,
    pub body: Bytes,
    params: Option<RawPathParams>,
    context: Context,
}

/// Makes an axum handler of one that takes a [`Call`].
pub(crate) fn with<F, Fut>(
    handler: F,
) -> impl Fn(State<Api>, Request) -> Pin<Box<dyn Future<Output = Response> + Send>> + Clone + Send + Sync + 'static
where
    F: Fn(Call) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Answer> + Send + 'static,
{
    move |State(api): State<Api>, request: Request| {
        let handler = handler.clone();
        Box::pin(async move {
            let uri = request.uri().clone();
            let origins = api.clone();
            let (mut parts, body) = request.into_parts();
            let shown_to = match origins.origins.admit(&parts) {
                Ok(shown_to) => shown_to,
                Err(problem) => return failed(problem, &uri),
            };
            let answer = async {
                let params = RawPathParams::from_request_parts(&mut parts, &()).await.ok();
                handler(Call::accept(api, parts, params, body).await?).await
            };
            let mut response = answer.await.unwrap_or_else(|problem| failed(problem, &uri));
            if let Some(origin) = shown_to {
                response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                response.headers_mut().insert(header::VARY, HeaderValue::from_static("origin"));
            }
            response
        })
    }
}

fn failed(problem: Problem, uri: &http::Uri) -> Response {
    let context = Context::current();
    error::answer(problem, uri.path(), context.request_id().map_or("", RequestId::as_str))
}

impl Call {
    /// Authentication before anything that costs: then the caller's rate, then the body.
    async fn accept(
        api: Api,
        parts: Parts,
        params: Option<RawPathParams>,
        body: Body,
    ) -> Result<Call, Problem> {
        let caller = api.tokens.identify(parts.headers.get(header::AUTHORIZATION))?;
        if let Some(rate) = &api.rate {
            ask(rate, asker(&caller, &parts)).await.map_err(|wait| {
                let detail = format!("too many requests: try again in {} ms", wait.as_millis().max(1));
                Problem::new(Code::RateLimited, detail).with_retry_after(wait)
            })?;
        }
        let body = read(body).await?;
        Ok(Call { api, caller, parts, body, params, context: Context::current() })
    }

    /// Begins to read what is asked.
    pub fn input(&self) -> Input<'_> {
        Input::new(self)
    }

    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// A segment of the path, decoded; `None` if it is not UTF-8.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.as_ref()?.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The request's id, as in the logs.
    pub fn request_id(&self) -> &str {
        self.context.request_id().map_or("", RequestId::as_str)
    }

    /// The caller's trace, if they sent one, as whoever continues it is to send it.
    pub fn traceparent(&self) -> Option<String> {
        let trace = self.context.trace()?;
        trace.parent_id.is_some().then(|| trace.to_string())
    }

    /// Watches whether the answer gets out.
    pub fn delivery(&self) -> Delivery {
        Delivery::of(&self.parts.extensions)
    }

    /// How long to wait for something: as asked, but so that the empty answer is out before the caller gives up.
    pub fn wait(&self, asked_ms: u64) -> Duration {
        let asked = Duration::from_millis(asked_ms);
        match self.left() {
            Some(left) => asked.min(left.saturating_sub((left / 10).clamp(ANSWER_AT_LEAST, ANSWER_AT_MOST))),
            None => asked,
        }
    }

    /// Until when the caller waits, if they said.
    pub fn until(&self) -> Option<Instant> {
        self.context.deadline()
    }

    /// How long the caller will wait, if they said.
    fn left(&self) -> Option<Duration> {
        self.context.remaining()
    }

    /// Applies commits, each atomic and standing alone, with one durability point for all.
    pub async fn submit(&self, commits: Vec<Commit>) -> Result<Vec<Result<Committed, Failure>>, Problem> {
        let count = commits.len();
        let batch = Batch { commits, within: self.left() };
        let answers = self.api.store.submit(batch).await.map_err(|error| error::failed(&error))?;
        if answers.len() == count {
            Ok(answers)
        } else {
            Err(error::internal("the store answered another number of commits than it was given"))
        }
    }

    /// Applies one commit.
    pub async fn commit(&self, commit: Commit, shape: Shape) -> Result<Committed, Problem> {
        let answer = self.commit_or_failure(commit).await?;
        answer.map_err(|failure| error::of_commit(&failure, shape))
    }

    async fn commit_or_failure(&self, commit: Commit) -> Result<Result<Committed, Failure>, Problem> {
        let answer = self.submit(vec![commit]).await?.pop();
        answer.ok_or_else(|| error::internal("the store answered nothing"))
    }

    /// What was answered under this key before; `None`: nothing was.
    pub async fn repeat(&self, key: IdempotencyKey) -> Result<Option<Committed>, Problem> {
        let commit = Commit { key: Some(key), require: vec![Require::Repeat], ..Commit::default() };
        match self.commit_or_failure(commit).await? {
            Ok(committed) => Ok(Some(committed)),
            Err(Failure::Rejected(Rejection { at: Place::Require(_), .. })) => Ok(None),
            Err(failure) => Err(error::of_commit(&failure, Shape::Single)),
        }
    }

    /// Applies ops together; answers the reply to the first, and whether it is one from before.
    pub async fn apply(&self, ops: Vec<Op>, key: Option<IdempotencyKey>) -> Result<(Reply, bool), Problem> {
        let commit = Commit { key, ops, entropy: self.api.store.entropy(), ..Commit::default() };
        let committed = self.commit(commit, Shape::Single).await?;
        let repeated = committed.repeated;
        let reply = committed.replies.into_iter().next();
        Ok((reply.ok_or_else(|| error::internal("the store answered no reply"))?, repeated))
    }
}

/// What is kept of the caller's time for getting the answer out.
const ANSWER_AT_LEAST: Duration = Duration::from_millis(5);
const ANSWER_AT_MOST: Duration = Duration::from_millis(100);

fn asker(caller: &Caller, parts: &Parts) -> Asker {
    match caller.name() {
        Some(name) => Asker::Token(name.clone()),
        None => {
            let peer = Peer::of(&parts.extensions);
            Asker::Address(peer.map_or(std::net::Ipv4Addr::UNSPECIFIED.into(), |peer| peer.addr.ip()))
        }
    }
}

async fn read(body: Body) -> Result<Bytes, Problem> {
    match body.collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => {
            let too_long = std::iter::successors(std::error::Error::source(&error), |error| error.source())
                .any(|error| error.is::<LengthLimitError>());
            Err(if too_long {
                Problem::new(Code::PayloadTooLarge, "the body is longer than max_body_bytes")
            } else {
                Problem::new(Code::MalformedBody, format!("the body did not arrive: {error}"))
            })
        }
    }
}

/// Refuses a header that is there and wrong. The pipeline has used it if it was right.
pub(super) fn check_timeout(headers: &HeaderMap) -> Option<FieldError> {
    let value = headers.get("x-request-timeout-ms")?;
    mainstay_api::request_timeout(value.as_bytes()).err()
}

/// A segment that cannot be decoded.
pub(super) fn undecodable(what: &str) -> FieldError {
    FieldError::outside(mainstay_api::Place::Path, what, "must be percent-encoded UTF-8")
}

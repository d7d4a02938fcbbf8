//! Fencing of HTTP resources: a request names its lock and token, and what comes too late is refused.
//!
//! ```
//! use axum::{Router, routing::put};
//! use mainstay::lock::fence::http::{FenceLayer, Highest};
//!
//! // In the service that owns the resource; the handler may take the `Fence` as an `Extension`.
//! # let router: Router =
//! Router::new().route("/report", put(|| async {})).layer(FenceLayer::new(Highest::new(10_000)))
//! # ;
//! ```
//!
//! The caller adds [`Fence::write_headers`] to its request. A request is judged when it arrives. One that was let in and
//! then takes long to write may still be overtaken: a handler that writes to a database compares there, too
//! ([`sql`](super::sql)).

use std::{
    collections::{BTreeSet, HashMap},
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use mainstay_core::{lease::Token, name::Name};
use tower::{Layer, Service};

use super::{Fence, Stale};
use crate::{
    Result,
    request::{Gate, Gated, Refusal},
};

/// The header with the lock's name.
pub const LOCK: HeaderName = HeaderName::from_static("mainstay-lock");
/// The header with the token of the grant, in decimal.
pub const TOKEN: HeaderName = HeaderName::from_static("mainstay-fencing-token");

impl Fence {
    /// Writes itself into the headers of a request; replaces one that is there.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        // A name is made of letters that a header may have.
        if let Ok(name) = HeaderValue::from_str(self.lock.as_str()) {
            headers.insert(LOCK, name);
        }
        headers.insert(TOKEN, HeaderValue::from(self.token.0));
    }

    /// The fence in the headers of a request; `None` if there is none.
    ///
    /// # Errors
    /// One of the two is missing, there twice, or not what it should be; in words for the caller.
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Fence>, String> {
        let one = |header: &HeaderName| {
            let mut values = headers.get_all(header).iter();
            match (values.next(), values.next()) {
                (Some(_), Some(_)) => Err(format!("{header} is there twice")),
                (value, _) => Ok(value),
            }
        };
        let (lock, token) = match (one(&LOCK)?, one(&TOKEN)?) {
            (None, None) => return Ok(None),
            (Some(lock), Some(token)) => (lock, token),
            _ => return Err(format!("{LOCK} and {TOKEN} come together or not at all")),
        };
        let name = lock.to_str().ok().and_then(|text| Name::new(text).ok());
        let name = name.ok_or_else(|| format!("{LOCK} is no name of a lock"))?;
        let digits = token.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let token = digits.and_then(|text| text.parse().ok()).filter(|token| *token < Token::LIMIT);
        let token = token.ok_or_else(|| format!("{TOKEN} is no token: a whole number below 2^53"))?;
        Ok(Some(Fence::new(name, Token(token))))
    }
}

/// Remembers the highest token of each lock: a seam, so that many processes can share one memory.
#[async_trait]
pub trait Fences: Send + Sync + 'static {
    /// Lets a token in, and remembers it, unless a higher one of the same lock has been let in. The comparison and the
    /// remembering are one step.
    ///
    /// # Errors
    /// The memory's trouble: the request gets 503.
    async fn admit(&self, fence: &Fence) -> Result<Result<(), Stale>>;
}

/// The memory of one process: bounded, and empty at its start.
///
/// When it is full, the lock with the lowest token is forgotten; from then on, a lock that is not known needs a token at
/// least as high. Tokens grow over a whole store (where its `token_order` is `store`), so this refuses nobody who got a
/// lock since; a holder from before, who has never been here, has to take its lock anew. Nothing stale gets in.
#[derive(Debug)]
pub struct Highest {
    state: Mutex<State>,
    max: usize,
}

#[derive(Debug, Default)]
struct State {
    seen: HashMap<Name, Token>,
    lowest: BTreeSet<(Token, Name)>,
    /// The highest token that was forgotten.
    floor: Token,
}

impl Highest {
    /// A memory of up to `max` locks, at least one.
    pub fn new(max: usize) -> Highest {
        Highest { state: Mutex::default(), max: max.max(1) }
    }

    /// Lets a token in, or not; see [`Fences::admit`].
    ///
    /// # Errors
    /// A higher one has been let in.
    pub fn admit(&self, fence: &Fence) -> Result<(), Stale> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, token) = (fence.lock(), fence.token());
        let highest = state.seen.get(name).copied();
        let bar = highest.unwrap_or(state.floor);
        if bar > token {
            return Err(Stale { fence: fence.clone(), highest: bar });
        }
        if let Some(highest) = highest {
            state.lowest.remove(&(highest, name.clone()));
        }
        state.seen.insert(name.clone(), token);
        state.lowest.insert((token, name.clone()));
        if state.seen.len() > self.max
            && let Some((forgotten, name)) = state.lowest.pop_first()
        {
            state.seen.remove(&name);
            state.floor = state.floor.max(forgotten);
        }
        Ok(())
    }
}

#[async_trait]
impl Fences for Highest {
    async fn admit(&self, fence: &Fence) -> Result<Result<(), Stale>> {
        Ok(Highest::admit(self, fence))
    }
}

/// Refuses requests that come too late, as a tower layer.
///
/// A stale token: 412 `stale-token`. No token: 428 `token-required`, unless [`optional`](FenceLayer::optional). Headers
/// that make no sense: 400 `malformed-request`. A memory that cannot be asked: 503 `unavailable`. Else the [`Fence`] is in
/// the request's extensions.
#[derive(Clone)]
#[must_use = "a layer does nothing until it is around something"]
pub struct FenceLayer {
    fences: Arc<dyn Fences>,
    optional: bool,
}

impl FenceLayer {
    /// With this memory of what has been seen.
    pub fn new(fences: impl Fences) -> FenceLayer {
        FenceLayer { fences: Arc::new(fences), optional: false }
    }

    /// Lets requests in that name no lock: for routes that are also read.
    pub fn optional(mut self) -> FenceLayer {
        self.optional = true;
        self
    }

    async fn judge(&self, headers: &HeaderMap) -> Result<Option<Fence>, Refusal> {
        let refuse =
            |status, code, detail: String| Err(Refusal::new(status, code, detail).of_current_request());
        let fence = match Fence::from_headers(headers) {
            Ok(Some(fence)) => fence,
            Ok(None) if self.optional => return Ok(None),
            Ok(None) => {
                let detail = format!("this is written under a lock: send {LOCK} and {TOKEN}");
                return refuse(StatusCode::PRECONDITION_REQUIRED, "token-required", detail);
            }
            Err(detail) => return refuse(StatusCode::BAD_REQUEST, "malformed-request", detail),
        };
        match self.fences.admit(&fence).await {
            Ok(Ok(())) => Ok(Some(fence)),
            Ok(Err(stale)) => {
                tracing::info!(lock = %fence.lock(), token = fence.token().0, highest = stale.highest.0, "stale token refused");
                refuse(StatusCode::PRECONDITION_FAILED, "stale-token", stale.to_string())
            }
            Err(error) => {
                tracing::warn!(error = %error.chain(), "a fencing token could not be judged");
                let detail = "fencing tokens cannot be judged now; try again".to_owned();
                refuse(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
            }
        }
    }
}

impl<S> Layer<S> for FenceLayer {
    type Service = Gated<S, FenceLayer>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated::new(inner, self.clone())
    }
}

impl Gate for FenceLayer {
    async fn answer<S>(self, mut request: Request<Body>, mut inner: S) -> Result<Response, Infallible>
    where
        S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Send + 'static,
    {
        match self.judge(request.headers()).await {
            Ok(Some(fence)) => drop(request.extensions_mut().insert(fence)),
            Ok(None) => {}
            Err(refusal) => return Ok(refusal.into_response()),
        }
        inner.call(request).await
    }
}

impl std::fmt::Debug for FenceLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FenceLayer").field("optional", &self.optional).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use axum::{Extension, Router, routing::put};
    use tower::ServiceExt;

    use super::*;

    fn fence(lock: &str, token: u64) -> Fence {
        Fence::new(Name::new(lock).unwrap(), Token(token))
    }

    async fn status(router: &Router, headers: HeaderMap) -> u16 {
        let mut request = Request::put("/").body(Body::empty()).unwrap();
        *request.headers_mut() = headers;
        router.clone().oneshot(request).await.unwrap().status().as_u16()
    }

    fn headers(fence: &Fence) -> HeaderMap {
        let mut headers = HeaderMap::new();
        fence.write_headers(&mut headers);
        headers
    }

    #[tokio::test]
    async fn a_resource_refuses_the_request_of_an_earlier_holder() {
        async fn handler(Extension(fence): Extension<Fence>) -> String {
            fence.token().0.to_string()
        }
        let router = Router::new().route("/", put(handler)).layer(FenceLayer::new(Highest::new(10)));
        for (token, expected) in [(5, 200), (5, 200), (7, 200), (6, 412), (7, 200)] {
            assert_eq!(status(&router, headers(&fence("l", token))).await, expected, "{token}");
        }
        assert_eq!(status(&router, headers(&fence("m", 1))).await, 200, "each lock has its own");
        assert_eq!(status(&router, HeaderMap::new()).await, 428);
        let mut half = headers(&fence("l", 9));
        half.remove(LOCK);
        assert_eq!(status(&router, half).await, 400);
        let mut wrong = headers(&fence("l", 9));
        for bad in ["", "-1", "+9", "9007199254740992", "x"] {
            wrong.insert(TOKEN, HeaderValue::from_static(bad));
            assert_eq!(status(&router, wrong.clone()).await, 400, "{bad}");
        }
        let mut twice = headers(&fence("l", 9));
        twice.append(TOKEN, HeaderValue::from_static("10"));
        assert_eq!(status(&router, twice).await, 400);
    }

    #[tokio::test]
    async fn who_names_no_lock_may_be_let_in() {
        let layer = FenceLayer::new(Highest::new(10)).optional();
        let router = Router::new().route("/", put(|| async {})).layer(layer);
        assert_eq!(status(&router, HeaderMap::new()).await, 200);
        assert_eq!(status(&router, headers(&fence("l", 2))).await, 200);
        assert_eq!(status(&router, headers(&fence("l", 1))).await, 412);
    }

    #[test]
    fn a_full_memory_lets_nothing_stale_in() {
        let highest = Highest::new(2);
        for (lock, token) in [("a", 10), ("b", 20), ("c", 30)] {
            highest.admit(&fence(lock, token)).unwrap();
        }
        // "a" was forgotten with token 10.
        assert_eq!(highest.admit(&fence("a", 9)).unwrap_err().highest, Token(10));
        highest.admit(&fence("a", 10)).unwrap();
        assert_eq!(highest.admit(&fence("b", 19)).unwrap_err().highest, Token(10 + 10));
        assert_eq!(highest.state.lock().unwrap().seen.len(), 2);
    }
}

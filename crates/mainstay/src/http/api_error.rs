//! The error of an HTTP handler: any error becomes an answer that says no more than the caller should know.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use mainstay_core::{ErrorKind as StoreErrorKind, op::Reason};
use serde_json::json;

use crate::StoreError;
use crate::policy::{Expired, Later, Unanswered};

/// What a handler answers when it cannot do its work. Made by `?` from any error: a store's answer keeps its
/// meaning (a full queue is 429, one that is down 503), everything else is a 500 whose cause is in the log only.
///
/// It does not implement [`std::error::Error`], because it is made from every one that does.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    detail: String,
    /// What it is, for programs.
    code: Option<&'static str>,
    /// Whether nothing was done, where that is known.
    not_applied: bool,
    retry_after: Option<u32>,
    /// Whoever called should not try again at once: we have, or we shed load.
    no_retry: bool,
    /// For the log.
    cause: Option<String>,
}

impl ApiError {
    /// An answer with this status, and words for the caller.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> ApiError {
        ApiError {
            status,
            detail: detail.into(),
            code: None,
            not_applied: false,
            retry_after: None,
            no_retry: false,
            cause: None,
        }
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for ApiError {
    fn from(error: E) -> ApiError {
        let later = of_policy(&error);
        let cause = crate::Error::from_any(Box::new(error) as Box<dyn std::error::Error + Send + Sync>);
        let known = find_store_error(&cause).map(of_store).or(later);
        let unknown =
            || ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "something went wrong here; it is logged");
        ApiError { cause: Some(cause.chain()), ..known.unwrap_or_else(unknown) }
    }
}

/// Something that we call asks to be left alone, or a policy has given up on it, or it did not answer in time, or there was no time to ask it.
fn of_policy(error: &(dyn std::error::Error + 'static)) -> Option<ApiError> {
    if error.source().is_some_and(|cause| cause.is::<Expired>()) {
        let detail = "the time was over before something that this needs was asked";
        return Some(ApiError {
            code: Some("deadline-exceeded"),
            not_applied: true,
            ..ApiError::new(StatusCode::GATEWAY_TIMEOUT, detail)
        });
    }
    if error.source().is_some_and(|cause| cause.is::<Unanswered>()) {
        let detail = "something that this needs did not answer in time";
        return Some(ApiError::new(StatusCode::GATEWAY_TIMEOUT, detail));
    }
    let later: &Later = error.downcast_ref().or_else(|| error.source()?.downcast_ref())?;
    let seconds = later.after.as_millis().div_ceil(1_000);
    Some(ApiError {
        code: Some("overloaded"),
        retry_after: Some(u32::try_from(seconds).unwrap_or(u32::MAX)),
        no_retry: true,
        ..ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "something that this needs cannot take more now; try again",
        )
    })
}

fn find_store_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a StoreError> {
    error.downcast_ref().or_else(|| find_store_error(error.source()?))
}

fn of_store(error: &StoreError) -> ApiError {
    let unavailable = |retry_after| ApiError {
        retry_after: Some(retry_after),
        ..ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the store cannot take this now; try again")
    };
    match (error.reason(), error.failure().map(mainstay_core::Error::kind)) {
        (Some(Reason::QueueFull { retry_ms, .. } | Reason::QueueBehind { retry_ms, .. }), _) => ApiError {
            retry_after: Some(u32::try_from(retry_ms.div_ceil(1_000)).unwrap_or(u32::MAX)),
            ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too much is waiting already; try again later")
        },
        (Some(Reason::NotFound(_)), _) => ApiError::new(StatusCode::NOT_FOUND, error.to_string()),
        (Some(Reason::Invalid { .. } | Reason::After(_)), _) => {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
        }
        (Some(_), _) => ApiError::new(StatusCode::CONFLICT, error.to_string()),
        (None, Some(StoreErrorKind::Overloaded)) => ApiError { code: Some("overloaded"), ..unavailable(1) },
        (None, Some(StoreErrorKind::DeadlineExceeded)) => {
            ApiError::new(StatusCode::GATEWAY_TIMEOUT, "the store did not answer in time")
        }
        (None, _) => unavailable(5),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Some(cause) = &self.cause {
            if self.status.is_server_error() {
                tracing::error!(status = self.status.as_u16(), error = %cause, "request failed");
            } else {
                tracing::info!(status = self.status.as_u16(), error = %cause, "request refused");
            }
        }
        let title = self.status.canonical_reason().unwrap_or("Error");
        let mut body = json!({ "title": title, "status": self.status.as_u16(), "detail": self.detail });
        if let Some(code) = self.code {
            body["code"] = code.into();
        }
        if self.not_applied {
            body["outcome"] = "not-applied".into();
        }
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.no_retry {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

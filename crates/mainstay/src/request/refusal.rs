//! What the pipeline says when it does not let a request through, as RFC 9457.

use axum::Extension;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::json;

use crate::context::Context;

/// A request that is not answered by its handler.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Refusal {
    /// The status of the response.
    pub status: StatusCode,
    /// What it is, for programs.
    pub code: &'static str,
    /// What it is, for people.
    pub detail: String,
    /// Whether the request may have had an effect.
    pub may_have_applied: bool,
    /// The request's id.
    pub request_id: Option<String>,
    /// What is wrong with which field, as JSON pointers.
    pub fields: Vec<(String, String)>,
    /// The request's path.
    pub path: Option<String>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            status,
            code,
            detail,
            may_have_applied: false,
            request_id: None,
            fields: Vec::new(),
            path: None,
        }
    }

    pub(crate) fn payload_too_large(limit: usize) -> Self {
        let detail = format!("the body is longer than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large", detail)
    }

    pub(crate) fn request_id(mut self, id: &str) -> Self {
        self.request_id = Some(id.to_owned());
        self
    }

    pub(crate) fn path(mut self, path: &str) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// With the id of the request that is being handled.
    pub(crate) fn of_current_request(self) -> Self {
        match Context::current().request_id() {
            Some(id) => self.request_id(id.as_str()),
            None => self,
        }
    }

    pub(crate) fn unknown_outcome(mut self) -> Self {
        self.may_have_applied = true;
        self
    }

    pub(crate) fn field(mut self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        self.fields.push((pointer.into(), detail.into()));
        self
    }

    pub(crate) fn has_fields(&self) -> bool {
        !self.fields.is_empty()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let fields =
            self.fields.iter().map(|(pointer, detail)| json!({ "pointer": pointer, "detail": detail }));
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "instance": self.path,
            "code": self.code,
            "request_id": self.request_id,
            "retryable": matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS),
            "outcome": if self.may_have_applied { "unknown" } else { "not-applied" },
            "errors": fields.collect::<Vec<_>>(),
        });
        let head = [(header::CONTENT_TYPE, "application/problem+json")];
        // Itself too: a layer further out may have better words for it.
        (self.status, head, Extension(self), body.to_string()).into_response()
    }
}

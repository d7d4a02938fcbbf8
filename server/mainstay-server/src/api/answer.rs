//! Good answers.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use super::call::Answer;
use super::error;

/// A JSON body.
pub(crate) fn json<T: Serialize + ?Sized>(status: StatusCode, body: &T) -> Answer {
    match serde_json::to_vec(body) {
        Ok(body) => Ok(raw(status, body)),
        Err(error) => Err(error::internal(&format!("an answer cannot be written: {error}"))),
    }
}

/// A body that is JSON already.
pub(crate) fn raw(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// No body at all: 204.
pub(crate) fn empty() -> Answer {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

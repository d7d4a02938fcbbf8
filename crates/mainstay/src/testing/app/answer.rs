//! What the service answered.

use bytes::Bytes;
use http::{HeaderMap, Response};
use serde::de::DeserializeOwned;

/// An answer, whole.
#[derive(Debug)]
pub struct Answer(Response<Bytes>);

impl Answer {
    pub(super) fn new(response: Response<Bytes>) -> Self {
        Self(response)
    }

    /// Its status: 200.
    pub fn status(&self) -> u16 {
        self.0.status().as_u16()
    }

    /// All its headers.
    pub fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }

    /// The text of a header; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.0.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Its body.
    pub fn bytes(&self) -> &Bytes {
        self.0.body()
    }

    /// Its body as text.
    ///
    /// # Panics
    /// If it is none.
    pub fn text(&self) -> &str {
        std::str::from_utf8(self.0.body()).unwrap_or_else(|error| panic!("the body is no text: {error}"))
    }

    /// Its body, read as JSON.
    ///
    /// # Panics
    /// If it is not the JSON of a `T`.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        let read = serde_json::from_slice(self.0.body());
        read.unwrap_or_else(|error| panic!("the body is not what was expected: {error}: {}", self.shown()))
    }

    /// Fails unless the status is this one; answers itself.
    ///
    /// # Panics
    /// With the body, which says why.
    #[track_caller]
    pub fn assert_status(&self, expected: u16) -> &Self {
        assert!(self.status() == expected, "{} instead of {expected}: {}", self.0.status(), self.shown());
        self
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(self.0.body()).into_owned()
    }
}

use super::Path;
use crate::{Code, FieldError, Limits, Problem};

/// Errors listed in one answer; the rest is only counted. A hostile body must not become a larger answer.
pub const MAX_ERRORS: usize = 10_000;
/// Text of all errors of one answer, in bytes, for the same reason.
const MAX_TEXT: usize = 1 << 20;

/// Something a request asks for that not every store (or version) does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// The field that asks for it.
    pub pointer: String,
    /// The feature: `after`, `concurrency_key`, `publish`, …
    pub feature: &'static str,
}

/// What reading a body needs and collects.
#[derive(Debug)]
pub struct Cx<'l> {
    /// The bounds to keep.
    pub limits: &'l Limits,
    errors: Vec<FieldError>,
    text: usize,
    more: usize,
    from_scan: usize,
    unsupported: Vec<Unsupported>,
}

impl<'l> Cx<'l> {
    /// Nothing read, nothing wrong.
    pub fn new(limits: &'l Limits) -> Self {
        Self { limits, errors: Vec::new(), text: 0, more: 0, from_scan: 0, unsupported: Vec::new() }
    }

    /// Reports a wrong field.
    pub fn error(&mut self, at: &Path<'_>, detail: impl Into<String>) {
        self.push(at, detail.into(), None);
    }

    /// Reports a field that is too large.
    pub fn too_large(&mut self, at: &Path<'_>, max: usize) {
        self.push(at, format!("must be at most {max} bytes"), Some(Code::PayloadTooLarge));
    }

    /// Reports two fields that say one thing in two ways.
    pub fn conflict(&mut self, at: &Path<'_>, one: &'static str, other: &'static str) {
        self.error(&at.key(one), format!("says the same thing as {other}: give one of the two"));
        self.error(&at.key(other), format!("says the same thing as {one}: give one of the two"));
    }

    /// Notes that the request asks for an optional feature.
    pub fn needs(&mut self, at: &Path<'_>, feature: &'static str) {
        if self.unsupported.len() < MAX_ERRORS {
            self.unsupported.push(Unsupported { pointer: at.pointer(), feature });
        }
    }

    /// Whether nothing was wrong so far.
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    /// Whether further errors are only counted.
    pub(super) fn is_full(&self) -> bool {
        self.errors.len() >= MAX_ERRORS || self.text >= MAX_TEXT
    }

    pub(super) fn scanned(&mut self) {
        self.from_scan = self.errors.len();
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// The refusal of the request, when anything was wrong or nothing was read.
    pub fn finish<T>(self, read: Option<T>) -> Result<super::Parsed<T>, Problem> {
        match read {
            Some(value) if self.errors.is_empty() => {
                Ok(super::Parsed { value, unsupported: self.unsupported })
            }
            _ => Err(self.refusal()),
        }
    }

    fn refusal(self) -> Problem {
        Problem::invalid(self.errors).and_unlisted(self.more)
    }

    fn push(&mut self, at: &Path<'_>, detail: String, code: Option<Code>) {
        if self.is_full() {
            self.more += 1;
            return;
        }
        let mut error = FieldError::new(at.pointer(), detail);
        error.code = code;
        // What the scan called wrong need not be called wrong again; few are compared, so that many stay cheap.
        if self.errors[..self.from_scan.min(16)].iter().any(|known| known.pointer == error.pointer) {
            return;
        }
        self.text += error.pointer.len() + error.detail.len();
        self.errors.push(error);
    }
}

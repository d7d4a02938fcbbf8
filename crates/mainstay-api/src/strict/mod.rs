//! The strict reader of request bodies.
//!
//! A body is walked once as a whole (`scan`): what is not JSON is `malformed-body`; JSON that two readers could
//! understand differently (duplicate keys, lone surrogates, numbers beyond a double, nesting beyond
//! [`MAX_DEPTH`]) is a wrong field with its pointer. Then the type picks its fields out of the text ([`Fields`]) and
//! goes on after every mistake, so that the caller learns of all of them at once. Free-form values stay text.
//!
//! Nothing here recurses deeper than [`MAX_DEPTH`], and memory is bounded by the body and [`MAX_ERRORS`].

mod fields;
mod path;
mod report;
mod scan;
mod value;

pub use fields::{Fields, boolean, decimal, int, matching, one_of, raw, text, timestamp};
pub(crate) use fields::{alternatives, unknown};
pub use path::{Path, push_token};
pub use report::{Cx, MAX_ERRORS, Unsupported};
pub use scan::MAX_DEPTH;
pub use value::{Kind, Value};

use crate::{Code, FieldError, Limits, Problem};

/// A type that reads itself out of a request body.
pub trait Strict: Sized {
    /// Reads the value at `at`; reports everything that is wrong to `cx`, and then answers `None`.
    fn read(cx: &mut Cx<'_>, at: &Path<'_>, value: Value<'_>) -> Option<Self>;
}

/// A request that is right in itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed<T> {
    /// The request.
    pub value: T,
    /// What it asks for that not every store (or version) does.
    pub unsupported: Vec<Unsupported>,
}

impl<T> Parsed<T> {
    /// The request, if it asks for nothing optional.
    ///
    /// # Errors
    /// `not-supported`, naming every field that asked for it.
    pub fn supported(self) -> Result<T, Problem> {
        self.supported_by(|_| false)
    }

    /// The request, if all that it asks for is supported.
    ///
    /// # Errors
    /// `not-supported`, naming every field that asked for something else.
    pub fn supported_by(self, supported: impl Fn(&str) -> bool) -> Result<T, Problem> {
        let errors: Vec<_> = self
            .unsupported
            .into_iter()
            .filter(|one| !supported(one.feature))
            .map(|one| {
                FieldError::new(one.pointer, format!("{} is not supported here", one.feature))
                    .with_code(Code::NotSupported)
            })
            .collect();
        match errors.first() {
            None => Ok(self.value),
            Some(first) => {
                let detail = first.detail.clone();
                Err(Problem::new(Code::NotSupported, detail).with_errors(errors))
            }
        }
    }
}

/// Reads a whole body. An empty one counts as `{}`.
///
/// # Errors
/// `malformed-body` when it is not JSON, else `validation-failed` with every wrong field (or
/// `payload-too-large`, when size is all that is wrong).
pub fn parse<T: Strict>(body: &[u8], limits: &Limits) -> Result<Parsed<T>, Problem> {
    let text = if body.trim_ascii().is_empty() { "{}" } else { utf8(body)? };
    let mut cx = Cx::new(limits);
    let value = scan::document(&mut cx, &Path::Root, text)?;
    let read = T::read(&mut cx, &Path::Root, value);
    cx.finish(read)
}

/// Reads a body of one JSON value a line; blank lines are skipped. Line `n` counts as element `n` of the array `list`.
///
/// # Errors
/// As [`parse`]; a line that is not JSON is named in `errors`.
pub fn parse_lines<T: Strict>(
    body: &[u8],
    list: &str,
    max: usize,
    limits: &Limits,
) -> Result<Parsed<Vec<T>>, Problem> {
    let text = utf8(body)?;
    let lines = || text.split('\n').map(str::trim_ascii).filter(|line| !line.is_empty());
    let mut cx = Cx::new(limits);
    let at = Path::Root;
    let at = at.key(list);
    let count = lines().count();
    if count == 0 || count > max {
        cx.error(&at, fields::count_rule(1, max));
        return cx.finish(None);
    }
    let mut read = Vec::with_capacity(count);
    for (index, line) in lines().enumerate() {
        let at = at.index(index);
        let value = scan::document(&mut cx, &at, line)?;
        read.extend(T::read(&mut cx, &at, value));
    }
    cx.finish(Some(read))
}

fn utf8(body: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(body).map_err(|error| {
        Problem::new(Code::MalformedBody, format!("the body is not UTF-8 at byte {}", error.valid_up_to()))
    })
}

#[cfg(test)]
mod tests;

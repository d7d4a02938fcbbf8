//! Values outside the body and the query: path segments and headers.

use crate::names::{NAME_RULE, is_name};
use crate::{FieldError, JobId, Place};

/// The longest `Idempotency-Key`, in bytes.
const MAX_KEY: usize = 255;

/// Checks a name that stands in the path; `what` is the segment's name in the contract (`queue`, `name`, …).
///
/// # Errors
/// The wrong field, as `/what` in `path`.
pub fn path_name<'n>(what: &str, value: &'n str) -> Result<&'n str, FieldError> {
    if is_name(value) { Ok(value) } else { Err(FieldError::outside(Place::Path, what, NAME_RULE)) }
}

/// Reads a job's id that stands in the path.
///
/// # Errors
/// The wrong field, as `/id` in `path`.
pub fn path_job_id(value: &str) -> Result<JobId, FieldError> {
    value
        .parse()
        .map_err(|error: crate::JobIdError| FieldError::outside(Place::Path, "id", error.to_string()))
}

/// Reads an `Idempotency-Key`: 1 to 255 visible ASCII characters, with or without the quotes of a structured field.
///
/// # Errors
/// The wrong field, as `/idempotency-key` in `header`.
pub fn idempotency_key(value: &[u8]) -> Result<&str, FieldError> {
    let wrong = || {
        FieldError::outside(
            Place::Header,
            "idempotency-key",
            format!("must have 1 to {MAX_KEY} visible ASCII characters"),
        )
    };
    let text = std::str::from_utf8(value.trim_ascii()).map_err(|_| wrong())?;
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let visible = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if visible && (1..=MAX_KEY).contains(&text.len()) { Ok(text) } else { Err(wrong()) }
}

/// Reads an `x-request-timeout-ms`: how long the caller will wait, in milliseconds.
///
/// # Errors
/// The wrong field, as `/x-request-timeout-ms` in `header`.
pub fn request_timeout(value: &[u8]) -> Result<u64, FieldError> {
    let digits = value.trim_ascii();
    std::str::from_utf8(digits)
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| {
            FieldError::outside(
                Place::Header,
                "x-request-timeout-ms",
                "must be a whole number of milliseconds",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_bare_and_quoted() {
        assert_eq!(idempotency_key(b" abc-1 ").unwrap(), "abc-1");
        assert_eq!(idempotency_key(b"\"abc-1\"").unwrap(), "abc-1");
        for wrong in [&b""[..], b"\"\"", b"a\x01", b"\xff", &[b'a'; 256]] {
            let error = idempotency_key(wrong).unwrap_err();
            assert_eq!((error.pointer.as_str(), error.place), ("/idempotency-key", Some(Place::Header)));
        }
    }

    #[test]
    fn path_errors_name_the_segment() {
        assert_eq!(path_name("queue", "a b").unwrap_err().pointer, "/queue");
        assert_eq!(path_job_id("1").unwrap_err().place, Some(Place::Path));
    }

    #[test]
    fn only_whole_numbers_are_a_timeout() {
        assert_eq!(request_timeout(b"1500").unwrap(), 1500);
        for wrong in [&b""[..], b"-1", b"+1", b"1.5", b"1s"] {
            assert!(request_timeout(wrong).is_err());
        }
    }
}

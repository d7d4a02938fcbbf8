//! Time spans of a command line: `500ms`, `30s`, `5m`, `2h`.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::cli::Failure;

const RULE: &str = "must be a number with ms, s, m or h, such as 30s";

/// A time span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(pub Duration);

impl Span {
    /// # Errors
    /// It is out of the range.
    pub fn within(self, range: RangeInclusive<Duration>, flag: &str) -> Result<Duration, Failure> {
        if range.contains(&self.0) {
            Ok(self.0)
        } else {
            Err(Failure::usage(format!("{flag} must be from {:?} to {:?}", range.start(), range.end())))
        }
    }
}

impl FromStr for Span {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Span, &'static str> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(RULE),
        };
        let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
        // More than a year is a slip.
        ms.filter(|ms| *ms <= 366 * 86_400_000).map(|ms| Span(Duration::from_millis(ms))).ok_or(RULE)
    }
}

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait(Option<Span>);

impl Wait {
    /// `None`: for as long as it takes.
    pub fn limit(self) -> Option<Duration> {
        self.0.map(|span| span.0)
    }
}

impl FromStr for Wait {
    type Err = String;
    fn from_str(text: &str) -> Result<Wait, String> {
        match text {
            "forever" => Ok(Wait(None)),
            text => text.parse().map(|span| Wait(Some(span))).map_err(|rule| {
                format!("{rule}; to wait for as long as it takes, put --wait behind the lock's name")
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_a_unit() {
        for (text, ms) in [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("0s", 0)] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(ms))), "{text}");
        }
        for bad in
            ["", "30", "s", "-1s", "1.5s", "1d", "99999999999999999999s", "9000h30m", "18446744073709551615h"]
        {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
        assert_eq!("forever".parse::<Wait>().unwrap().limit(), None);
        assert!("report".parse::<Wait>().unwrap_err().contains("behind the lock's name"));
    }
}

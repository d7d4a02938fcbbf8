//! Instants: milliseconds since 1970 inside, RFC 3339 on the wire.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A moment in milliseconds since 1970-01-01T00:00:00Z.
///
/// Written as RFC 3339 in UTC with milliseconds; read with any offset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// 0000-01-01T00:00:00.000Z, the first moment RFC 3339 can say.
const MIN_MS: i64 = -62_167_219_200_000;
/// 9999-12-31T23:59:59.999Z, the last.
const MAX_MS: i64 = 253_402_300_799_999;
const DAY_MS: i64 = 86_400_000;

/// `2026-11-22T10:00:00.000Z`. Moments outside the years 0 to 9999 are written as the nearest one inside.
pub fn format_rfc3339(ms: i64) -> String {
    let mut buffer = [0; 24];
    write_rfc3339(ms, &mut buffer).to_owned()
}

/// As [`format_rfc3339`], into the caller's buffer.
pub fn write_rfc3339(ms: i64, buffer: &mut [u8; 24]) -> &str {
    let ms = ms.clamp(MIN_MS, MAX_MS);
    let (year, month, day) = civil_from_days(ms.div_euclid(DAY_MS));
    let in_day = ms.rem_euclid(DAY_MS);
    buffer.copy_from_slice(b"0000-00-00T00:00:00.000Z");
    digits(&mut buffer[0..4], year);
    digits(&mut buffer[5..7], month);
    digits(&mut buffer[8..10], day);
    digits(&mut buffer[11..13], in_day / 3_600_000);
    digits(&mut buffer[14..16], in_day / 60_000 % 60);
    digits(&mut buffer[17..19], in_day / 1_000 % 60);
    digits(&mut buffer[20..23], in_day % 1_000);
    std::str::from_utf8(buffer).unwrap_or_default()
}

/// Reads an RFC 3339 instant; the offset is required. Digits beyond milliseconds are cut off.
///
/// # Errors
/// Says what is wrong, in words that follow the field's name.
pub fn parse_rfc3339(text: &str) -> Result<i64, TimestampError> {
    const SHAPE: TimestampError = TimestampError("must be an RFC 3339 instant such as 2026-11-22T10:00:00Z");
    const NO_OFFSET: TimestampError =
        TimestampError("must be an RFC 3339 instant with an offset: end it in Z or +01:00");
    const NO_SUCH: TimestampError = TimestampError("is not a moment of the calendar");

    let bytes = text.as_bytes();
    if bytes.len() < 19 || bytes[4] != b'-' || bytes[7] != b'-' || bytes[13] != b':' || bytes[16] != b':' {
        return Err(SHAPE);
    }
    if !matches!(bytes[10], b'T' | b't' | b' ') {
        return Err(SHAPE);
    }
    let number = |from: usize, to: usize| number(&bytes[from..to]).ok_or(SHAPE);
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);

    let mut rest = &bytes[19..];
    let mut millis = 0;
    if let [b'.', fraction @ ..] = rest {
        let count = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count == 0 {
            return Err(SHAPE);
        }
        for place in 0..3 {
            millis = millis * 10 + fraction[..count].get(place).map_or(0, |digit| i64::from(digit - b'0'));
        }
        rest = &fraction[count..];
    }
    let offset_minutes = match rest {
        [] => return Err(NO_OFFSET),
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let hours = self::number(&[*h1, *h2]).ok_or(SHAPE)?;
            let minutes = self::number(&[*m1, *m2]).ok_or(SHAPE)?;
            if hours > 23 || minutes > 59 {
                return Err(NO_SUCH);
            }
            let total = hours * 60 + minutes;
            if *sign == b'-' { -total } else { total }
        }
        _ => return Err(SHAPE),
    };

    // 60 is a leap second: it has no number of its own, so it is read as the end of the minute.
    if !(1..=12).contains(&month)
        || day < 1
        || day > days_in_month(year, month)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return Err(NO_SUCH);
    }
    let in_day = (hour * 3_600 + minute * 60 + second.min(59)) * 1_000 + millis;
    let ms = days_from_civil(year, month, day) * DAY_MS + in_day - offset_minutes * 60_000;
    if (MIN_MS..=MAX_MS).contains(&ms) { Ok(ms) } else { Err(NO_SUCH) }
}

/// Why a text is not an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampError(&'static str);

impl fmt::Display for TimestampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for TimestampError {}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(write_rfc3339(self.0, &mut [0; 24]))
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_rfc3339(text).map(Self)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(write_rfc3339(self.0, &mut [0; 24]))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

fn number(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

fn digits(place: &mut [u8], mut value: i64) {
    for digit in place.iter_mut().rev() {
        // `value % 10` of a non-negative number fits a digit.
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar; years begin in March so that the leap day is last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn any_offset_is_read_and_utc_is_written() {
        for (text, written) in [
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
            ("2026-11-22T11:00:00+01:00", "2026-11-22T10:00:00.000Z"),
            ("2026-11-22t04:30:00.1239-05:30", "2026-11-22T10:00:00.123Z"),
            ("2024-02-29 23:59:60z", "2024-02-29T23:59:59.000Z"),
            ("2000-03-01T00:00:00.5-00:00", "2000-03-01T00:00:00.500Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000Z"),
            ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
            ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(format_rfc3339(parse_rfc3339(text).expect(text)), written, "{text}");
        }
    }

    #[test]
    fn what_is_not_an_instant_is_refused() {
        for text in [
            "",
            "now",
            "2026-11-22",
            "2026-11-22T10:00:00",
            "2026-11-22T10:00:00.Z",
            "2026-11-22T10:00Z",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-00-10T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T10:60:00Z",
            "2026-11-22T10:00:61Z",
            "2026-11-22T10:00:00+24:00",
            "2026-11-22T10:00:00+01:60",
            "2026-11-22T10:00:00+0100",
            "2026-11-22T10:00:00Z ",
            "-026-11-22T10:00:00Z",
            "+2026-11-22T10:00:00Z",
            "0000-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "2026-11-22T10:00:00,5Z",
            "２０２６-11-22T10:00:00Z",
            "2026-11-22T10:00:00€",
        ] {
            assert!(parse_rfc3339(text).is_err(), "{text:?} was read");
        }
    }

    proptest! {
        #[test]
        fn instants_come_back(ms in MIN_MS..=MAX_MS) {
            prop_assert_eq!(parse_rfc3339(&format_rfc3339(ms)), Ok(ms));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,30}") {
            let _ = parse_rfc3339(&text);
        }
    }
}

//! Short words for people.

use mainstay::SystemClock;
use mainstay::core::clock::Clock;
use mainstay_api::Timestamp;

/// The wall clock, for ages.
pub(crate) fn now() -> Timestamp {
    Timestamp(SystemClock.now().wall.0)
}

/// `3m ago`, `in 20s`.
pub(crate) fn when(at: Timestamp, now: Timestamp) -> String {
    let ms = at.0.saturating_sub(now.0);
    if ms > 0 {
        format!("in {}", span(ms.unsigned_abs()))
    } else {
        format!("{} ago", span(ms.unsigned_abs()))
    }
}

/// `840ms`, `12s`, `3m`, `2h5m`, `6d`: two units at most.
pub(crate) fn span(ms: u64) -> String {
    let seconds = ms / 1_000;
    let two = |big: u64, unit: &str, small: u64, below: &str| match small {
        0 => format!("{big}{unit}"),
        small => format!("{big}{unit}{small}{below}"),
    };
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{seconds}s"),
        60..3_600 => two(seconds / 60, "m", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "m"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// A time span that somebody chose, with nothing left out: `1.5s`, `2m`, `1h1s`.
pub(crate) fn exact(ms: u64) -> String {
    if ms < 1_000 {
        return format!("{ms}ms");
    }
    let whole = [(86_400, u64::MAX, "d"), (3_600, 24, "h"), (60, 60, "m")].map(|(size, of, unit)| {
        let number = ms / 1_000 / size % of;
        if number == 0 { String::new() } else { format!("{number}{unit}") }
    });
    let seconds = match (ms / 1_000 % 60, ms % 1_000) {
        (0, 0) => String::new(),
        (seconds, 0) => format!("{seconds}s"),
        (seconds, part) => format!("{seconds}.{}s", format!("{part:03}").trim_end_matches('0')),
    };
    whole.concat() + &seconds
}

/// Text that cannot steer a terminal: everything that is not for reading becomes visible. Ends of lines stay.
pub(crate) fn clean(text: &str) -> String {
    let visible = |c: char| match c {
        '\n' | '\t' => c,
        // Also those that reorder what stands around them.
        c if c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
        {
            '\u{fffd}'
        }
        c => c,
    };
    text.chars().map(visible).collect()
}

/// `1 job`, `2 jobs`.
pub(crate) fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// The first line, at most `max` characters of it.
pub(crate) fn brief(text: &str, max: usize) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    if line.chars().count() <= max {
        return line.to_owned();
    }
    line.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (59_999, "59s"),
            (61_000, "1m1s"),
            (7_200_000, "2h"),
            (7_500_000, "2h5m"),
            (90_000_000, "1d1h"),
        ] {
            assert_eq!(span(ms), text);
        }
    }

    #[test]
    fn what_somebody_chose_is_told_whole() {
        for (ms, text) in [
            (7, "7ms"),
            (1_500, "1.5s"),
            (2_000, "2s"),
            (61_020, "1m1.02s"),
            (3_600_000, "1h"),
            (90_061_001, "1d1h1m1.001s"),
        ] {
            assert_eq!(exact(ms), text);
        }
    }

    #[test]
    fn instants_lie_before_or_after() {
        assert_eq!(when(Timestamp(0), Timestamp(20_000)), "20s ago");
        assert_eq!(when(Timestamp(20_500), Timestamp(0)), "in 20s");
    }

    #[test]
    fn long_text_is_cut_to_its_first_line() {
        assert_eq!(brief("  ab\ncd", 10), "ab");
        assert_eq!(brief("abcdef", 4), "abc…");
        assert_eq!(brief("", 4), "");
    }
}

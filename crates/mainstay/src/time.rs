//! Short names for durations, and the two clock reads the chassis owns.

use std::time::Duration;

/// `n` seconds.
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// `n` milliseconds.
pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The wall clock, for stamping log lines; nothing decides anything by it.
pub(crate) fn wall() -> Duration {
    if let Some(now) = crate::clock::virtual_wall() {
        return now;
    }
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

/// Milliseconds of a monotonic clock that both runtimes and plain threads share.
pub(crate) fn monotonic_ms() -> u64 {
    match crate::clock::virtual_monotonic_ms() {
        Some(now) => now,
        None => monotonic_us() / 1000 + 1,
    }
}

/// Whether time is virtual on this thread.
pub(crate) fn is_virtual() -> bool {
    crate::clock::virtual_monotonic_ms().is_some()
}

/// Microseconds of the machine's monotonic clock, never virtual: for measuring what really passes.
pub(crate) fn monotonic_us() -> u64 {
    use std::sync::LazyLock;
    use std::time::Instant;
    #[expect(clippy::disallowed_methods, reason = "the one monotonic clock read of the chassis")]
    fn now() -> Instant {
        Instant::now()
    }
    static START: LazyLock<Instant> = LazyLock::new(now);
    let start = *START;
    // Begins at 1, so that 0 can mean "never".
    now().saturating_duration_since(start).as_micros() as u64 + 1
}

/// `1.2 s`, `340 ms`: durations as people read them in a report.
pub(crate) fn human(d: Duration) -> String {
    if d < secs(1) { format!("{} ms", d.as_millis()) } else { format!("{:.1} s", d.as_secs_f64()) }
}

/// RFC 3339 in UTC with milliseconds, of a time since 1970.
pub(crate) fn rfc3339(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (h, m, s) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:03}Z", since_epoch.subsec_millis())
}

/// Days since 1970-01-01 to a date. Years begin in March, so that the leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970: u64 = 719_468; // from 0000-03-01
    let z = days + DAYS_TO_1970;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_in_utc_with_milliseconds() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_799, "2000-02-29T23:59:59.000Z"),
            (1_795_392_000, "2026-11-23T00:00:00.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(secs(seconds)), text);
        }
        assert_eq!(rfc3339(millis(1007)), "1970-01-01T00:00:01.007Z");
    }
}

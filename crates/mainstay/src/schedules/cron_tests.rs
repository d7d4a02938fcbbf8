//! What the calendar does, in time zones that do unusual things.

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().expect("RFC 3339").as_millisecond())
}

/// The first ticks after a moment, as people in the time zone see them.
fn ticks(expression: &str, timezone: &str, after: &str, many: usize) -> Vec<String> {
    let cron = Cron::new(expression, timezone).expect("an expression");
    let mut last = at(after);
    let next = || {
        last = cron.after(last)?;
        let zoned = cron.zoned(last)?;
        Some(zoned.strftime("%m-%d %H:%M:%S %:z").to_string())
    };
    std::iter::from_fn(next).take(many).collect()
}

fn mistakes(expression: &str, timezone: &str) -> Vec<(&'static str, String)> {
    let mistakes = Cron::new(expression, timezone).err().unwrap_or_default();
    mistakes.into_iter().map(|mistake| (mistake.field, mistake.detail)).collect()
}

#[test]
fn seconds_come_first_where_there_are_six_fields() {
    assert_eq!(
        ticks("*/20 * * * * *", "UTC", "2026-11-26T10:00:00.500Z", 3),
        ["11-26 10:00:20 +00:00", "11-26 10:00:40 +00:00", "11-26 10:01:00 +00:00"]
    );
    assert_eq!(ticks("5 4 * * *", "UTC", "2026-11-26T04:05:00Z", 1), ["11-27 04:05:00 +00:00"]);
    assert_eq!(ticks("@daily", "UTC", "2026-11-26T04:05:00Z", 1), ["11-27 00:00:00 +00:00"]);
    // A tick is later than the moment it is asked for, to the millisecond.
    assert_eq!(ticks("0 0 * * *", "UTC", "2026-11-25T23:59:59.999Z", 1), ["11-26 00:00:00 +00:00"]);
}

#[test]
fn a_daily_job_runs_once_on_the_day_the_clock_is_put_forward() {
    // Berlin: 02:00 to 03:00 does not exist on 29 March 2026.
    assert_eq!(
        ticks("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3),
        ["03-28 02:30:00 +01:00", "03-29 03:00:00 +02:00", "03-30 02:30:00 +02:00"]
    );
    // New York, 8 March 2026.
    assert_eq!(
        ticks("30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", 2),
        ["03-08 03:00:00 -04:00", "03-09 02:30:00 -04:00"]
    );
    // Lord Howe moves by half an hour, at two in the morning of 4 October 2026.
    assert_eq!(
        ticks("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", 2),
        ["10-04 02:30:00 +11:00", "10-05 02:15:00 +11:00"]
    );
}

#[test]
fn a_daily_job_runs_once_on_the_day_the_clock_is_put_back() {
    // Berlin: 02:00 to 03:00 happens twice on 25 October 2026.
    assert_eq!(
        ticks("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
        ["10-25 02:30:00 +02:00", "10-26 02:30:00 +01:00"]
    );
    assert_eq!(
        ticks("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", 2),
        ["11-01 01:30:00 -04:00", "11-02 01:30:00 -05:00"]
    );
    assert_eq!(
        ticks("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", 2),
        ["04-05 01:45:00 +11:00", "04-06 01:45:00 +10:30"]
    );
    // Also when it is asked from between the two.
    assert_eq!(ticks("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", 1), ["10-26 02:30:00 +01:00"]);
    assert_eq!(ticks("30 2 * * *", "Europe/Berlin", "2026-10-25T01:15:00Z", 1), ["10-26 02:30:00 +01:00"]);
}

#[test]
fn a_job_every_half_hour_keeps_its_pace_whatever_the_clock_does() {
    assert_eq!(
        ticks("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:15:00Z", 3),
        ["03-29 01:30:00 +01:00", "03-29 03:00:00 +02:00", "03-29 03:30:00 +02:00"]
    );
    assert_eq!(
        ticks("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:45:00Z", 6),
        [
            "10-25 02:00:00 +02:00",
            "10-25 02:30:00 +02:00",
            "10-25 02:00:00 +01:00",
            "10-25 02:30:00 +01:00",
            "10-25 03:00:00 +01:00",
            "10-25 03:30:00 +01:00",
        ]
    );
    assert_eq!(
        ticks("*/10 * * * *", "Australia/Lord_Howe", "2026-04-04T14:35:00Z", 5),
        [
            "04-05 01:40:00 +11:00",
            "04-05 01:50:00 +11:00",
            "04-05 01:30:00 +10:30",
            "04-05 01:40:00 +10:30",
            "04-05 01:50:00 +10:30",
        ]
    );
    // What is in the gap does not exist for what goes on through the hours.
    assert_eq!(
        ticks("0 */2 * * *", "Europe/Berlin", "2026-03-28T23:30:00Z", 2),
        ["03-29 04:00:00 +02:00", "03-29 06:00:00 +02:00"]
    );
}

#[test]
fn leap_days_and_the_ends_of_months_come() {
    assert_eq!(
        ticks("0 0 29 2 *", "UTC", "2026-11-26T00:00:00Z", 2),
        ["02-29 00:00:00 +00:00", "02-29 00:00:00 +00:00"]
    );
    let cron = Cron::new("0 0 29 2 *", "UTC").unwrap();
    assert_eq!(cron.after(at("2026-11-26T00:00:00Z")), Some(at("2028-02-29T00:00:00Z")));
    // 2100 is no leap year.
    assert_eq!(cron.after(at("2096-02-29T00:00:00Z")), Some(at("2104-02-29T00:00:00Z")));
    let cron = Cron::new("0 0 L * *", "UTC").unwrap();
    assert_eq!(cron.after(at("2027-02-01T00:00:00Z")), Some(at("2027-02-28T00:00:00Z")));
    // Either day is enough, both with a plus.
    let cron = Cron::new("0 0 13 * FRI", "UTC").unwrap();
    assert_eq!(cron.after(at("2026-11-26T00:00:00Z")), Some(at("2026-11-27T00:00:00Z")));
    let cron = Cron::new("0 0 13 * +FRI", "UTC").unwrap();
    assert_eq!(cron.after(at("2026-11-26T00:00:00Z")), Some(at("2027-08-13T00:00:00Z")));
}

#[test]
fn what_never_comes_is_refused() {
    for expression in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 0 31 2 *"] {
        let wrong = mistakes(expression, "UTC");
        assert!(matches!(&wrong[..], [("cron", detail)] if detail.contains("never comes")), "{wrong:?}");
    }
    // Rare is not never.
    Cron::new("0 0 29 2 +MON", "UTC").unwrap();
}

#[test]
fn everything_that_is_wrong_is_told_with_its_field() {
    for (expression, says) in [
        ("", "has 0 fields"),
        ("* * * *", "has 4 fields"),
        ("* * * * * * 2030", "has 7 fields"),
        ("60 * * * *", "minute `60`"),
        ("* 24 * * *", "hour `24`"),
        ("* * 0 * *", "day of month `0`"),
        ("* * * 13 *", "month `13`"),
        ("* * * * 8", "day of week `8`"),
        ("61 * * * * *", "second `61`"),
        ("*/0 * * * *", "minute `*/0`"),
        ("5-1 * * * *", "minute `5-1`"),
        ("x * * * *", "minute `x`"),
        ("@never", "is not one of @hourly"),
        ("@reboot", "is not one of @hourly"),
        ("ü * * * *", "minute `ü`"),
    ] {
        let wrong = mistakes(expression, "UTC");
        assert!(matches!(&wrong[..], [("cron", detail)] if detail.contains(says)), "{expression}: {wrong:?}");
    }
    let both = mistakes("60 24 * * *", "Europe/Atlantis");
    let [("timezone", zone), ("cron", cron)] = &both[..] else { panic!("{both:?}") };
    assert!(zone.contains("`Europe/Atlantis`") && cron.contains("minute `60`") && cron.contains("hour `24`"));
    for zone in ["", "Etc/Unknown", "+02:00", "../../etc/passwd", "Mars"] {
        assert!(matches!(&mistakes("* * * * *", zone)[..], [("timezone", _)]), "{zone}");
    }
}

#[test]
fn the_last_tick_of_a_long_absence_is_found_at_once() {
    let cron = Cron::new("* * * * * *", "UTC").unwrap();
    let (first, until) = (at("2020-01-01T00:00:00Z"), at("2026-11-26T01:02:03.999Z"));
    assert_eq!(cron.last_until(first, until), at("2026-11-26T01:02:03Z"));
    let yearly = Cron::new("@yearly", "Europe/Berlin").unwrap();
    assert_eq!(yearly.last_until(at("2019-12-31T23:00:00Z"), until), at("2025-12-31T23:00:00Z"));
    assert_eq!(yearly.last_until(at("2025-12-31T23:00:00Z"), until), at("2025-12-31T23:00:00Z"));
}

const ZONES: [&str; 6] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Apia", // left out a whole day, 30 December 2011
];

/// Minutes, hours and days, each fixed or going on.
fn expressions() -> impl Strategy<Value = String> {
    let minute = prop_oneof!["\\*/(5|7|15|30)", (0..60_u32).prop_map(|m| m.to_string())];
    let hour =
        prop_oneof![Just("*".to_owned()), Just("*/2".to_owned()), (0..24_u32).prop_map(|h| h.to_string())];
    let days = prop_oneof![Just("* * *"), Just("* * MON-FRI"), Just("1 * *"), Just("L * *")];
    (minute, hour, days).prop_map(|(minute, hour, days)| format!("{minute} {hour} {days}"))
}

proptest! {
    /// Asking from the tick before and from any moment between gives the same: no tick twice, none left out.
    #[test]
    fn ticks_go_on_strictly_whenever_it_is_asked(
        expression in expressions(),
        zone in prop::sample::select(&ZONES),
        // From 2012 on: Samoa left out a whole day in 2011, whose midnight falls together with the next.
        start in 1_326_600_000_000_i64..1_900_000_000_000,
        between in 0.0_f64..1.0,
    ) {
        let cron = Cron::new(&expression, zone).unwrap();
        let mut last = cron.after(Timestamp(start)).unwrap();
        prop_assert!(last > Timestamp(start));
        for _ in 0..200 {
            let next = cron.after(last).unwrap();
            prop_assert!(next > last, "{expression} {zone}: {next:?} after {last:?}");
            let asked = Timestamp(last.0 + ((next.0 - last.0 - 1) as f64 * between) as i64);
            prop_assert_eq!(cron.after(asked), Some(next), "{} {} from {:?}", expression, zone, asked);
            prop_assert_eq!(next.0 % 1_000, 0);
            last = next;
        }
    }

    /// What a day of fixed times has to have: each exactly once, whatever the clock does on that day.
    #[test]
    fn a_fixed_time_comes_once_a_day(minute in 0..60_u32, hour in 0..24_u32, zone in prop::sample::select(&ZONES[..5])) {
        let cron = Cron::new(&format!("{minute} {hour} * * *"), zone).unwrap();
        let mut last = at("2025-12-31T12:00:00Z");
        let mut days = std::collections::BTreeSet::new();
        for _ in 0..366 {
            last = cron.after(last).unwrap();
            let day = cron.zoned(last).unwrap().date();
            prop_assert!(days.insert(day), "{day} twice");
        }
        let span = days.last().unwrap().since(*days.first().unwrap()).unwrap().get_days();
        prop_assert_eq!(span, 365, "a day was left out");
    }
}

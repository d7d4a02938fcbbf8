//! Cron expressions on the clock of a time zone.

use std::fmt;

use croner::{
    errors::CronError,
    parser::{CronParser, Seconds, Year},
};
use jiff::{Zoned, tz::TimeZone};
use mainstay_core::time::Timestamp;

/// When something happens again and again: a cron expression of five fields (minute, hour, day of month, month, day
/// of week) or six (seconds first), on the clock of a time zone.
///
/// Fields take `*`, numbers, names (`JAN`, `MON`), ranges, lists and steps; the day of the month also `L` (the last)
/// and `15W` (the weekday closest to the 15th); the day of the week `5L` (the last Friday) and `5#2` (the second).
/// Where both days are restricted, either is enough, as in every cron; `+` before the day of the week asks for both.
/// `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly` are understood.
///
/// When the clock is put forward, times in the gap do not exist. An expression that names fixed times fires once, at the
/// first moment after the gap; one that goes on through the hours or minutes (`*/5 * * * *`) has no tick there. When the
/// clock is put back, times happen twice. Fixed times fire the first time only; what goes on through the hours fires
/// both times. So a daily job runs once a day on every day of the year, and a job every five minutes runs every five
/// minutes.
#[derive(Clone, Debug)]
pub struct Cron {
    pattern: croner::Cron,
    zone: TimeZone,
}

/// What is wrong with an expression or a time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronMistake {
    /// `cron` or `timezone`.
    pub field: &'static str,
    /// What is wrong, for its author.
    pub detail: String,
}

impl fmt::Display for CronMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.detail)
    }
}

impl Cron {
    /// Reads an expression and looks the time zone up.
    ///
    /// # Errors
    /// Everything that is wrong with either. An expression that never comes true (30 February) is wrong.
    pub fn new(expression: &str, timezone: &str) -> Result<Cron, Vec<CronMistake>> {
        match (zone(timezone), pattern(expression)) {
            (Ok(zone), Ok(pattern)) => Ok(Cron { pattern, zone }),
            (zone, pattern) => Err([zone.err(), pattern.err()].into_iter().flatten().collect()),
        }
    }

    /// The first tick later than `at`. `None`: there is none any more (before the year 5000).
    pub fn after(&self, at: Timestamp) -> Option<Timestamp> {
        let mut from = self.zoned(at)?;
        // More than once only if the library answered something that is not later.
        for _ in 0..8 {
            let next = self.pattern.find_next_occurrence(&from, false).ok()?;
            let tick = Timestamp(next.timestamp().as_millisecond());
            if tick > at {
                return Some(tick);
            }
            from = self.zoned(at.plus_ms(3_600_000))?;
        }
        None
    }

    /// The last tick from `first` (a tick itself) up to and with `until`; `first` if there is none.
    ///
    /// Asks some forty times, however many ticks lie between.
    pub(super) fn last_until(&self, first: Timestamp, until: Timestamp) -> Timestamp {
        let comes_by = |at: Timestamp| self.after(at).filter(|tick| *tick <= until);
        let Some(mut last) = comes_by(first) else { return first };
        // The latest moment (in whole seconds: ticks are) after which one still comes, by halving.
        let (mut low, mut high) = (0, until.ms_since(first).div_ceil(1_000) + 1);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match comes_by(first.plus_ms(middle * 1_000)) {
                Some(tick) => (low, last) = (middle, tick),
                None => high = middle,
            }
        }
        last
    }

    fn zoned(&self, at: Timestamp) -> Option<Zoned> {
        Some(jiff::Timestamp::from_millisecond(at.0).ok()?.to_zoned(self.zone.clone()))
    }
}

fn zone(name: &str) -> Result<TimeZone, CronMistake> {
    let mistake = |detail| CronMistake { field: "timezone", detail };
    let known = TimeZone::get(name).ok().filter(|zone| !zone.is_unknown());
    known.ok_or_else(|| {
        mistake(format!(
            "no time zone is called `{name}`; use a name of the IANA list such as Europe/Berlin or UTC"
        ))
    })
}

fn pattern(expression: &str) -> Result<croner::Cron, CronMistake> {
    const NAMES: [&str; 6] = ["second", "minute", "hour", "day of month", "month", "day of week"];
    let mistake = |detail: String| CronMistake { field: "cron", detail };
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    let text = expression.trim();
    let fields: Vec<_> = text.split_whitespace().collect();
    if !text.starts_with('@') && !(5..=6).contains(&fields.len()) {
        return Err(mistake(format!(
            "has {} fields; it takes 5 (minute, hour, day of month, month, day of week) or 6, with seconds first",
            fields.len()
        )));
    }
    let error = match parser.parse(text) {
        // What comes at all comes within the 400 years after which the calendar repeats, in every time zone.
        Ok(pattern) => {
            let cron = Cron { pattern, zone: TimeZone::UTC };
            let comes = cron.after(Timestamp(0)).is_some();
            let never = || mistake(format!("`{text}` never comes: no date has these days and months"));
            return if comes { Ok(cron.pattern) } else { Err(never()) };
        }
        Err(error) => error,
    };
    if text.starts_with('@') {
        let detail = format!("`{text}` is not one of @hourly, @daily, @weekly, @monthly, @yearly");
        return Err(mistake(detail));
    }
    // The library does not say which field it means: try each alone.
    let names = &NAMES[NAMES.len() - fields.len()..];
    let mut wrong = vec![];
    for (at, (field, name)) in fields.iter().zip(names).enumerate() {
        let mut alone = vec!["*"; fields.len()];
        alone[at] = field;
        if let Err(error) = parser.parse(&alone.join(" ")) {
            wrong.push(format!("{name} `{field}`: {}", words(&error)));
        }
    }
    if wrong.is_empty() {
        wrong.push(words(&error));
    }
    Err(mistake(wrong.join("; ")))
}

fn words(error: &CronError) -> String {
    let text = match error {
        CronError::InvalidPattern(text)
        | CronError::IllegalCharacters(text)
        | CronError::ComponentError(text) => text.clone(),
        other => other.to_string(),
    };
    text.trim_end_matches('.').to_owned()
}

#[cfg(test)]
#[path = "cron_tests.rs"]
mod tests;

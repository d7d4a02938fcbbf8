//! The log lines of one test.

use std::{
    fmt::{self, Display, Write as _},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

pub use tracing::Level;
use tracing::{
    Dispatch,
    subscriber::{DefaultGuard, NoSubscriber},
};
use tracing_subscriber::layer::SubscriberExt;

use crate::{
    context::FieldValue,
    log::{Format, Levels, Lines, LogLevel, Record, text_of},
};

/// A test that logs more is told so.
const MOST: usize = 100_000;
/// A message shows this many lines, the last ones.
const SHOWN: usize = 40;

/// What is logged on this thread while it lives: by a test on virtual time and by all its tasks, and by nobody else's.
///
/// Every level is kept; the fields of the [`Context`](crate::Context) and of enclosing spans are on the line, as in the
/// log itself. Lines do not go to the usual log meanwhile.
///
/// ```
/// use mainstay::testing::{Logs, assert_logged, block_on_virtual};
///
/// let logs = Logs::capture();
/// block_on_virtual(async { tracing::warn!(user = 7, attempt = 2, "database is busy") });
/// assert_logged!(logs, WARN, "busy", user = 7);
/// logs.assert_not_logged(mainstay::testing::Level::ERROR, "");
/// ```
#[must_use = "lines are kept while it lives"]
pub struct Logs {
    kept: Arc<Mutex<Kept>>,
    _default: DefaultGuard,
}

#[derive(Default)]
struct Kept {
    lines: Vec<LogLine>,
    beyond: usize,
}

/// A line of the log. Displayed as `LEVEL message field=value …`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LogLine {
    /// How urgent it is.
    pub level: Level,
    /// Where it comes from: the module's path, unless the program says otherwise.
    pub target: String,
    /// Its text.
    pub message: String,
    /// Its fields, with those of the context and of enclosing spans.
    pub fields: Vec<(String, FieldValue)>,
    text: String,
}

impl Logs {
    /// Begins to keep what is logged on this thread.
    pub fn capture() -> Logs {
        // With only one subscriber in the process, tracing asks a thread that has none whether anybody wants a line,
        // and remembers its answer for all threads. A second one makes it ask every time.
        static SECOND: OnceLock<Dispatch> = OnceLock::new();
        SECOND.get_or_init(|| Dispatch::new(NoSubscriber::default()));
        let kept = Arc::<Mutex<Kept>>::default();
        let to = kept.clone();
        let level = LogLevel::new(Levels::parse("trace").expect("a level"));
        let layer = Lines::new(level, move |record: &Record<'_>| keep(&to, record));
        let subscriber = tracing_subscriber::registry().with(layer);
        Logs { kept, _default: tracing::subscriber::set_default(subscriber) }
    }

    /// What has been logged so far.
    pub fn lines(&self) -> Vec<LogLine> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).lines.clone()
    }

    /// A line of this level has `text` in its message, and these fields. [`assert_logged!`](crate::assert_logged) is
    /// shorter. A field is compared as it is written: `7` is the same as a number and as a word.
    ///
    /// # Panics
    /// If there is none: with the lines of this level and of more urgent ones.
    #[track_caller]
    pub fn assert_logged(&self, level: Level, text: &str, fields: &[(&str, FieldValue)]) {
        let lines = self.lines();
        if !lines.iter().any(|line| line.is(level, text) && line.has(fields)) {
            let mut wanted = format!("{level} …{text}…");
            for (name, value) in fields {
                let _ = write!(wanted, " {name}={}", text_of(value));
            }
            panic!("no line is like: {wanted}\n{}", self.told(&lines, level));
        }
    }

    /// No line of this level has `text` in its message. (An empty text is in every message.)
    ///
    /// # Panics
    /// If there is one.
    #[track_caller]
    pub fn assert_not_logged(&self, level: Level, text: &str) {
        let lines = self.lines();
        if let Some(line) = lines.iter().find(|line| line.is(level, text)) {
            panic!("this should not have been logged: {line}\n{}", self.told(&lines, level));
        }
    }

    fn told(&self, lines: &[LogLine], level: Level) -> String {
        // Levels are ordered by how much they let through.
        let urgent: Vec<_> = lines.iter().filter(|line| line.level <= level).collect();
        let mut out = format!("{} of {} lines are {level} or more urgent", urgent.len(), lines.len());
        for line in urgent.iter().skip(urgent.len().saturating_sub(SHOWN)) {
            let _ = write!(out, "\n  {line}");
        }
        let beyond = self.kept.lock().unwrap_or_else(PoisonError::into_inner).beyond;
        if beyond > 0 {
            let _ = write!(out, "\n{beyond} more were logged, and not kept: {MOST} is the bound");
        }
        out
    }
}

fn keep(kept: &Mutex<Kept>, record: &Record<'_>) {
    let mut text = String::new();
    Format::Plain.line(&mut text, record, false);
    let fields = record.fields.iter().map(|(name, value, kind)| (name.to_owned(), kind.read(value)));
    let line = LogLine {
        level: record.level,
        target: record.target.to_owned(),
        message: record.fields.message().to_owned(),
        fields: fields.collect(),
        text: text.trim_end().to_owned(),
    };
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.lines.len() < MOST { kept.lines.push(line) } else { kept.beyond += 1 }
}

impl LogLine {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&FieldValue> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    fn is(&self, level: Level, text: &str) -> bool {
        self.level == level && self.message.contains(text)
    }

    fn has(&self, fields: &[(&str, FieldValue)]) -> bool {
        let same = |(name, value): &(&str, FieldValue)| {
            self.field(name).is_some_and(|found| text_of(found) == text_of(value))
        };
        fields.iter().all(same)
    }
}

impl Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lines()).finish()
    }
}

/// A line of this level has the text in its message and these fields, besides any others:
/// `assert_logged!(logs, INFO, "signed up", user = 7, http.status = 201)`. See [`Logs`](crate::testing::Logs).
#[macro_export]
macro_rules! assert_logged {
    ($logs:expr, $level:ident, $text:expr $(, $($name:ident).+ = $value:expr)* $(,)?) => {
        $logs.assert_logged(
            $crate::testing::Level::$level,
            $text,
            &[$((stringify!($($name).+), $crate::context::FieldValue::from($value))),*],
        )
    };
}

//! What a run of the command means for its job.

use std::io;
use std::os::unix::process::ExitStatusExt;

use mainstay_api::types::{Complete, JobFailure, Retry, SettleOutcome};
use mainstay_api::{Code, Limits, RawJson, strict};

use super::child::{Ended, Exit, MAX_RESULT};
use super::{ResultKind, Settings};

/// Why the supervisor stopped a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The lease is gone: whatever comes out, somebody else has the job.
    Lost,
    /// Someone wants the job cancelled.
    Cancelled,
    /// The worker ends.
    Drain,
}

/// What is to be done about a run.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// Tell the server.
    Settle(SettleOutcome),
    /// There is nothing to tell: the lease is gone.
    Nothing,
    /// The command cannot be run at all: give the job back, and stop before every job is burnt.
    Unusable(String),
}

pub(super) fn verdict(settings: &Settings, stopped: Option<Why>, ended: &Ended) -> Verdict {
    // After the time limit, a lease that is not prolonged any more may still live.
    if stopped == Some(Why::Lost) && !matches!(ended.exit, Exit::TimedOut) {
        return Verdict::Nothing;
    }
    if let Exit::NotStarted(error) = &ended.exit {
        return not_started(settings, error);
    }
    // What was done in spite of the signal is done.
    if let Exit::Status(status) = &ended.exit
        && status.success()
    {
        return Verdict::Settle(success(settings, ended));
    }
    Verdict::Settle(match stopped {
        Some(Why::Cancelled) => SettleOutcome::Cancel { error: None },
        Some(Why::Drain) => SettleOutcome::Release { delay_ms: 0 },
        _ => failure(settings, ended),
    })
}

fn not_started(settings: &Settings, error: &io::Error) -> Verdict {
    use io::ErrorKind::{ArgumentListTooLong, OutOfMemory, ResourceBusy, WouldBlock};
    match error.kind() {
        // The machine is short of something; a moment later it may not be.
        WouldBlock | OutOfMemory | ResourceBusy => {
            Verdict::Settle(SettleOutcome::Release { delay_ms: 1_000 })
        }
        // The environment has the job's kind in it: this one is at fault.
        ArgumentListTooLong => Verdict::Settle(fail("not-started", error.to_string(), Retry::Never)),
        _ => {
            let program = settings.command.first().map(|name| name.to_string_lossy()).unwrap_or_default();
            Verdict::Unusable(format!("cannot run {program}: {error}"))
        }
    }
}

fn success(settings: &Settings, ended: &Ended) -> SettleOutcome {
    match result(&ended.out, settings.result) {
        Some(result) if !ended.too_much => SettleOutcome::Complete { result: Some(result) },
        _ => fail(TOO_LARGE, format!("standard output has more than {MAX_RESULT} bytes"), Retry::Never),
    }
}

/// JSON if it is JSON that a server takes, else a string; `None` when that is too long.
fn result(out: &[u8], kind: ResultKind) -> Option<RawJson> {
    let text = String::from_utf8_lossy(out);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    if text.is_empty() {
        return Some(RawJson::NULL);
    }
    let json = match kind {
        ResultKind::Auto => RawJson::parse(text.trim_ascii()).ok().filter(is_taken),
        ResultKind::Text => None,
    };
    let result = match json {
        Some(json) => json,
        None => RawJson::of(text).ok()?,
    };
    (result.as_bytes().len() <= MAX_RESULT).then_some(result)
}

/// A server is stricter than a parser: it refuses JSON that two readers could understand differently. One such result
/// would have it refuse all that are settled with it.
fn is_taken(result: &RawJson) -> bool {
    let limits = Limits { result_bytes: usize::MAX, ..Limits::default() };
    let body = serde_json::to_vec(&Complete { lease: "l".to_owned(), result: Some(result.clone()) });
    body.is_ok_and(|body| strict::parse::<Complete>(&body, &limits).is_ok())
}

fn failure(settings: &Settings, ended: &Ended) -> SettleOutcome {
    let Exit::Status(status) = &ended.exit else {
        return fail("timeout", message("took longer than its time limit", &ended.tail), Retry::Auto);
    };
    let retry = match status.code() {
        Some(code) if settings.permanent_exit.contains(&code) => Retry::Never,
        _ => Retry::Auto,
    };
    let (kind, words) = match (status.code(), status.signal()) {
        (Some(code), _) => (format!("exit-{code}"), format!("exit code {code}")),
        (None, Some(signal)) => (format!("signal-{signal}"), format!("ended by signal {signal}")),
        (None, None) => ("unknown".to_owned(), status.to_string()),
    };
    fail(&kind, message(&words, &ended.tail), retry)
}

/// What the command said last; what happened, when it said nothing.
fn message(happened: &str, tail: &[u8]) -> String {
    match String::from_utf8_lossy(tail).trim() {
        "" => happened.to_owned(),
        said => said.to_owned(),
    }
}

fn fail(kind: &str, message: String, retry: Retry) -> SettleOutcome {
    let error = JobFailure { kind: Some(kind.to_owned()), message, backtrace: None };
    SettleOutcome::Fail { error, retry }
}

/// The type of the error of a result that is too long.
const TOO_LARGE: &str = "result-too-large";

/// What takes the place of an outcome that the server refused with this code.
pub(super) fn refused(outcome: &SettleOutcome, code: Option<Code>, why: &str) -> Option<SettleOutcome> {
    match outcome {
        SettleOutcome::Complete { .. } => {
            let kind = if code == Some(Code::PayloadTooLarge) { TOO_LARGE } else { "result-refused" };
            Some(fail(kind, format!("the server refused the result: {why}"), Retry::Never))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::process::ExitStatus;
    use std::time::Duration;

    use super::*;

    fn settings() -> Settings {
        Settings {
            queues: vec![],
            concurrency: 1,
            lease: Duration::from_secs(30),
            drain: Duration::ZERO,
            kill_after: Duration::ZERO,
            wait_ms: 0,
            permanent_exit: vec![65],
            raw_strings: false,
            result: ResultKind::Auto,
            until_empty: false,
            name: "w".into(),
            command: vec!["cmd".into()],
        }
    }

    fn ended(wait_status: i32, out: &str, tail: &str) -> Ended {
        Ended {
            exit: Exit::Status(ExitStatus::from_raw(wait_status)),
            out: out.into(),
            too_much: false,
            tail: tail.into(),
        }
    }

    fn completed(text: &str) -> Verdict {
        Verdict::Settle(SettleOutcome::Complete { result: Some(RawJson::parse(text).unwrap()) })
    }

    #[test]
    fn standard_output_is_the_result() {
        for (out, result) in [
            ("", "null"),
            ("\n", "null"),
            ("{\"a\": 1.10}\n", "{\"a\": 1.10}"),
            ("abc\n", "\"abc\""),
            ("abc\n\n", "\"abc\\n\""),
            ("a\nb", "\"a\\nb\""),
            ("0a1b\n", "\"0a1b\""),
            // JSON that a server refuses is text.
            ("{\"a\":1,\"a\":2}", "\"{\\\"a\\\":1,\\\"a\\\":2}\""),
            ("1e999", "\"1e999\""),
        ] {
            assert_eq!(verdict(&settings(), None, &ended(0, out, "")), completed(result), "{out:?}");
        }
        let mut text = settings();
        text.result = ResultKind::Text;
        assert_eq!(verdict(&text, None, &ended(0, "17\n", "")), completed("\"17\""));
    }

    #[test]
    fn any_other_end_fails_the_attempt_with_what_was_said_last() {
        for (status, tail, kind, message, retry) in [
            (1 << 8, " boom \n", "exit-1", "boom", Retry::Auto),
            (65 << 8, "", "exit-65", "exit code 65", Retry::Never),
            (9, "", "signal-9", "ended by signal 9", Retry::Auto),
        ] {
            let expected = Verdict::Settle(fail(kind, message.to_owned(), retry));
            assert_eq!(verdict(&settings(), None, &ended(status, "", tail)), expected);
        }
    }

    #[test]
    fn why_a_run_was_stopped_decides_unless_it_succeeded() {
        let cut = || ended(15, "", "");
        assert_eq!(verdict(&settings(), Some(Why::Lost), &ended(0, "1", "")), Verdict::Nothing);
        let late = Ended { exit: Exit::TimedOut, ..cut() };
        assert_eq!(verdict(&settings(), Some(Why::Lost), &late), verdict(&settings(), None, &late));
        assert_ne!(verdict(&settings(), None, &late), Verdict::Nothing);
        let release = Verdict::Settle(SettleOutcome::Release { delay_ms: 0 });
        assert_eq!(verdict(&settings(), Some(Why::Drain), &cut()), release);
        let cancel = Verdict::Settle(SettleOutcome::Cancel { error: None });
        assert_eq!(verdict(&settings(), Some(Why::Cancelled), &cut()), cancel);
        for why in [Why::Drain, Why::Cancelled] {
            assert_eq!(verdict(&settings(), Some(why), &ended(0, "1", "")), completed("1"));
        }
    }

    #[test]
    fn a_result_beyond_the_bound_is_a_failure_that_is_not_repeated() {
        let mut ended = ended(0, &"x".repeat(MAX_RESULT + 1), "");
        ended.too_much = true;
        let Verdict::Settle(SettleOutcome::Fail { error, retry: Retry::Never }) =
            verdict(&settings(), None, &ended)
        else {
            panic!("was taken");
        };
        assert_eq!(error.kind.as_deref(), Some("result-too-large"));
        // Quotes make it longer than it came out.
        ended.out = vec![b'x'; MAX_RESULT - 1];
        ended.too_much = false;
        assert!(matches!(verdict(&settings(), None, &ended), Verdict::Settle(SettleOutcome::Fail { .. })));
    }

    #[test]
    fn a_missing_command_burns_no_attempt() {
        let exit = Exit::NotStarted(io::ErrorKind::NotFound.into());
        let verdict = verdict(&settings(), None, &Ended { exit, out: vec![], too_much: false, tail: vec![] });
        assert!(matches!(verdict, Verdict::Unusable(text) if text.contains("cmd")));
    }
}

//! `mainstay jobs enqueue`.

use std::io::Read;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use mainstay_api::types::{AfterFailure, AfterRef, NewJob, Unique};
use mainstay_api::{JobId, RawJson, Timestamp};

use super::patience::with_patience;
use super::{Failure, Outcome, Session, bulk, result, session};

/// More than a server takes is not worth reading: what is longer is refused by it, not cut here.
const MAX_PAYLOAD: u64 = 64 << 20;

/// Flags of `mainstay jobs enqueue`.
#[derive(Debug, Args)]
pub(crate) struct Enqueue {
    /// The queue; it exists from its first job
    queue: String,
    /// What is to be done: what workers choose by
    #[arg(required_unless_present = "bulk")]
    kind: Option<String>,
    /// JSON, `-` for standard input, or `@FILE`; nothing means null
    #[arg(allow_hyphen_values = true)]
    payload: Option<String>,
    /// The payload is text, not JSON: it becomes a JSON string
    #[arg(long)]
    text: bool,
    /// Make a job of each line of a file (`-`: standard input): a JSON object as in the API, such as {"kind":"k","payload":1}
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "kind", "text", "wait", "wait_ms", "id", "priority", "delay_ms", "run_at", "max_attempts", "max_crashes",
        "unique_key", "concurrency_key", "fairness_key", "tag", "meta", "timeout_ms", "expires_in_ms", "retain_ms", "after",
        "after_failure",
    ])]
    bulk: Option<PathBuf>,
    /// 0 to 9, lower first [default: 5]
    #[arg(long, value_name = "N")]
    priority: Option<u8>,
    /// Not before this long from now
    #[arg(long, value_name = "N", conflicts_with = "run_at")]
    delay_ms: Option<u64>,
    /// Not before this moment, such as 2026-11-22T10:00:00Z
    #[arg(long, value_name = "INSTANT")]
    run_at: Option<Timestamp>,
    /// How many failures and crashes end the job [default: 20]
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// How many lost leases end the job [default: the queue's, else 3]
    #[arg(long, value_name = "N")]
    max_crashes: Option<u32>,
    /// At most one job of the queue with this key
    #[arg(long, value_name = "KEY")]
    unique_key: Option<String>,
    /// How long the key is held from now [default: until the job has finished]
    #[arg(long, value_name = "N", requires = "unique_key")]
    unique_for_ms: Option<u64>,
    /// Jobs of the queue with this key run one at a time, or as many as its key_concurrency says
    #[arg(long, value_name = "KEY")]
    concurrency_key: Option<String>,
    /// Whose turn the job counts for, in a queue with fairness
    #[arg(long, value_name = "KEY")]
    fairness_key: Option<String>,
    /// The job's id, a UUIDv7; one that is taken answers for this one
    #[arg(long)]
    id: Option<JobId>,
    /// Not before this job has completed; may be repeated
    #[arg(long, value_name = "ID")]
    after: Vec<JobId>,
    /// What it means that one of those is dead
    #[arg(long, value_name = "WHAT", requires = "after", value_enum)]
    after_failure: Option<WhenDead>,
    /// How long to try again while the queue is full [default: 0; with --bulk 30000 for each chunk after the first]
    #[arg(long, value_name = "N")]
    patience_ms: Option<u64>,
    /// A word to find the job by; may be repeated
    #[arg(long, value_name = "WORD")]
    tag: Vec<String>,
    /// A JSON object that travels with the job
    #[arg(long, value_name = "JSON")]
    meta: Option<String>,
    /// How long one attempt may take
    #[arg(long, value_name = "N")]
    timeout_ms: Option<u64>,
    /// Never hand the job out after this long
    #[arg(long, value_name = "N")]
    expires_in_ms: Option<u64>,
    /// How long the finished job stays readable
    #[arg(long, value_name = "N")]
    retain_ms: Option<u64>,
    /// Wait for the end of the job, and print its result
    #[arg(long)]
    wait: bool,
    /// As --wait, but no longer than this
    #[arg(long, value_name = "N")]
    wait_ms: Option<u64>,
}

impl Enqueue {
    pub(crate) async fn run(mut self, session: &Session) -> Outcome {
        let api = session.api()?;
        if let Some(file) = &self.bulk {
            return bulk::run(&api, &self.queue, file, self.patience_ms, session).await;
        }
        let job = self.job()?;
        let made =
            with_patience(self.patience_ms.unwrap_or(0), async || api.enqueue(&self.queue, &job).await).await;
        let made = made.map_err(|e| Failure::of_call(&e, api.url()))?;
        if made.deduplicated {
            session.note("an earlier job answers for this one");
        }
        if !self.wait && self.wait_ms.is_none() {
            return session.answer(&made, || made.id.to_string());
        }
        if session.is_text() {
            session::note(&format!("job {}", made.id));
        }
        result::wait(&api, made.id, self.wait_ms, session).await
    }

    fn job(&mut self) -> Result<NewJob, Failure> {
        let payload = self.payload.take().map(|given| payload(&given, self.text)).transpose()?;
        let meta = self.meta.take().map(|text| json(&text, "--meta")).transpose()?;
        let for_ms = self.unique_for_ms;
        Ok(NewJob {
            kind: self.kind.take().unwrap_or_default(),
            id: self.id,
            payload,
            priority: self.priority,
            run_at: self.run_at,
            delay_ms: self.delay_ms,
            max_attempts: self.max_attempts,
            max_crashes: self.max_crashes,
            timeout_ms: self.timeout_ms,
            expires_in_ms: self.expires_in_ms,
            unique: self.unique_key.take().map(|key| Unique { key, for_ms }),
            concurrency_key: self.concurrency_key.take(),
            fairness_key: self.fairness_key.take(),
            tags: std::mem::take(&mut self.tag),
            meta,
            retain_ms: self.retain_ms,
            after: self.after.iter().copied().map(AfterRef::Job).collect(),
            after_failure: self.after_failure.map(AfterFailure::from),
            ..NewJob::default()
        })
    }
}

/// What it means that a job that is waited for is dead.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum WhenDead {
    /// Go on waiting: it may be requeued
    Wait,
    /// Cancel this one
    Cancel,
    /// Run this one all the same
    Run,
}

impl From<WhenDead> for AfterFailure {
    fn from(what: WhenDead) -> Self {
        match what {
            WhenDead::Wait => AfterFailure::Wait,
            WhenDead::Cancel => AfterFailure::Cancel,
            WhenDead::Run => AfterFailure::Run,
        }
    }
}

/// The payload that was meant by an argument.
pub(crate) fn payload(given: &str, as_text: bool) -> Result<RawJson, Failure> {
    let (text, name) = match (given, given.strip_prefix('@')) {
        ("-", _) => (read(std::io::stdin().lock(), "standard input")?, "standard input"),
        (_, Some(path)) => {
            let file = std::fs::File::open(path)
                .map_err(|error| Failure::usage(format!("cannot read {path}: {error}")))?;
            (read(file, path)?, path)
        }
        _ => (given.to_owned(), "the payload"),
    };
    if as_text {
        return RawJson::of(&text).map_err(|error| Failure::usage(format!("{name} is no text: {error}")));
    }
    json(&text, name)
}

fn read(from: impl Read, name: &str) -> Result<String, Failure> {
    let mut text = String::new();
    from.take(MAX_PAYLOAD)
        .read_to_string(&mut text)
        .map_err(|error| Failure::usage(format!("cannot read {name}: {error}")))?;
    Ok(text)
}

fn json(text: &str, name: &str) -> Result<RawJson, Failure> {
    RawJson::parse(text.trim()).map_err(|error| {
        Failure::usage(format!("{name} is not JSON: {error}"))
            .tip(r#"keep the quotes from the shell, as in '{"to":"ada"}'; --text takes plain text"#)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_json_or_is_refused_with_what_to_do() {
        assert_eq!(payload(" {\"a\":1.10}\n", false).unwrap().as_bytes(), br#"{"a":1.10}"#);
        let failure = payload("{to:ada}", false).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.text().contains("--text"), "{}", failure.text());
    }

    #[test]
    fn text_becomes_a_json_string() {
        assert_eq!(payload("a\"b", true).unwrap().as_bytes(), br#""a\"b""#);
        assert_eq!(payload("7", true).unwrap().as_bytes(), br#""7""#);
    }

    #[test]
    fn a_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.json");
        std::fs::write(&path, "[1, 2]\n").unwrap();
        assert_eq!(payload(&format!("@{}", path.display()), false).unwrap().as_bytes(), b"[1, 2]");
        let failure = payload("@/nonexistent/p.json", false).unwrap_err();
        assert!(failure.text().contains("/nonexistent/p.json"));
    }
}

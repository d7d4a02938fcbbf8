//! `mainstay jobs enqueue --bulk`: a line, a job.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::Duration;

use mainstay_api::client::HttpClient;
use mainstay_api::types::{AfterRef, BulkEnqueue, BulkResult, NewJob};
use mainstay_api::{Code, Limits, Problem, strict};

use super::patience::with_patience;
use super::{Failure, Outcome, Session};

/// What the server takes at once, unless it is configured to take less.
const CHUNK_JOBS: usize = 10_000;
/// Half of what the server takes, unless it is configured otherwise: a job may be written a little longer than it was
/// read.
const CHUNK_BYTES: usize = 8 << 20;
/// The longest line: what RAM is worth. How long a payload may be is the server's to say.
const MAX_LINE: u64 = 64 << 20;
/// How many mistakes are told one by one.
const MAX_TOLD: usize = 100;

/// Makes a job of each line. Lines go to the server in chunks; each is taken whole or not at all.
///
/// A queue that is close to its bound slows the lines down; a full one is waited for, `patience_ms` a chunk.
pub(super) async fn run(
    api: &HttpClient,
    queue: &str,
    file: &Path,
    patience_ms: Option<u64>,
    session: &Session,
) -> Outcome {
    let input: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        let opened = File::open(file);
        let opened = opened.map_err(|e| Failure::usage(format!("cannot read {}: {e}", file.display())))?;
        Box::new(BufReader::with_capacity(1 << 16, opened))
    };
    let mut lines = Lines::of(input);
    let mut written = Written::begin(session)?;
    let done = send(api, queue, patience_ms, &mut lines, &mut written).await;
    written.end()?;
    done.map_err(|failure| {
        if written.count == 0 {
            return failure;
        }
        failure.detail(format!(
            "the {} of the lines before line {} exist; their ids were printed",
            super::super::words::count(written.count, "job"),
            written.next_line
        ))
    })
}

async fn send(
    api: &HttpClient,
    queue: &str,
    patience_ms: Option<u64>,
    lines: &mut Lines,
    written: &mut Written,
) -> Outcome {
    let mut api = api.clone();
    loop {
        let Chunk { jobs, at } = lines.chunk()?;
        if jobs.is_empty() {
            return Ok(());
        }
        let jobs = BulkEnqueue { jobs };
        let made =
            with_patience(patience_ms.unwrap_or(0), async || api.enqueue_bulk(queue, &jobs).await).await;
        let made = match made {
            Ok(made) => made,
            Err(error) if error.problem().is_some_and(is_of_the_whole) && can_be_split(&jobs.jobs) => {
                lines.again(Chunk { jobs: jobs.jobs, at });
                continue;
            }
            Err(error) => {
                return Err(match error.problem() {
                    Some(problem) => Failure::of_problem(&in_lines(problem, &at)),
                    None => Failure::of_call(&error, api.url()),
                });
            }
        };
        written.results(&made.results)?;
        written.next_line = at.last().map_or(lines.number, |line| *line) + 1;
        // The server is there: from now on a moment of trouble is not worth giving up for.
        if patience_ms != Some(0) {
            api = api.with_retry(true);
        }
        tokio::time::sleep(hold_back(made.pressure)).await;
    }
}

/// How long to rest before the next chunk, so that workers can follow: nothing below a pressure of 0.8, a second at 1.
fn hold_back(pressure: Option<f64>) -> Duration {
    let above = (pressure.unwrap_or(0.0) - 0.8) / 0.2;
    Duration::from_secs_f64(above.clamp(0.0, 1.0))
}

/// Whether the server takes fewer jobs, or bytes, at once than these. Nothing of them was made then.
fn is_of_the_whole(problem: &Problem) -> bool {
    match problem.code {
        Code::ValidationFailed => problem.errors.iter().any(|error| error.pointer == "/jobs"),
        Code::PayloadTooLarge => problem.errors.is_empty(),
        _ => false,
    }
}

/// What counts the jobs of its call has to stay in it.
fn can_be_split(jobs: &[NewJob]) -> bool {
    let counts = |job: &NewJob| job.after.iter().any(|after| matches!(after, AfterRef::Local(_)));
    jobs.len() > 1 && !jobs.iter().any(counts)
}

/// The problem in lines, where it is about jobs.
fn in_lines(problem: &Problem, at: &[u64]) -> Problem {
    let line_of = |pointer: &str| {
        let job = pointer.strip_prefix("/jobs/")?;
        let (index, field) = job.split_at(job.find('/').unwrap_or(job.len()));
        Some((*at.get(index.parse::<usize>().ok()?)?, field.to_owned()))
    };
    let mut told = problem.clone();
    if let [one] = problem.errors.as_slice()
        && let Some((line, field)) = line_of(&one.pointer)
    {
        let label = if field.is_empty() { field } else { format!("{field}: ") };
        told.detail = format!("line {line}: {label}{}", one.detail);
    }
    for error in &mut told.errors {
        if let Some((line, _)) = line_of(&error.pointer) {
            error.detail = format!("line {line}: {}", error.detail);
        }
    }
    told
}

/// Jobs for one call.
#[derive(Debug)]
struct Chunk {
    jobs: Vec<NewJob>,
    /// The line of each.
    at: Vec<u64>,
}

/// Jobs read from lines.
struct Lines {
    input: Box<dyn BufRead>,
    /// Of the line that was read last, from 1.
    number: u64,
    /// How many go into one call.
    most: usize,
    /// What was too much for one.
    halves: VecDeque<Chunk>,
}

impl Lines {
    fn of(input: Box<dyn BufRead>) -> Self {
        Self { input, number: 0, most: CHUNK_JOBS, halves: VecDeque::new() }
    }

    /// Gives back jobs that are too many, or too much, for one call: they come again in two.
    fn again(&mut self, Chunk { mut jobs, mut at }: Chunk) {
        let half = jobs.len().div_ceil(2);
        self.most = self.most.min(half);
        let rest = Chunk { jobs: jobs.split_off(half), at: at.split_off(half) };
        self.halves.push_front(rest);
        self.halves.push_front(Chunk { jobs, at });
    }

    /// The next jobs that fit into one call; none at the end. All lines of a chunk that are wrong are told at once.
    fn chunk(&mut self) -> Result<Chunk, Failure> {
        if let Some(half) = self.halves.pop_front() {
            return Ok(half);
        }
        let (mut chunk, mut bytes) = (Chunk { jobs: Vec::new(), at: Vec::new() }, 0);
        let mut wrong = Wrong::default();
        let mut line = Vec::new();
        while chunk.jobs.len() + wrong.lines < self.most && bytes < CHUNK_BYTES {
            line.clear();
            let read = (&mut self.input).take(MAX_LINE).read_until(b'\n', &mut line);
            let read = read.map_err(|error| Failure::new(format!("cannot read the jobs: {error}")))?;
            if read == 0 {
                break;
            }
            self.number += 1;
            if read as u64 == MAX_LINE && !line.ends_with(b"\n") {
                wrong.add(self.number, [format!("is longer than {MAX_LINE} bytes")]);
                break;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            bytes += line.len();
            match job(&line) {
                Ok(job) => {
                    chunk.jobs.push(job);
                    chunk.at.push(self.number);
                }
                Err(problem) if problem.errors.is_empty() => wrong.add(self.number, [problem.detail.clone()]),
                Err(problem) => {
                    let told = problem.errors.iter().map(|error| match error.pointer.as_str() {
                        "" => error.detail.clone(),
                        pointer => format!("{pointer}: {}", error.detail),
                    });
                    wrong.add(self.number, told);
                }
            }
        }
        wrong.told(chunk)
    }
}

/// Checked here, so that what is wrong is told with its line, and nothing of the chunk is made.
fn job(line: &[u8]) -> Result<NewJob, Problem> {
    // How large things may be, and what this version cannot do, is the server's to say.
    let limits = Limits {
        payload_bytes: usize::MAX,
        meta_bytes: usize::MAX,
        tags: usize::MAX,
        tag_bytes: usize::MAX,
        ..Limits::default()
    };
    strict::parse::<NewJob>(line, &limits).map(|parsed| parsed.value)
}

/// What is wrong with the lines of a chunk.
#[derive(Default)]
struct Wrong {
    lines: usize,
    first: u64,
    told: Vec<String>,
    more: usize,
}

impl Wrong {
    fn add(&mut self, line: u64, what: impl IntoIterator<Item = String>) {
        if self.lines == 0 {
            self.first = line;
        }
        self.lines += 1;
        for what in what {
            if self.told.len() < MAX_TOLD {
                self.told.push(format!("line {line}: {what}"));
            } else {
                self.more += 1;
            }
        }
    }

    /// The chunk, if nothing is wrong with it.
    fn told(self, chunk: Chunk) -> Result<Chunk, Failure> {
        let title = match self.lines {
            0 => return Ok(chunk),
            1 => format!("line {} is no job", self.first),
            lines => format!("{lines} lines are no jobs"),
        };
        let failure = self.told.into_iter().fold(Failure::new(title), Failure::detail);
        let failure = if self.more > 0 { failure.detail(format!("and {} more", self.more)) } else { failure };
        Err(failure.tip(r#"a line is a JSON object such as {"kind":"send_email","payload":{"to":"ada"}}"#))
    }
}

/// The ids, as they come; as JSON still one document.
struct Written {
    out: std::io::BufWriter<std::io::Stdout>,
    text: bool,
    count: u64,
    next_line: u64,
}

impl Written {
    fn begin(session: &Session) -> Result<Self, Failure> {
        let out = std::io::BufWriter::new(std::io::stdout());
        let mut this = Self { out, text: session.is_text(), count: 0, next_line: 1 };
        if !this.text {
            this.write(|out| write!(out, "{{\"results\":["))?;
        }
        Ok(this)
    }

    fn results(&mut self, results: &[BulkResult]) -> Outcome {
        for result in results {
            let comma = if self.count == 0 { "" } else { "," };
            if self.text {
                self.write(|out| writeln!(out, "{}", result.id))?;
            } else {
                let text = serde_json::to_string(result).unwrap_or_default();
                self.write(|out| write!(out, "{comma}{text}"))?;
            }
            self.count += 1;
        }
        self.write(Write::flush)
    }

    fn end(&mut self) -> Outcome {
        if self.text {
            return self.write(Write::flush);
        }
        self.write(|out| writeln!(out, "]}}").and_then(|()| out.flush()))
    }

    fn write(
        &mut self,
        what: impl FnOnce(&mut std::io::BufWriter<std::io::Stdout>) -> std::io::Result<()>,
    ) -> Outcome {
        what(&mut self.out).map_err(|error| Failure::of_output(&error))
    }
}

#[cfg(test)]
mod tests {
    use mainstay_api::FieldError;

    use super::*;

    fn lines(text: &str) -> Lines {
        Lines::of(Box::new(std::io::Cursor::new(text.to_owned())))
    }

    #[test]
    fn a_chunk_never_has_more_jobs_than_a_call_takes() {
        let mut lines = lines(&"{\"kind\":\"k\"}\n\n".repeat(CHUNK_JOBS + 3));
        assert_eq!(lines.chunk().unwrap().jobs.len(), CHUNK_JOBS);
        assert_eq!(lines.chunk().unwrap().jobs.len(), 3);
        assert!(lines.chunk().unwrap().jobs.is_empty());
    }

    #[test]
    fn a_chunk_stays_below_the_size_of_a_body() {
        let line = format!("{{\"kind\":\"k\",\"payload\":\"{}\"}}\n", "x".repeat(1_000_000));
        let mut lines = lines(&line.repeat(20));
        let mut chunks = Vec::new();
        loop {
            let jobs = lines.chunk().unwrap().jobs;
            if jobs.is_empty() {
                break;
            }
            let bytes = serde_json::to_vec(&BulkEnqueue { jobs: jobs.clone() }).unwrap().len();
            assert!(bytes < 16 << 20, "{bytes}");
            chunks.push(jobs.len());
        }
        assert_eq!(chunks.iter().sum::<usize>(), 20);
        assert!(chunks.len() > 1);
    }

    #[test]
    fn every_wrong_line_is_named_with_all_that_is_wrong_and_once() {
        let text = "{\"kind\":\"k\"}\n\n{\"kind\":\"\",\"priority\":10}\n[]\n{\"x\n{\"kind\":\"k\"}\n";
        let text = lines(text).chunk().unwrap_err().text();
        for part in ["3 lines are no jobs", "line 3: /kind", "line 3: /priority", "line 4: ", "line 5: "] {
            assert_eq!(text.matches(part).count(), 1, "{part} in {text}");
        }
        let one = lines("{\"kind\":7}\n").chunk().unwrap_err().text();
        assert_eq!(one.matches("/kind").count(), 1, "{one}");
        let many = lines(&"{}\n".repeat(MAX_TOLD + 7)).chunk().unwrap_err().text();
        assert!(many.contains("and 7 more") && many.lines().count() < MAX_TOLD + 5, "{many}");
        assert!(lines("{\"kind\":").chunk().is_err());
    }

    #[test]
    fn lines_are_slowed_down_before_the_queue_is_full() {
        let held = |pressure| hold_back(pressure).as_millis();
        assert_eq!((held(None), held(Some(0.8)), held(Some(1.0))), (0, 0, 1_000));
        assert!(held(Some(0.9)).abs_diff(500) <= 1);
    }

    #[test]
    fn the_last_line_needs_no_end() {
        assert_eq!(lines("{\"kind\":\"a\"}\n{\"kind\":\"b\"}").chunk().unwrap().jobs.len(), 2);
    }

    #[test]
    fn what_the_server_refuses_is_told_by_its_line() {
        let errors = vec![FieldError::new("/jobs/1/payload", "must be at most 10 bytes")];
        let told = in_lines(&Problem::invalid(errors), &[2, 5]);
        assert_eq!(told.detail, "line 5: /payload: must be at most 10 bytes");
        let errors = ["/jobs/0/kind", "/jobs/1/after/0"].map(|at| FieldError::new(at, "no")).to_vec();
        let told = in_lines(&Problem::invalid(errors), &[2, 5]);
        assert_eq!(told.errors[1].detail, "line 5: no");
    }

    #[test]
    fn jobs_that_count_others_are_not_split() {
        let mut lines = lines("{\"kind\":\"a\"}\n{\"kind\":\"b\",\"after\":[\"#0\"]}\n{\"kind\":\"c\"}");
        let chunk = lines.chunk().unwrap();
        assert!(!can_be_split(&chunk.jobs) && can_be_split(&[chunk.jobs[0].clone(), chunk.jobs[2].clone()]));
        lines.again(chunk);
        let sizes = [lines.chunk().unwrap().at, lines.chunk().unwrap().at, lines.chunk().unwrap().at];
        assert_eq!(sizes, [vec![1, 2], vec![3], vec![]]);
    }
}

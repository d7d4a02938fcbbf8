//! `mainstay jobs enqueue --bulk`: a line, a job.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::Duration;

use mainstay_api::client::HttpClient;
use mainstay_api::types::{BulkEnqueue, BulkResult, NewJob};
use mainstay_api::{Limits, strict};

use super::patience::with_patience;
use super::{Failure, Outcome, Session};

/// What the server takes at once.
const CHUNK_JOBS: usize = 10_000;
/// Half of what the server takes: a job may be written a little longer than it was read.
const CHUNK_BYTES: usize = 8 << 20;
/// No job is longer: its payload is bounded at 1 MiB.
const MAX_LINE: u64 = 4 << 20;

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
    let mut lines = Lines { input, number: 0 };
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
        let jobs = lines.chunk()?;
        if jobs.is_empty() {
            return Ok(());
        }
        let jobs = BulkEnqueue { jobs };
        let made =
            with_patience(patience_ms.unwrap_or(0), async || api.enqueue_bulk(queue, &jobs).await).await;
        let made = made.map_err(|error| Failure::of_call(&error, api.url()))?;
        written.results(&made.results)?;
        written.next_line = lines.number + 1;
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

/// Jobs read from lines.
struct Lines {
    input: Box<dyn BufRead>,
    /// Of the line that was read last, from 1.
    number: u64,
}

impl Lines {
    /// The next jobs that fit into one call; none at the end.
    fn chunk(&mut self) -> Result<Vec<NewJob>, Failure> {
        let (mut jobs, mut bytes) = (Vec::new(), 0);
        let mut line = Vec::new();
        while jobs.len() < CHUNK_JOBS && bytes < CHUNK_BYTES {
            line.clear();
            let read = (&mut self.input).take(MAX_LINE).read_until(b'\n', &mut line);
            let read = read.map_err(|error| Failure::new(format!("cannot read the jobs: {error}")))?;
            if read == 0 {
                break;
            }
            self.number += 1;
            if line.trim_ascii().is_empty() {
                continue;
            }
            jobs.push(self.job(&line)?);
            bytes += line.len();
        }
        Ok(jobs)
    }

    /// Checked here, so that what is wrong is told with its line, and nothing of the chunk is made.
    fn job(&self, line: &[u8]) -> Result<NewJob, Failure> {
        // What this version cannot do is the server's to say.
        match strict::parse::<NewJob>(line, &Limits::default()) {
            Ok(parsed) => Ok(parsed.value),
            Err(problem) => {
                let failure = Failure::new(format!("line {} is not a job: {}", self.number, problem.detail));
                let failure = problem.errors.iter().fold(failure, |failure, error| {
                    failure.detail(format!("{}: {}", error.pointer, error.detail))
                });
                Err(failure
                    .tip(r#"a line is a JSON object such as {"kind":"send_email","payload":{"to":"ada"}}"#))
            }
        }
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
    use super::*;

    fn lines(text: &str) -> Lines {
        Lines { input: Box::new(std::io::Cursor::new(text.to_owned())), number: 0 }
    }

    #[test]
    fn a_chunk_never_has_more_jobs_than_a_call_takes() {
        let mut lines = lines(&"{\"kind\":\"k\"}\n\n".repeat(CHUNK_JOBS + 3));
        assert_eq!(lines.chunk().unwrap().len(), CHUNK_JOBS);
        assert_eq!(lines.chunk().unwrap().len(), 3);
        assert!(lines.chunk().unwrap().is_empty());
    }

    #[test]
    fn a_chunk_stays_below_the_size_of_a_body() {
        let line = format!("{{\"kind\":\"k\",\"payload\":\"{}\"}}\n", "x".repeat(1_000_000));
        let mut lines = lines(&line.repeat(20));
        let mut chunks = Vec::new();
        loop {
            let jobs = lines.chunk().unwrap();
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
    fn a_wrong_line_is_named_with_all_that_is_wrong() {
        let text = lines("{\"kind\":\"k\"}\n\n{\"kind\":\"\",\"priority\":10}\n").chunk().unwrap_err().text();
        for part in ["line 3", "/kind", "/priority"] {
            assert!(text.contains(part), "{part} in {text}");
        }
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
        assert_eq!(lines("{\"kind\":\"a\"}\n{\"kind\":\"b\"}").chunk().unwrap().len(), 2);
    }
}

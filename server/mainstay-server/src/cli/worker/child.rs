//! One run of the command.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use mainstay_api::types::ClaimedJob;
use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::Settings;
use crate::cli::process::{Target, at};

/// How much of standard output is kept: what RAM is worth. Whether it is too long for a result is the server's to say,
/// which takes 1 MiB unless it is configured to take more, and at most a body, usually of this length.
pub(super) const MAX_RESULT: usize = 16 << 20;
/// How much of standard error is kept: its end.
const MAX_TAIL: usize = 8 << 10;
/// How long what the command left running may hold its output open.
const LINGER: Duration = Duration::from_millis(500);

/// What the supervisor wants of a run. Only ever goes on, never back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    Run,
    /// SIGTERM, and SIGKILL after a while.
    Stop,
    /// SIGKILL.
    Kill,
}

/// How a run went.
#[derive(Debug)]
pub(super) struct Ended {
    pub exit: Exit,
    pub out: Vec<u8>,
    /// There was more than [`MAX_RESULT`].
    pub too_much: bool,
    /// The end of standard error.
    pub tail: Vec<u8>,
}

#[derive(Debug)]
pub(super) enum Exit {
    /// The command ended, by itself or by our signal.
    Status(ExitStatus),
    /// It was stopped for taking longer than the job allows.
    TimedOut,
    /// It never ran.
    NotStarted(io::Error),
}

/// Runs the command for a job to its end. Dropping the future kills the command (not what it started).
pub(super) async fn run(settings: &Settings, job: &ClaimedJob, mut order: watch::Receiver<Order>) -> Ended {
    let (mut out, mut too_much, mut tail) = (Vec::new(), false, Vec::new());
    let mut child = match spawn(settings, job) {
        Ok(child) => child,
        Err(error) => return Ended { exit: Exit::NotStarted(error), out, too_much, tail },
    };
    let group = Target::group(&child);
    let limits =
        job.timeout_ms.map(|ms| limits(Duration::from_millis(ms), settings.lease, settings.kill_after));
    let payload = payload(job, settings.raw_strings);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let exit = {
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A command need not read its input: a closed pipe is no failure.
                let _ = stdin.write_all(&payload).await;
            }
        };
        let pump =
            async { tokio::join!(feed, head(stdout, &mut out, &mut too_much), end(stderr, &mut tail)) };
        let life = life(&mut child, group, limits, settings.kill_after, &mut order);
        tokio::pin!(pump, life);
        let mut pumped = false;
        let exit = loop {
            tokio::select! {
                exit = &mut life => break exit,
                _ = &mut pump, if !pumped => pumped = true,
            }
        };
        if !pumped && timeout(LINGER, &mut pump).await.is_err() {
            // Somebody of its group still holds the output; the job is over, and nobody would end them later.
            signal(group, Signal::KILL);
        }
        exit
    };
    tail.drain(..tail.len().saturating_sub(MAX_TAIL));
    Ended { exit, out, too_much, tail }
}

fn spawn(settings: &Settings, job: &ClaimedJob) -> io::Result<Child> {
    let (program, arguments) = settings.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    Command::new(program)
        .args(arguments)
        .env("MAINSTAY_JOB_ID", job.id.to_string())
        .env("MAINSTAY_KIND", &job.kind)
        .env("MAINSTAY_QUEUE", &job.queue)
        .env("MAINSTAY_ATTEMPT", job.attempt.to_string())
        .env("MAINSTAY_FENCING_TOKEN", job.token.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: Ctrl-C at the terminal is for the worker, which drains.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// When a time limit sends SIGTERM and SIGKILL, counted from the start.
///
/// A limit beyond the first lease ends the lease with it: then the signals come a little earlier, so that the failure
/// still reaches the server under the lease.
fn limits(limit: Duration, lease: Duration, kill_after: Duration) -> (Duration, Duration) {
    if limit + kill_after < lease {
        return (limit, limit + kill_after);
    }
    let lead = (limit / 5).min(Duration::from_secs(1));
    (limit - lead, limit - lead / 2)
}

async fn life(
    child: &mut Child,
    group: Option<Target>,
    limits: Option<(Duration, Duration)>,
    kill_after: Duration,
    order: &mut watch::Receiver<Order>,
) -> Exit {
    let begun = Instant::now();
    let mut term_at = limits.map(|(term, _)| begun + term);
    let mut kill_at: Option<Instant> = None;
    let mut timed_out = false;
    let mut ordered = true;
    loop {
        tokio::select! {
            // The end of the process counts before anything that would stop it.
            biased;
            status = child.wait() => return match status {
                _ if timed_out => Exit::TimedOut,
                Ok(status) => Exit::Status(status),
                Err(error) => Exit::NotStarted(error),
            },
            changed = order.changed(), if ordered => {
                ordered = changed.is_ok();
                let wanted = if ordered { *order.borrow_and_update() } else { Order::Kill };
                match wanted {
                    Order::Run => {}
                    Order::Stop => {
                        signal(group, Signal::TERM);
                        let by = Instant::now() + kill_after;
                        kill_at = Some(kill_at.map_or(by, |at| at.min(by)));
                    }
                    Order::Kill => signal(group, Signal::KILL),
                }
            }
            () = at(term_at) => {
                term_at = None;
                timed_out = true;
                signal(group, Signal::TERM);
                kill_at = limits.map(|(_, kill)| begun + kill);
            }
            () = at(kill_at) => {
                kill_at = None;
                signal(group, Signal::KILL);
            }
        }
    }
}

fn signal(group: Option<Target>, signal: Signal) {
    if let Some(group) = group {
        group.signal(signal);
    }
}

/// Keeps the beginning; reads on to the end, so that the command is not stopped by a full pipe.
async fn head(from: Option<impl AsyncRead + Unpin>, out: &mut Vec<u8>, too_much: &mut bool) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let kept = read.min((MAX_RESULT + 1).saturating_sub(out.len()));
        out.extend_from_slice(&buffer[..kept]);
        *too_much |= kept < read;
    }
}

/// Keeps the end, and at times some more before it.
async fn end(from: Option<impl AsyncRead + Unpin>, tail: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 4 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        tail.extend_from_slice(&buffer[..read]);
        if tail.len() > 2 * MAX_TAIL {
            tail.drain(..tail.len() - MAX_TAIL);
        }
    }
}

fn payload(job: &ClaimedJob, raw_strings: bool) -> Vec<u8> {
    match job.payload.read::<String>() {
        Ok(text) if raw_strings => text.into_bytes(),
        _ => job.payload.as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ResultKind;
    use super::*;

    pub(super) fn settings(script: &str) -> Settings {
        Settings {
            queues: vec!["q".into()],
            concurrency: 1,
            lease: Duration::from_secs(30),
            drain: Duration::from_secs(30),
            kill_after: Duration::from_millis(200),
            wait_ms: 0,
            permanent_exit: vec![],
            raw_strings: false,
            result: ResultKind::Auto,
            until_empty: false,
            name: "w".into(),
            command: ["sh", "-c", script].map(Into::into).to_vec(),
        }
    }

    fn job(payload: &str) -> ClaimedJob {
        let text = format!(
            r#"{{"id":"019aae51-4f2b-7c3d-8e4f-0123456789ab","queue":"mail","kind":"send","payload":{payload},
            "priority":5,"attempt":2,"max_attempts":20,"crashes":0,"created_at":"1970-01-01T00:00:00Z","meta":{{}},
            "tags":[],"lease":"l","token":77,"expires_at":"1970-01-01T00:00:00Z"}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    async fn ran(script: &str, payload: &str) -> Ended {
        let (_order, orders) = watch::channel(Order::Run);
        run(&settings(script), &job(payload), orders).await
    }

    fn code(ended: &Ended) -> Option<i32> {
        match &ended.exit {
            Exit::Status(status) => status.code(),
            _ => None,
        }
    }

    #[tokio::test]
    async fn the_payload_comes_to_the_byte_and_the_environment_names_the_job() {
        let ended = ran("cat; echo; echo $MAINSTAY_KIND $MAINSTAY_QUEUE $MAINSTAY_ATTEMPT $MAINSTAY_FENCING_TOKEN $MAINSTAY_JOB_ID", r#"{"a":1.10}"#).await;
        let text = String::from_utf8(ended.out).unwrap();
        assert_eq!(text, "{\"a\":1.10}\nsend mail 2 77 019aae51-4f2b-7c3d-8e4f-0123456789ab\n");
    }

    #[tokio::test]
    async fn a_command_that_reads_nothing_of_a_large_payload_succeeds() {
        let ended = ran("exec 0<&-; echo ok", &format!("\"{}\"", "x".repeat(900_000))).await;
        assert_eq!((code(&ended), ended.out.as_slice()), (Some(0), b"ok\n".as_slice()));
    }

    #[tokio::test]
    async fn output_beyond_the_bounds_is_read_but_not_kept() {
        let ended =
            ran("head -c 17000000 /dev/zero; head -c 100000 /dev/zero >&2; echo last >&2; exit 3", "1").await;
        assert_eq!(code(&ended), Some(3));
        assert!(ended.too_much && ended.out.len() == MAX_RESULT + 1);
        assert!(ended.tail.len() == MAX_TAIL && ended.tail.ends_with(b"last\n"));
    }

    #[tokio::test]
    async fn a_stop_is_a_sigterm_to_the_whole_group() {
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        let made = std::process::Command::new("mkfifo").arg(&ready).status().unwrap();
        assert!(made.success());
        // The inner shell is the one that has to hear it.
        let inner =
            format!("trap 'echo heard; exit' TERM; echo > {}; while :; do sleep 0.01; done", ready.display());
        let settings = settings(&format!("sh -c \"{inner}\" & wait"));
        let (order, orders) = watch::channel(Order::Run);
        let stop = async {
            tokio::fs::read(&ready).await.unwrap();
            order.send_replace(Order::Stop);
        };
        let job = job("1");
        let (ended, ()) = tokio::join!(run(&settings, &job, orders), stop);
        assert!(matches!(&ended.exit, Exit::Status(status) if !status.success()), "{ended:?}");
        assert_eq!(ended.out, b"heard\n");
    }

    #[tokio::test]
    async fn what_ignores_sigterm_is_killed() {
        let (order, orders) = watch::channel(Order::Run);
        order.send_replace(Order::Stop);
        let ended = run(&settings("trap '' TERM; while :; do sleep 0.05; done"), &job("1"), orders).await;
        assert!(matches!(&ended.exit, Exit::Status(status) if status.code().is_none()), "{ended:?}");
    }

    #[tokio::test]
    async fn a_run_beyond_its_time_limit_is_ended() {
        let mut job = job("1");
        job.timeout_ms = Some(50);
        let (_order, orders) = watch::channel(Order::Run);
        let ended = run(&settings("exec sleep 60"), &job, orders).await;
        assert!(matches!(ended.exit, Exit::TimedOut), "{ended:?}");
    }

    #[tokio::test]
    async fn what_a_command_leaves_behind_does_not_hold_its_job() {
        let ended = ran("sleep 60 & echo done", "1").await;
        assert_eq!((code(&ended), ended.out.as_slice()), (Some(0), b"done\n".as_slice()));
    }

    #[tokio::test]
    async fn a_command_that_does_not_exist_never_ran() {
        let mut settings = settings("");
        settings.command = vec!["/nonexistent/command".into()];
        let (_order, orders) = watch::channel(Order::Run);
        let ended = run(&settings, &job("1"), orders).await;
        assert!(matches!(&ended.exit, Exit::NotStarted(error) if error.kind() == io::ErrorKind::NotFound));
    }

    #[test]
    fn a_limit_that_ends_the_lease_leaves_time_to_tell() {
        let ms = Duration::from_millis;
        assert_eq!(limits(ms(1_000), ms(30_000), ms(5_000)), (ms(1_000), ms(6_000)));
        assert_eq!(limits(ms(60_000), ms(30_000), ms(5_000)), (ms(59_000), ms(59_500)));
        assert_eq!(limits(ms(1_000), ms(1_000), ms(5_000)), (ms(800), ms(900)));
    }

    #[test]
    fn a_string_is_its_text_only_when_asked() {
        assert_eq!(payload(&job(r#""a\nb""#), false), br#""a\nb""#);
        assert_eq!(payload(&job(r#""a\nb""#), true), b"a\nb");
        assert_eq!(payload(&job("[1]"), true), b"[1]");
    }
}

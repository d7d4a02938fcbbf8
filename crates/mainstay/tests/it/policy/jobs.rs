//! Policies in jobs: from the configuration, beside the job's own retries.

use std::future::{pending, ready};
use std::io;
use std::sync::{Arc, Mutex};

use mainstay::config::Loader;
use mainstay::core::job::{JobRecord, JobState};
use mainstay::policy::{self, Policies, Policy, PolicyLayer, Retry, Verdict};
use mainstay::{App, Boot, Client, Job, JobContext, JobError, Result, Workers, millis, secs};
use serde::{Deserialize, Serialize};
use tower::{Layer, ServiceExt, service_fn};

use super::{plain, target, transient};

#[derive(Serialize, Deserialize)]
struct Send(String);
impl Job for Send {
    const KIND: &'static str = "send";
    const QUEUE: &'static str = "mail";
}

/// The target of the jobs, and what it answers them.
#[derive(Clone)]
struct Mailer;
impl Mailer {
    async fn send(&self, to: &str) -> io::Result<()> {
        if to == "down" { Err(transient()) } else { Ok(()) }
    }
}

/// Runs these workers with these settings while `during` runs.
async fn with_workers<S: Clone + std::marker::Send + Sync + 'static>(
    settings: &[(&str, &str)],
    workers: Workers<S>,
    during: impl AsyncFnOnce(Client, Policies),
) {
    let client = Client::memory();
    let mut loader = Loader::new("test").variables::<String, String>([]).flag("admin_listen", "off", "test");
    for (key, value) in settings.iter().chain(&[("lame_duck_ms", "0"), ("grace_ms", "5000")]) {
        loader = loader.flag(*key, value, "test");
    }
    let (up, policies) = tokio::sync::oneshot::channel();
    let workers = workers.from(client.clone());
    let boot = async |b: &mut Boot<()>| -> Result<()> {
        let _ = up.send(b.policies());
        b.workers(workers);
        Ok(())
    };
    let app = App::new("test").config(loader);
    let ended = app.run_until(boot, async { during(client, policies.await.unwrap()).await }).await;
    assert_eq!(ended.exit_code(), 0, "{ended:?}");
}

async fn settled(client: &Client, to: &str) -> JobRecord {
    let id = client.enqueue(Send(to.into())).await.unwrap().id;
    client.finished(id, secs(20), pending()).await.unwrap().unwrap()
}

/// The job once it waits again.
async fn put_off(client: &Client, to: &str) -> JobRecord {
    let id = client.enqueue(Send(to.into())).await.unwrap().id;
    tokio::time::timeout(secs(20), async {
        loop {
            let job = client.job(id).await.unwrap().unwrap();
            if matches!(job.state, JobState::Retryable | JobState::Scheduled) {
                return job;
            }
            tokio::time::sleep(millis(2)).await;
        }
    })
    .await
    .expect("the job is put off")
}

const OPENS_AT_ONCE: &[(&str, &str)] = &[
    ("policies.smtp.breaker.consecutive_failures", "1"),
    ("policies.smtp.breaker.open_ms", "60000"),
    ("policies.smtp.retry.max_attempts", "1"),
];

#[tokio::test]
async fn a_job_calls_others_under_the_policies_of_the_configuration() {
    async fn send(job: Send, cx: JobContext<Mailer>) -> Result<(), JobError> {
        cx.policy("smtp").run(|_| cx.send(&job.0)).await?;
        Ok(())
    }
    with_workers(OPENS_AT_ONCE, Workers::new("mail", Mailer).on(send), async |client, policies| {
        assert_eq!(settled(&client, "ada").await.state, JobState::Completed);
        assert_eq!(policies.target("smtp").policy().breaker.consecutive_failures, 1);
        // The failure spends an attempt; the breaker that it opens does not.
        assert_eq!(put_off(&client, "down").await.attempt, 1);
        let refused = put_off(&client, "ada").await;
        assert_eq!((refused.attempt, refused.state), (0, JobState::Scheduled));
        let wait = refused.run_at.0 - client.now().wall.0;
        assert!((20_000..=60_000).contains(&wait), "until the breaker may have closed: {wait}");
    })
    .await;
}

#[tokio::test]
async fn a_long_wait_becomes_the_jobs_own_delay() {
    async fn send(_: Send, cx: JobContext<Mailer>) -> Result<(), JobError> {
        let smtp = cx.policy("smtp");
        let call = smtp.call().errors(|_: &io::Error| Verdict::RetryAfter(secs(9)));
        call.run(|_| ready(Err::<(), _>(transient()))).await?;
        Ok(())
    }
    with_workers(&[], Workers::new("mail", Mailer).on(send), async |client, _| {
        let job = put_off(&client, "ada").await;
        assert_eq!((job.attempt, job.state), (1, JobState::Retryable));
        let wait = job.run_at.0 - client.now().wall.0;
        assert!((8_000..=10_000).contains(&wait), "what the target asked for, and no slot waits: {wait}");
    })
    .await;
}

#[tokio::test]
async fn what_a_job_calls_on_its_second_attempt_is_tried_again_as_on_its_first() {
    /// How often each call was made on the second attempt, and what the request said of itself.
    type Counts = Arc<Mutex<(u32, u32, Vec<Option<http::HeaderValue>>)>>;
    async fn send(_: Send, cx: JobContext<Counts>) -> Result<(), JobError> {
        if cx.attempt() == 1 {
            return Err(JobError::retry_after(millis(1), "once more"));
        }
        let rules = Retry { base_ms: 1, ..plain().retry };
        let _ = policy::retry(rules, || {
            cx.lock().unwrap().0 += 1;
            ready(Err::<(), _>(transient()))
        })
        .await;
        // Not of the job's own context: one of the program's.
        let elsewhere = target(Policy { retry: rules, ..plain() });
        let _ = elsewhere
            .run(|_| {
                cx.lock().unwrap().1 += 1;
                ready(Err::<(), _>(transient()))
            })
            .await;
        let service = service_fn(move |request: http::Request<()>| {
            cx.lock().unwrap().2.push(request.headers().get("x-retry-attempt").cloned());
            ready(Ok::<_, io::Error>(http::Response::builder().status(503).body(()).unwrap()))
        });
        let client = PolicyLayer::new(elsewhere).layer(service);
        let _ = client.oneshot(http::Request::new(())).await;
        Ok(())
    }
    let counts = Counts::default();
    with_workers(&[], Workers::new("mail", counts.clone()).on(send), async |client, _| {
        let job = settled(&client, "ada").await;
        assert_eq!((job.state, job.attempt), (JobState::Completed, 2));
    })
    .await;
    let counts = counts.lock().unwrap();
    let said = [None, Some("1".parse().unwrap()), Some("2".parse().unwrap())];
    assert_eq!(
        (counts.0, counts.1, &*counts.2),
        (3, 3, &said[..]),
        "a job's attempt is no retry of its calls"
    );
}

#[tokio::test]
async fn attempts_of_a_kind_can_go_through_a_policy() {
    async fn send(job: Send, cx: JobContext<Mailer>) -> Result<(), JobError> {
        Ok(cx.send(&job.0).await?)
    }
    let workers = Workers::new("mail", Mailer).on(send).policy(Send::KIND, "smtp");
    with_workers(OPENS_AT_ONCE, workers, async |client, _| {
        assert_eq!(settled(&client, "ada").await.state, JobState::Completed);
        assert_eq!(put_off(&client, "down").await.attempt, 1);
        let refused = put_off(&client, "ada").await;
        assert_eq!((refused.attempt, refused.state), (0, JobState::Scheduled));
    })
    .await;
}

#[test]
fn wrong_policies_are_configuration_problems_with_their_place() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    io::Write::write_all(
        &mut file,
        b"grace_ms = 9000\n[policies.smtp]\nretry = { max_attempts = 0 }\n[policies.sms]\nbulkhead = { max_concurrent = 0 }\n",
    )
    .unwrap();
    let told = |file: &tempfile::NamedTempFile| {
        let loader = Loader::<()>::new("test").variables::<String, String>([]).file(file.path());
        loader.load().unwrap_err().to_string()
    };
    let problems = told(&file);
    assert!(problems.contains("policies.smtp.retry.max_attempts: must be at least 1"), "{problems}");
    assert!(problems.contains("policies.sms.bulkhead.max_concurrent: must be at least 1"), "{problems}");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    io::Write::write_all(&mut file, b"[policies.smtp]\nretries = 3\n").unwrap();
    assert!(told(&file).contains("unknown field `retries`"), "{}", told(&file));
}

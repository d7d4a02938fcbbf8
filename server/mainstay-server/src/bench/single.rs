//! The server over HTTP, one job a call.

use std::{fmt::Write, net::SocketAddr, sync::Arc};

use serde::Deserialize;

use super::{
    Error, Result,
    cell::Spec,
    drive::{Lap, Subject},
    payload::{Random, write_json},
    store::{KIND, LEASE_MS},
    wire::Connection,
};

pub(super) struct SingleCalls {
    server: SocketAddr,
    queues: usize,
    payload_bytes: usize,
}

pub(super) struct Caller {
    connection: Connection,
    random: Random,
    enqueue_path: String,
    claim: String,
    body: String,
    last: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Claimed<'a> {
    #[serde(borrow)]
    pub(super) jobs: Vec<Granted<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Granted<'a> {
    pub(super) id: &'a str,
    pub(super) lease: &'a str,
}

#[derive(Deserialize)]
struct State<'a> {
    state: &'a str,
}

impl SingleCalls {
    pub(super) fn new(server: SocketAddr, spec: &Spec) -> Arc<SingleCalls> {
        Arc::new(SingleCalls { server, queues: spec.queues, payload_bytes: spec.payload_bytes })
    }
}

/// The body of a claim.
pub(super) fn claim(queue: usize, max: usize) -> String {
    format!(r#"{{"queues":["bench-{queue}"],"max":{max},"lease_ms":{LEASE_MS}}}"#)
}

/// Appends a job as JSON.
pub(super) fn write_job(random: &mut Random, payload_bytes: usize, into: &mut String) {
    let _ = write!(into, r#"{{"kind":"{KIND}","payload":"#);
    write_json(random, payload_bytes, into);
    into.push('}');
}

pub(super) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(Error::doing("an answer that is not understood here"))
}

impl Subject for SingleCalls {
    type Caller = Caller;

    fn steps(&self) -> &'static [&'static str] {
        &["enqueue", "claim", "complete"]
    }

    async fn caller(&self, number: usize) -> Result<Caller> {
        let queue = number % self.queues;
        Ok(Caller {
            connection: Connection::open(self.server).await?,
            random: Random::new(number as u64),
            enqueue_path: format!("/v1/queues/bench-{queue}/jobs"),
            claim: claim(queue, 1),
            body: String::new(),
            last: None,
        })
    }

    async fn cycle(&self, caller: &mut Caller, lap: &Lap) -> Result<u64> {
        let Caller { connection, random, enqueue_path, claim, body, last } = caller;
        body.clear();
        write_job(random, self.payload_bytes, body);
        lap.step(0, connection.ask("POST", enqueue_path, body)).await?;
        let answer = lap.step(1, connection.ask("POST", "/v1/jobs/claim", claim)).await?;
        let claimed: Claimed<'_> = read(answer)?;
        let [job] = claimed.jobs.as_slice() else {
            return Err(Error::new("a job was lost: there was none to claim"));
        };
        let path = format!("/v1/jobs/{}/complete", job.id);
        body.clear();
        let _ = write!(body, r#"{{"lease":"{}"}}"#, job.lease);
        *last = Some(job.id.to_owned());
        let answer = lap.step(2, connection.ask("POST", &path, body)).await?;
        expect_completed(read(answer)?)?;
        Ok(1)
    }

    async fn finish(&self, caller: &mut Caller) -> Result<u64> {
        if let Some(id) = caller.last.take() {
            look_up(&mut caller.connection, &id).await?;
        }
        Ok(0)
    }
}

/// What was answered as completed must be found completed.
pub(super) async fn look_up(connection: &mut Connection, id: &str) -> Result<()> {
    let body = connection.ask("GET", &format!("/v1/jobs/{id}"), "").await?;
    expect_completed(read(body)?)
}

fn expect_completed(found: State<'_>) -> Result<()> {
    match found.state {
        "completed" => Ok(()),
        other => Err(Error::new(format!("a completed job is said to be {other}"))),
    }
}

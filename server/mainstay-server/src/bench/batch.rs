//! The server over HTTP, many jobs a call: a bulk enqueue, then a settle of the last batch fused with the next claim.

use std::{fmt::Write, net::SocketAddr, sync::Arc};

use serde::{Deserialize, de::IgnoredAny};

use super::{
    Error, Result,
    cell::Spec,
    drive::{Lap, Subject},
    payload::Random,
    single::{Claimed, Granted, claim, look_up, read, write_job},
    wire::Connection,
};

pub(super) struct Batches {
    server: SocketAddr,
    queues: usize,
    payload_bytes: usize,
    batch: usize,
}

pub(super) struct Caller {
    connection: Connection,
    random: Random,
    enqueue_path: String,
    claim: String,
    body: String,
    /// The items of the next settle, as JSON, and how many.
    items: String,
    held: usize,
    last: Option<String>,
}

#[derive(Deserialize)]
struct Settled<'a> {
    #[serde(borrow)]
    results: Vec<Item<'a>>,
    #[serde(borrow, default)]
    jobs: Vec<Granted<'a>>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    state: Option<&'a str>,
    error: Option<IgnoredAny>,
}

impl Batches {
    pub(super) fn new(server: SocketAddr, spec: &Spec) -> Arc<Batches> {
        let (queues, payload_bytes, batch) = (spec.queues, spec.payload_bytes, spec.batch);
        Arc::new(Batches { server, queues, payload_bytes, batch })
    }
}

impl Caller {
    /// Completes what is held, and with `claim` takes more; answers how many were completed.
    async fn settle(&mut self, with_claim: bool) -> Result<u64> {
        self.body.clear();
        let _ = write!(self.body, r#"{{"items":[{}]"#, self.items);
        if with_claim {
            let _ = write!(self.body, r#","claim":{}"#, self.claim);
        }
        self.body.push('}');
        let answer = self.connection.ask("POST", "/v1/jobs/settle", &self.body).await?;
        let settled: Settled<'_> = read(answer)?;
        let good = |item: &&Item<'_>| item.state == Some("completed") && item.error.is_none();
        let done = settled.results.iter().filter(good).count();
        if done != self.held {
            return Err(Error::new(format!("of {} jobs, {done} were completed", self.held)));
        }
        self.held = hold(&settled.jobs, &mut self.items, &mut self.last);
        Ok(done as u64)
    }
}

/// Keeps what was granted for the next settle.
fn hold(jobs: &[Granted<'_>], items: &mut String, last: &mut Option<String>) -> usize {
    items.clear();
    for job in jobs {
        let comma = if items.is_empty() { "" } else { "," };
        let _ = write!(items, r#"{comma}{{"id":"{}","lease":"{}","outcome":"complete"}}"#, job.id, job.lease);
    }
    if let Some(job) = jobs.last() {
        *last = Some(job.id.to_owned());
    }
    jobs.len()
}

impl Subject for Batches {
    type Caller = Caller;

    fn steps(&self) -> &'static [&'static str] {
        &["enqueue", "settle+claim"]
    }

    async fn caller(&self, number: usize) -> Result<Caller> {
        let queue = number % self.queues;
        Ok(Caller {
            connection: Connection::open(self.server).await?,
            random: Random::new(number as u64),
            enqueue_path: format!("/v1/queues/bench-{queue}/jobs/bulk"),
            claim: claim(queue, self.batch),
            body: String::new(),
            items: String::new(),
            held: 0,
            last: None,
        })
    }

    async fn cycle(&self, caller: &mut Caller, lap: &Lap) -> Result<u64> {
        caller.body.clear();
        caller.body.push_str(r#"{"jobs":["#);
        for i in 0..self.batch {
            if i > 0 {
                caller.body.push(',');
            }
            write_job(&mut caller.random, self.payload_bytes, &mut caller.body);
        }
        caller.body.push_str("]}");
        lap.step(0, caller.connection.ask("POST", &caller.enqueue_path, &caller.body)).await?;
        let done = if caller.held == 0 {
            let Caller { connection, claim, items, last, .. } = caller;
            let claimed: Claimed<'_> = read(connection.ask("POST", "/v1/jobs/claim", claim).await?)?;
            caller.held = hold(&claimed.jobs, items, last);
            0
        } else {
            lap.step(1, caller.settle(true)).await?
        };
        // Everybody enqueues before claiming as many from the same queue: there are always enough.
        if caller.held == self.batch {
            return Ok(done);
        }
        Err(Error::new(format!("jobs were lost: {} of {} could be claimed", caller.held, self.batch)))
    }

    async fn finish(&self, caller: &mut Caller) -> Result<u64> {
        if caller.held == 0 {
            return Ok(0);
        }
        let done = caller.settle(false).await?;
        if let Some(id) = caller.last.take() {
            look_up(&mut caller.connection, &id).await?;
        }
        Ok(done)
    }
}

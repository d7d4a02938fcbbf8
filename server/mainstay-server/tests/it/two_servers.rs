//! Two servers on one PostgreSQL.

use std::{net::SocketAddr, path::Path, time::Duration};

use mainstay_testkit::cluster::{Cluster, PATIENCE};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::client::{Reply, Request, read};

/// A server of its own process.
struct Server {
    child: Child,
    api: SocketAddr,
}

impl Server {
    async fn start(dir: &Path, name: &str, store: &str) -> Server {
        let file = dir.join(format!("{name}.json"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off", "--log-level", "error"]);
        command.args(["--lame-duck-ms", "0", "--store", store, "--addr-file"]).arg(&file);
        let child = command.current_dir(dir).env_clear().kill_on_drop(true).spawn().unwrap();
        let mut text = String::new();
        until("the server is up", async || {
            text = std::fs::read_to_string(&file).unwrap_or_default();
            !text.is_empty()
        })
        .await;
        let addresses: Value = serde_json::from_str(&text).unwrap();
        Server { child, api: addresses["api"].as_str().unwrap().parse().unwrap() }
    }

    fn request(&self, method: &str, path: &str) -> Request {
        Request::new(self.api, method, path)
    }

    async fn enqueue(&self) -> String {
        let made = self.request("POST", "/v1/queues/q/jobs").json(json!({ "kind": "k" })).send().await;
        made.is(201)["id"].as_str().unwrap().to_owned()
    }

    async fn claim(&self) -> Vec<Value> {
        let asked = json!({ "queues": ["q"], "max": 10, "lease_ms": 2_000 });
        let claimed = self.request("POST", "/v1/jobs/claim").json(asked).send().await;
        if claimed.status == 200 { claimed.json()["jobs"].as_array().unwrap().clone() } else { Vec::new() }
    }

    /// Whether all its threads have been stopped.
    fn stands_still(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id().unwrap())).unwrap();
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
        })
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id().unwrap() as i32).unwrap(), signal).unwrap();
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
}

fn store(name: &str) -> String {
    format!("{}?schema=s{}_{name}&lease_ms=1000", Cluster::url(), std::process::id())
}

fn ids(jobs: &[Value]) -> Vec<&str> {
    let mut ids: Vec<_> = jobs.iter().map(|job| job["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn one_server_has_the_jobs_of_another_that_is_killed() {
    let (dir, store) = (tempfile::tempdir().unwrap(), store("killed"));
    let first = Server::start(dir.path(), "first", &store).await;
    let second = Server::start(dir.path(), "second", &store).await;
    let mut made = [first.enqueue().await, second.enqueue().await, first.enqueue().await];
    made.sort_unstable();
    let held = first.claim().await;
    assert_eq!(ids(&held), made);
    // Places and limits are one over both.
    assert!(second.claim().await.is_empty());
    first.signal(Signal::KILL);
    let mut again = Vec::new();
    until("the other has its jobs", async || {
        again.extend(second.claim().await);
        again.len() >= 3
    })
    .await;
    assert_eq!(ids(&again), made);
    // What the dead one's worker held is worth nothing any more, and the tokens have grown.
    for (old, new) in held.iter().map(|old| (old, again.iter().find(|new| new["id"] == old["id"]).unwrap())) {
        assert!(new["token"].as_u64() > old["token"].as_u64(), "{old} {new}");
        let path = format!("/v1/jobs/{}/complete", old["id"].as_str().unwrap());
        second.request("POST", &path).json(json!({ "lease": old["lease"] })).send().await.is(409);
        second.request("POST", &path).json(json!({ "lease": new["lease"] })).send().await.is(200);
    }
}

/// What was asked of it while it was stopped is answered when it goes on: by then another has led for long.
#[tokio::test]
async fn a_server_that_was_stopped_beyond_its_lease_does_not_answer_from_memory() {
    let (dir, store) = (tempfile::tempdir().unwrap(), store("stopped"));
    let first = Server::start(dir.path(), "first", &store).await;
    let second = Server::start(dir.path(), "second", &store).await;
    first.enqueue().await;
    for round in 1..=5 {
        let path = "/v1/queues/q";
        // Whoever leads is stopped.
        let leads = |server: &Server| server.request("GET", path).send();
        let (stopped, other) = if round % 2 == 1 { (&first, &second) } else { (&second, &first) };
        assert_eq!(leads(stopped).await.is(200)["depth"]["available"], round);
        stopped.signal(Signal::STOP);
        // What it takes before it stands still it may answer as things are.
        until("it stands still", async || stopped.stands_still()).await;
        let mut open = Vec::new();
        for _ in 0..30 {
            open.push(stopped.request("GET", path).open().await);
        }
        // Another leads, and things change.
        until("the other serves", async || {
            let made = other.request("POST", "/v1/queues/q/jobs").json(json!({ "kind": "k" }));
            made.send().await.status == 201
        })
        .await;
        stopped.signal(Signal::CONT);
        for mut stream in open {
            let reply: Reply = read(&mut stream, "GET").await;
            if reply.status == 200 {
                assert_eq!(reply.json()["depth"]["available"], round + 1, "an answer from before");
            } else {
                assert_eq!(reply.status, 503, "{reply:?}");
            }
        }
        until("it serves again", async || leads(stopped).await.status == 200).await;
    }
}

/// An answer in time: nobody is left waiting for what the one that led took with it.
async fn answer(what: &str, mut stream: TcpStream) -> Reply {
    let answer = tokio::time::timeout(PATIENCE, read(&mut stream, "POST")).await;
    answer.unwrap_or_else(|_| panic!("no answer: {what}"))
}

#[tokio::test]
async fn who_waits_at_a_server_is_served_when_the_other_one_led_and_ends() {
    for (name, signal) in [("led_killed", Signal::KILL), ("led_stopped", Signal::TERM)] {
        let (dir, store) = (tempfile::tempdir().unwrap(), store(name));
        let mut first = Server::start(dir.path(), "first", &store).await;
        let second = Server::start(dir.path(), "second", &store).await;
        let third = Server::start(dir.path(), "third", &store).await;
        let every_second = json!({ "cron": "* * * * * *", "queue": "ticks", "job": { "kind": "tick" } });
        first.request("PUT", "/v1/schedules/s").json(every_second).send().await.is(200);
        let lock = json!({ "owner": "a", "ttl_ms": 10_000 });
        first.request("POST", "/v1/locks/l/acquire").json(lock).send().await.is(200);
        let pending = first.enqueue().await;
        let long = json!({ "queues": ["q"], "lease_ms": 60_000 });
        let held = first.request("POST", "/v1/jobs/claim").json(long).send().await.is(200);
        let mut waiting = Vec::new();
        for server in [&second, &third] {
            let claim = json!({ "queues": ["later"], "wait_ms": 60_000, "lease_ms": 60_000 });
            let result = server.request("GET", &format!("/v1/jobs/{pending}/result?wait_ms=60000"));
            let acquire = json!({ "owner": "b", "ttl_ms": 1_000, "wait_ms": 60_000 });
            waiting.push((
                server.request("POST", "/v1/jobs/claim").json(claim).open().await,
                result.open().await,
                server.request("POST", "/v1/locks/l/acquire").json(acquire).open().await,
            ));
        }
        // By then they wait.
        until("both wait for the lock", async || {
            let lock = first.request("GET", "/v1/locks/l").send().await;
            lock.status == 200 && lock.json()["waiting"] == 2
        })
        .await;
        first.signal(signal);
        first.child.wait().await.unwrap();
        for _ in 0..2 {
            until("a job for one of them", async || {
                let job = json!({ "kind": "k" });
                second.request("POST", "/v1/queues/later/jobs").json(job).send().await.status == 201
            })
            .await;
        }
        let path = format!("/v1/jobs/{pending}/complete");
        let complete = json!({ "lease": held["jobs"][0]["lease"] });
        second.request("POST", &path).json(complete).send().await.is(200);
        for (claim, result, acquire) in waiting {
            let claimed = answer("a claim", claim).await.is(200);
            assert_eq!(claimed["jobs"].as_array().unwrap().len(), 1, "{claimed}");
            answer("a result", result).await.is(200);
            answer("an acquire", acquire).await.is(200);
        }
        let ticks = async || {
            let claim = json!({ "queues": ["ticks"], "max": 1_000, "lease_ms": 60_000 });
            let ticks = third.request("POST", "/v1/jobs/claim").json(claim).send().await.is(200);
            ticks["jobs"].as_array().unwrap().len()
        };
        ticks().await;
        until("the schedule goes on", async || ticks().await > 0).await;
    }
}

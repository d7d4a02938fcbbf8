//! A process of clients: they take locks, work under them, overstay, and give them back, and note all of it.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use mainstay::core::{lock::LockMode, rules::mix};
use mainstay_testkit::history::{Asked, Call, Got, Register, line::Waited};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    TASK, TTL_MS, micros,
    notes::{LINE, Note},
    wire::ask,
};

#[test]
#[ignore = "a part of the test of histories, in a process of its own"]
fn a_client_process() {
    let Ok(task) = std::env::var(TASK) else { return };
    let words: Vec<&str> = task.splitn(5, ' ').collect();
    let number = |at: usize| words[at].parse::<u64>().expect("a number");
    let process = Process {
        api: words[0].parse().expect("an address"),
        number: number(1),
        seed: number(2),
        end: number(3),
        folder: words[4].into(),
        draws: AtomicU64::new(0),
        calls: AtomicU64::new(0),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        tokio::join!(process.contend(0), process.contend(1), process.contend(2), process.stand_in_line());
    });
}

struct Process {
    api: SocketAddr,
    number: u64,
    seed: u64,
    end: u64,
    folder: PathBuf,
    draws: AtomicU64,
    calls: AtomicU64,
}

/// A grant, as its client knows it.
struct Held {
    lock: &'static str,
    client: u64,
    token: u64,
    lease: String,
}

const TWO: LockMode = LockMode::Semaphore { permits: 2 };

impl Process {
    async fn contend(&self, n: u64) {
        let client = self.number * 10 + n;
        while micros() < self.end {
            let (lock, mode) = match self.below(8) {
                0..=2 => ("one", LockMode::Exclusive),
                3 => ("other", LockMode::Exclusive),
                4 => ("readers", LockMode::Exclusive),
                5 | 6 => ("readers", LockMode::Shared),
                _ => ("permits", TWO),
            };
            let wait_ms = [0, 300, 1_500][self.below(3) as usize];
            let Some(held) = self.acquire(client, lock, mode, wait_ms).await else {
                sleep(Duration::from_millis(self.below(30))).await;
                continue;
            };
            self.work(&held, mode).await;
            // Now and then one is left to run out.
            if self.below(10) > 0 {
                self.release(&held).await;
            }
        }
    }

    async fn work(&self, held: &Held, mode: LockMode) {
        for _ in 0..self.below(4) {
            match self.below(5) {
                0 => self.renew(held).await,
                1 => self.check(held).await,
                2 => self.guarded_commit(held).await,
                // What readers do needs no order.
                3 if mode == LockMode::Exclusive => self.write(held),
                _ => sleep(Duration::from_millis(self.below(40))).await,
            }
        }
        if self.below(15) == 0 {
            // It overstays, and does not know.
            sleep(Duration::from_millis(TTL_MS + self.below(500))).await;
            if mode == LockMode::Exclusive {
                self.write(held);
            }
            self.guarded_commit(held).await;
            self.renew(held).await;
        }
    }

    /// Asks, and asks again with the same ticket when no answer came: each is a call of its own, for each may have
    /// had a grant; what a later one gets may have been granted since the first.
    async fn acquire(&self, client: u64, lock: &'static str, mode: LockMode, wait_ms: u64) -> Option<Held> {
        let mut body = json!({ "owner": format!("c{client}"), "ttl_ms": TTL_MS, "wait_ms": wait_ms });
        match mode {
            LockMode::Exclusive => {}
            LockMode::Shared => body["mode"] = "shared".into(),
            LockMode::Semaphore { permits } => body["permits"] = permits.into(),
        }
        let key = format!("{client}-{}", self.calls.load(Ordering::Relaxed));
        let path = format!("/v1/locks/{lock}/acquire");
        let mut first = None;
        for _ in 0..3 {
            let mut call = self.begin(client, lock, Asked::Acquire { mode, ttl_ms: TTL_MS, wait_ms });
            let first = *first.get_or_insert(call.1.from);
            // Now and then its connection breaks, before or after the server has done it.
            let cut = (self.below(6) == 0).then(|| Duration::from_millis(self.below(30)));
            match ask(self.api, "POST", &path, Some(&key), &body, cut).await {
                Some((200, grant)) => {
                    let token = grant["token"].as_u64()?;
                    call.1.from = first;
                    self.end(call, Got::Granted(token));
                    return Some(Held { lock, client, token, lease: grant["lease"].as_str()?.to_owned() });
                }
                Some((409, problem)) if problem["code"] == "lock-held" => {
                    self.end(call, Got::Held);
                    return None;
                }
                // It has to be told of, or may have happened.
                _ => sleep(Duration::from_millis(self.below(60))).await,
            }
        }
        None
    }

    async fn renew(&self, held: &Held) {
        let asked = Asked::Renew { token: held.token, ttl_ms: TTL_MS };
        self.on_lease(held, asked, "renew", json!({ "lease": held.lease, "ttl_ms": TTL_MS })).await;
    }

    async fn release(&self, held: &Held) -> Option<Got> {
        let asked = Asked::Release { token: held.token };
        self.on_lease(held, asked, "release", json!({ "lease": held.lease })).await
    }

    async fn on_lease(&self, held: &Held, asked: Asked, verb: &str, body: Value) -> Option<Got> {
        let call = self.begin(held.client, held.lock, asked);
        let cut = (self.below(12) == 0).then(|| Duration::from_millis(self.below(20)));
        let path = format!("/v1/locks/{}/{verb}", held.lock);
        let got = match ask(self.api, "POST", &path, None, &body, cut).await? {
            (200, _) => Got::Done,
            (409, problem) if problem["code"] == "lock-lost" => Got::Lost,
            _ => return None,
        };
        self.end(call, got);
        Some(got)
    }

    async fn check(&self, held: &Held) {
        let call = self.begin(held.client, held.lock, Asked::Check { token: held.token });
        let path = format!("/v1/locks/{}/check", held.lock);
        let answer = ask(self.api, "POST", &path, None, &json!({ "token": held.token }), None).await;
        if let Some((200, answer)) = answer {
            let current = answer["current_token"].as_u64();
            self.end(call, Got::Checked { valid: answer["valid"] == true, current });
        }
    }

    async fn guarded_commit(&self, held: &Held) {
        let call = self.begin(held.client, held.lock, Asked::Use { token: held.token });
        let body = json!({
            "require": [{ "lock": held.lock, "token": held.token }],
            "ops": [{ "op": "enqueue", "queue": "guarded", "kind": "k" }],
        });
        match ask(self.api, "POST", "/v1/commit", None, &body, None).await {
            Some((200, _)) => self.end(call, Got::Done),
            Some((409, problem)) if problem["errors"][0]["pointer"] == "/require/0" => {
                self.end(call, Got::Lost)
            }
            _ => {}
        }
    }

    /// Writes to what the lock protects: a file that all processes share.
    fn write(&self, held: &Held) {
        let path = self.folder.join(format!("register-{}", held.lock));
        let mut file = File::options().create(true).read(true).append(true).open(path).expect("a register");
        file.lock().expect("a register");
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut text)).expect("a register");
        let mut register = Register::default();
        text.lines().filter_map(|line| line.parse().ok()).for_each(|token| {
            register.write(token);
        });
        if register.write(held.token) {
            file.write_all(format!("{}\n", held.token).as_bytes()).expect("a register");
        } else {
            self.note(&Note::Refused { token: held.token, at: micros() });
        }
    }

    /// Waits for its turn, on one connection, and looks meanwhile whether it is in the line.
    async fn stand_in_line(&self) {
        let client = self.number * 10 + 9;
        let mut round = 0;
        while micros() < self.end {
            round += 1;
            let owner = format!("l{client}-{round}");
            let wait_ms = 20_000;
            let body = json!({ "owner": owner, "ttl_ms": TTL_MS, "wait_ms": wait_ms });
            let asked = Asked::Acquire { mode: LockMode::Exclusive, ttl_ms: TTL_MS, wait_ms };
            let call = self.begin(client, LINE, asked);
            let from = call.1.from;
            let acquire = ask(self.api, "POST", "/v1/locks/line/acquire", None, &body, None);
            let mut acquire = std::pin::pin!(acquire);
            let mut seen = None;
            let answer = loop {
                if seen.is_some() {
                    break acquire.as_mut().await;
                }
                tokio::select! {
                    biased;
                    answer = acquire.as_mut() => break answer,
                    found = self.is_in_line(&owner) => seen = found,
                }
            };
            match answer {
                Some((200, grant)) => {
                    let Some(token) = grant["token"].as_u64() else { continue };
                    self.end(call, Got::Granted(token));
                    self.note(&Note::Waited(Waited { lock: LINE.into(), from, seen, token }));
                    let lease = grant["lease"].as_str().unwrap_or_default().to_owned();
                    sleep(Duration::from_millis(self.below(8))).await;
                    self.release(&Held { lock: LINE, client, token, lease }).await;
                }
                Some((409, problem)) if problem["code"] == "lock-held" => self.end(call, Got::Held),
                _ => sleep(Duration::from_millis(30)).await,
            }
        }
    }

    /// When it was seen there.
    async fn is_in_line(&self, owner: &str) -> Option<u64> {
        let (_, lock) =
            ask(self.api, "GET", "/v1/locks/line", None, &Value::Null, None).await.unwrap_or_default();
        let waiters = lock["waiters"].as_array().cloned().unwrap_or_default();
        if waiters.iter().any(|waiter| waiter["owner"] == owner) {
            return Some(micros());
        }
        sleep(Duration::from_millis(2)).await;
        None
    }

    /// Notes that a call is about to be sent: should nobody hear more of it, it may have happened.
    fn begin(&self, client: u64, lock: &str, asked: Asked) -> (u64, Call) {
        let id = self.calls.fetch_add(1, Ordering::Relaxed);
        let call = Call { client, lock: lock.into(), asked, got: Got::Nothing, from: micros(), to: None };
        self.note(&Note::Call(id, call.clone()));
        (id, call)
    }

    fn end(&self, (id, call): (u64, Call), got: Got) {
        self.note(&Note::Call(id, Call { got, to: Some(micros()), ..call }));
    }

    fn note(&self, note: &Note) {
        let json = serde_json::to_string(note).expect("notes are plain data");
        // Gone when the parent is gone; then nobody cares.
        let _ = std::io::stdout().lock().write_all(format!("\n@{json} .\n").as_bytes());
    }

    fn below(&self, limit: u64) -> u64 {
        mix(self.seed, self.draws.fetch_add(1, Ordering::Relaxed)) % limit
    }
}

//! A server in this process, on free ports.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mainstay::core::{MemoryStore, Store};
use mainstay::shutdown::Phase;
use mainstay::{App, Boot, Client, Ended, Error, Shutdown};
use mainstay_server::serve::{self, Config};
use mainstay_testkit::clock::ManualClock;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::client::{Reply, Request};

/// How a server is to be.
#[derive(Default)]
pub struct Setup {
    variables: Vec<(String, String)>,
    store: Option<Client>,
    clock: Option<Arc<ManualClock>>,
}

impl Setup {
    /// Sets a key of the configuration.
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.variables.push((format!("MAINSTAY_{}", key.to_uppercase()), value.to_string()));
        self
    }

    /// Time stands still until the test moves it.
    pub fn manual_clock(self) -> Self {
        self.on_clock(ManualClock::new())
    }

    /// The same with a clock that the test has.
    pub fn on_clock(self, clock: Arc<ManualClock>) -> Self {
        self.on_store(Arc::new(MemoryStore::new(clock.clone())), clock)
    }

    /// The same with a store of the test's own.
    pub fn on_store(mut self, store: Arc<dyn Store>, clock: Arc<ManualClock>) -> Self {
        self.store = Some(Client::on(store, clock.clone()));
        self.clock = Some(clock);
        self
    }

    pub async fn start(self) -> TestServer {
        let defaults = [
            ("MAINSTAY_LISTEN", "127.0.0.1:0"),
            ("MAINSTAY_ADMIN_LISTEN", "127.0.0.1:0"),
            ("MAINSTAY_STORE", "memory:"),
            ("MAINSTAY_LAME_DUCK_MS", "0"),
            ("MAINSTAY_LOG_LEVEL", "warn"),
        ];
        let mut variables: Vec<(String, String)> = defaults.map(|(k, v)| (k.into(), v.into())).into();
        variables.extend(self.variables);
        let app = App::new("mainstay").config(serve::loader().variables(variables));
        let shutdown = app.shutdown();
        let (store, clock) = (self.store, self.clock);
        let seen = store.clone();
        let (bound, ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel();
        // An app is run where it is made; a thread of its own keeps it apart from the test's runtime.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let boot = async move |b: &mut Boot<Config>| {
                let store = match store {
                    Some(store) => store,
                    None => b.store(&b.config.store).await?,
                };
                let http = serve::assemble(b, store).await?;
                let admin = b.admin_address();
                b.on_ready(async move {
                    let _ = bound.send((http.bound().await, admin));
                    Ok::<_, Error>(())
                });
                Ok(())
            };
            let until = async {
                let _ = stopped.await;
            };
            let ended = runtime.unwrap().block_on(app.run_until(boot, until));
            let _ = end.send(ended);
        });
        match ready.await {
            Ok((api, admin)) => {
                // It listens a moment before it says that it is ready.
                let running = tokio::time::timeout(Duration::from_secs(60), shutdown.reached(Phase::Running));
                running.await.expect("it is ready");
                TestServer { api, admin: admin.unwrap(), store: seen, clock, shutdown, stop, ended }
            }
            Err(_) => panic!("the server did not start: {:?}", ended.await),
        }
    }
}

pub struct TestServer {
    pub api: SocketAddr,
    pub admin: SocketAddr,
    pub shutdown: Shutdown,
    store: Option<Client>,
    clock: Option<Arc<ManualClock>>,
    /// Dropped, it stops the server.
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<Ended>,
}

impl TestServer {
    pub async fn start() -> TestServer {
        Setup::default().start().await
    }

    pub fn advance(&self, by: Duration) {
        self.clock.as_ref().expect("a manual clock").advance(by.as_millis() as u64);
    }

    /// The store of a server with a manual clock, for what the wire does not show.
    pub fn store(&self) -> &Client {
        self.store.as_ref().expect("a manual clock")
    }

    /// Stops it and waits for its end.
    pub async fn stop(self) -> Ended {
        drop(self.stop);
        self.ended.await.unwrap()
    }

    pub fn request(&self, method: &str, path: &str) -> Request {
        Request::new(self.api, method, path)
    }

    pub fn on_admin(&self, method: &str, path: &str) -> Request {
        Request::new(self.admin, method, path)
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.request("GET", path).send().await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.request("POST", path).json(body).send().await
    }

    pub async fn put(&self, path: &str, body: Value) -> Reply {
        self.request("PUT", path).json(body).send().await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.request("DELETE", path).send().await
    }

    /// Makes a job of kind `k` with these fields; answers its id.
    pub async fn enqueue(&self, queue: &str, fields: Value) -> String {
        let mut body = json!({ "kind": "k" });
        body.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap_or_default());
        let job = self.post(&format!("/v1/queues/{queue}/jobs"), body).await.is(201);
        job["id"].as_str().unwrap().to_owned()
    }

    /// Takes what there is.
    pub async fn claim(&self, queue: &str, max: u32) -> Vec<Value> {
        let claimed = self.post("/v1/jobs/claim", json!({ "queues": [queue], "max": max })).await.is(200);
        claimed["jobs"].as_array().unwrap().clone()
    }

    /// Takes one job: its id and lease.
    pub async fn claim_one(&self, queue: &str) -> (String, String) {
        let jobs = self.claim(queue, 1).await;
        assert_eq!(jobs.len(), 1, "nothing to claim from {queue}");
        let text = |name: &str| jobs[0][name].as_str().unwrap().to_owned();
        (text("id"), text("lease"))
    }

    /// Looks until it is as it should be.
    pub async fn get_until(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let looking = async {
            loop {
                let reply = self.get(path).await;
                if reply.status == 200 && holds(&reply.json()) {
                    return reply.json();
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), looking).await.expect("it comes to that")
    }

    pub async fn job(&self, id: &str) -> Value {
        self.get(&format!("/v1/jobs/{id}")).await.is(200)
    }
}

//! Apps in this process and services in others, with small clients.

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use mainstay::config::Loader;
use mainstay::{App, Boot, Ended, Shutdown, secs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Long enough for a loaded machine; a test that comes near it has failed.
pub const PATIENCE: Duration = secs(20);

/// An app that is up.
pub struct Running {
    pub api: SocketAddr,
    pub admin: SocketAddr,
    pub shutdown: Shutdown,
}

/// An app with its own settings, blind to the environment.
pub fn app(settings: &[(&str, &str)]) -> App<()> {
    let mut loader =
        Loader::new("test").variables::<String, String>([]).flag("admin_listen", "127.0.0.1:0", "test");
    for (key, value) in settings {
        loader = loader.flag(*key, value, "test");
    }
    App::new("test").config(loader)
}

/// Runs an app while `client` uses it, then ends it; answers how it ended and what the client found.
pub async fn with_router<T>(
    settings: &[(&str, &str)],
    router: Router,
    client: impl AsyncFnOnce(Running) -> T,
) -> (Ended, T) {
    with_boot(settings, async |b| b.http("127.0.0.1:0", router), client).await
}

/// The same with a whole `boot`, which answers its listener.
pub async fn with_boot<T>(
    settings: &[(&str, &str)],
    boot: impl AsyncFnOnce(&mut Boot<()>) -> mainstay::http::Http,
    client: impl AsyncFnOnce(Running) -> T,
) -> (Ended, T) {
    let app = app(settings);
    let shutdown = app.shutdown();
    let (up, ready) = oneshot::channel();
    let theirs = shutdown.clone();
    let life = app.run_until(
        async move |b: &mut Boot<()>| {
            let http = boot(b).await;
            let admin = b.admin_address().expect("an admin listener");
            b.on_ready(async move {
                let _ = up.send((http.bound().await, admin));
                Ok::<_, mainstay::Error>(())
            });
            Ok(())
        },
        pending(),
    );
    let using = async {
        let (api, admin) = ready.await.expect("the app came up");
        let found = client(Running { api, admin, shutdown: theirs }).await;
        shutdown.begin();
        found
    };
    timeout(PATIENCE * 2, async { tokio::join!(life, using) }).await.expect("the app ended")
}

/// A connection that speaks HTTP/1.1 by hand.
pub struct Raw(pub TcpStream);

impl Raw {
    pub async fn open(to: SocketAddr) -> Self {
        Self(TcpStream::connect(to).await.expect("connect"))
    }

    pub async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("send");
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        self.answer().await.expect("an answer")
    }

    /// Reads one response with a `content-length`; `None` if the other side closed first.
    pub async fn answer(&mut self) -> Option<Answer> {
        timeout(PATIENCE, async {
            let mut bytes = Vec::new();
            loop {
                if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    let length: usize = length.map_or(0, |n| n.parse().expect("a length"));
                    if bytes.len() >= end + 4 + length {
                        let body = String::from_utf8_lossy(&bytes[end + 4..end + 4 + length]).into_owned();
                        let status = head[9..12].parse().expect("a status");
                        return Some(Answer { status, head, body });
                    }
                }
                match self.0.read_buf(&mut bytes).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        })
        .await
        .expect("an answer in time")
    }

    /// Whether the other side has closed, waiting for that.
    pub async fn closed(&mut self) -> bool {
        let mut byte = [0];
        matches!(timeout(PATIENCE, self.0.read(&mut byte)).await, Ok(Ok(0) | Err(_)))
    }
}

/// A response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

pub async fn get(to: SocketAddr, path: &str) -> Answer {
    Raw::open(to).await.get(path).await
}

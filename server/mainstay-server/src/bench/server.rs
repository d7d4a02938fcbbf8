//! A server of its own process, started from this very binary.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde::Deserialize;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use super::{Error, Result, site::Site, wire::Connection};

/// Recovery of a large store counts in.
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(30);
/// How often a start is looked at; what a measured start can be too long.
const LOOK: Duration = Duration::from_millis(1);

pub(super) struct Server {
    child: Child,
    pub(super) api: SocketAddr,
    pub(super) pid: Option<u32>,
    /// From before the process was made until `/readyz` said 200.
    pub(super) ready_after: Duration,
}

#[derive(Deserialize)]
struct Addresses {
    api: SocketAddr,
    admin: SocketAddr,
}

impl Server {
    /// Starts a server on a store, and waits until it is ready. Killed when dropped.
    pub(super) async fn start(store: &Site, dir: &Path) -> Result<Server> {
        let addr_file = dir.join("addresses.json");
        // That of the last server would be taken for this one's.
        let _ = std::fs::remove_file(&addr_file);
        let started = Instant::now();
        let child = command(store, &addr_file)?.spawn().map_err(Error::doing("cannot start the server"))?;
        let pid = child.id();
        let mut server = Server { child, api: ([127, 0, 0, 1], 0).into(), pid, ready_after: Duration::ZERO };
        let ready = timeout(START, server.ready(&addr_file)).await;
        server.api = ready.unwrap_or_else(|_| Err(Error::new("the server was not ready in a minute")))?;
        server.ready_after = started.elapsed();
        Ok(server)
    }

    async fn ready(&mut self, addr_file: &Path) -> Result<SocketAddr> {
        let Addresses { api, admin } = loop {
            if let Ok(text) = std::fs::read_to_string(addr_file) {
                break serde_json::from_str(&text).map_err(Error::doing("the addresses of the server"))?;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(Error::new(format!("the server ended with {status} before it was ready")));
            }
            sleep(LOOK).await;
        };
        let mut connection = Connection::open(admin).await?;
        while connection.send("GET", "/readyz", "").await?.status != 200 {
            sleep(LOOK).await;
        }
        Ok(api)
    }

    /// Ends it in good order.
    pub(super) async fn stop(mut self) -> Result<()> {
        let pid = self.pid.and_then(|pid| rustix::process::Pid::from_raw(pid as i32));
        if let Some(pid) = pid {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)
                .map_err(Error::doing("cannot stop the server"))?;
        }
        match timeout(STOP, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(Error::new(format!("the server ended with {status}"))),
            Ok(Err(error)) => Err(Error::new(format!("the server: {error}"))),
            Err(_) => Err(Error::new("the server did not stop; it was killed")),
        }
    }
}

fn command(store: &Site, addr_file: &Path) -> Result<Command> {
    let mut command = Command::new(this_binary()?);
    command.arg("serve");
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--lame-duck-ms", "0"]);
    command.args(["--log-level", "warn", "--addr-file"]).arg(addr_file);
    // The measurement is of the defaults, not of how this shell is set up.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MAINSTAY_")) {
        command.env_remove(name);
    }
    // Not an argument: a list of processes would show it.
    command.env("MAINSTAY_STORE", store.url());
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

/// The file that this process runs from.
pub(super) fn this_binary() -> Result<PathBuf> {
    std::env::current_exe().map_err(Error::doing("where this binary is"))
}

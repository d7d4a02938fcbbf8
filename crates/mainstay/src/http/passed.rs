//! Listening: on an address, or on a socket that the service manager has opened for us (systemd's socket activation).
//!
//! A passed socket stays open while the service is restarted: clients that come in between wait in its backlog for the
//! next instance, and none is refused.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::net::{TcpListener, lookup_host};

use crate::{Error, Result};

/// A listener, and whether somebody else goes on listening on its socket when we close it.
pub(crate) struct Bound {
    pub listener: TcpListener,
    pub passed: bool,
}

/// Listens on `HOST:PORT`, or takes the passed socket that `fd:NAME` (its name at the service manager) or `fd:3` (its
/// number) is.
///
/// # Errors
/// The address cannot be had; no such socket was passed, or it has been taken.
pub(crate) async fn bind(listen: &str) -> Result<Bound> {
    match listen.strip_prefix("fd:") {
        None => {
            let listener = TcpListener::bind(listen).await.map_err(no_such_address)?;
            Ok(Bound { listener, passed: false })
        }
        Some(which) => {
            let listener = take(which)?;
            listener.set_nonblocking(true)?;
            Ok(Bound { listener: TcpListener::from_std(listener)?, passed: true })
        }
    }
}

/// Where somebody has to change something, the address or who else uses it, the configuration is wrong: trying again does
/// not help. A name that cannot be resolved just now is another matter.
fn no_such_address(error: io::Error) -> Error {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, InvalidInput, PermissionDenied};
    match error.kind() {
        AddrInUse | AddrNotAvailable | InvalidInput | PermissionDenied => Error::config(error.to_string()),
        _ => error.into(),
    }
}

/// The addresses that a listener configured so would be reached at: `HOST:PORT`, resolved, or `fd:NAME`, looked up
/// among the sockets that the service manager has passed. Does not listen.
///
/// # Errors
/// The name cannot be resolved; no such socket was passed.
pub async fn resolve(listen: &str) -> Result<Vec<SocketAddr>> {
    match listen.strip_prefix("fd:") {
        None => Ok(lookup_host(listen).await?.collect()),
        Some(which) => {
            let passed = passed();
            let socket =
                passed.iter().find(|socket| socket.is(which)).ok_or_else(|| unknown(which, &passed))?;
            Ok(vec![socket.address])
        }
    }
}

struct Passed {
    name: String,
    number: usize,
    address: SocketAddr,
    /// `None` once it has been taken.
    listener: Option<std::net::TcpListener>,
}

impl Passed {
    fn is(&self, which: &str) -> bool {
        self.name == which || self.number.to_string() == which
    }
}

static PASSED: OnceLock<Mutex<Vec<Passed>>> = OnceLock::new();

fn passed() -> MutexGuard<'static, Vec<Passed>> {
    PASSED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes over what the service manager has passed, once in a process. Before there is any other thread: it changes
/// the environment, so that what we start does not think the sockets were meant for it.
pub(crate) fn adopt() {
    PASSED.get_or_init(|| {
        const FIRST: usize = 3;
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut sockets = listenfd::ListenFd::from_env();
        let mut all = Vec::new();
        for index in 0..sockets.len() {
            let name = names.next().unwrap_or_default();
            // What does not listen on TCP is somebody else's business.
            if let Ok(Some(listener)) = sockets.take_tcp_listener(index)
                && let Ok(address) = listener.local_addr()
            {
                all.push(Passed { name, number: FIRST + index, address, listener: Some(listener) });
            }
        }
        Mutex::new(all)
    });
}

/// Several sockets may share a name: each is taken once.
fn take(which: &str) -> Result<std::net::TcpListener> {
    let mut passed = passed();
    let free = passed.iter_mut().filter(|socket| socket.is(which)).find_map(|socket| socket.listener.take());
    free.ok_or_else(|| unknown(which, &passed))
}

fn unknown(which: &str, passed: &[Passed]) -> Error {
    let there: Vec<_> = passed
        .iter()
        .map(|socket| {
            let taken = if socket.listener.is_none() { ", taken" } else { "" };
            format!("fd:{} (`{}`, {}{taken})", socket.number, socket.name, socket.address)
        })
        .collect();
    let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    Error::config(format!("no free socket `{which}` was passed by the service manager; passed: {there}"))
}

/// Those that nobody has taken: a mistake in somebody's configuration.
pub(crate) fn unused() -> Vec<String> {
    let free =
        |socket: &Passed| socket.listener.is_some().then(|| format!("{} `{}`", socket.number, socket.name));
    passed().iter().filter_map(free).collect()
}

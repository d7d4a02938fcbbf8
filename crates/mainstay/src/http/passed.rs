//! Listening: on an address, or on a socket that the service manager has opened for us (systemd's socket activation).
//!
//! A passed socket stays open while the service is restarted: clients that come in between wait in its backlog for the
//! next instance, and none is refused.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, lookup_host};
use tokio::time::{Instant, sleep};

use crate::{Error, Result, millis, secs};

/// How long an address may be in use before that is an error: by another process that is about to end, as a rule.
const IN_USE: Duration = secs(3);
/// How long to leave it alone between two tries.
const TRY_AGAIN: Duration = millis(100);

/// A listener, and whether somebody else goes on listening on its socket when we close it.
pub(crate) struct Bound {
    pub listener: TcpListener,
    pub passed: bool,
}

/// Listens on `HOST:PORT`, trying for three seconds if somebody else does, or takes the passed socket that `fd:NAME` (its name at the service manager) or `fd:3` (its
/// number) is.
///
/// # Errors
/// The address cannot be had; no such socket was passed, or it has been taken.
pub(crate) async fn bind(listen: &str) -> Result<Bound> {
    match listen.strip_prefix("fd:") {
        None => {
            let listener = listen_on(listen).await?;
            Ok(Bound { listener, passed: false })
        }
        Some(which) => {
            let listener = take(which)?;
            listener.set_nonblocking(true)?;
            Ok(Bound { listener: TcpListener::from_std(listener)?, passed: true })
        }
    }
}

async fn listen_on(address: &str) -> Result<TcpListener> {
    let until = Instant::now() + IN_USE;
    let mut told = false;
    loop {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                if !std::mem::replace(&mut told, true) {
                    let for_ms = IN_USE.as_millis() as u64;
                    tracing::warn!(address, for_ms, "another process listens here, trying again");
                }
                sleep(TRY_AGAIN).await;
            }
            bound => return bound.map_err(no_such_address),
        }
    }
}

/// Where somebody has to change the address, the configuration is wrong: trying again does not help. Who uses it may
/// end, however, and a name that cannot be resolved just now is another matter.
fn no_such_address(error: io::Error) -> Error {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, InvalidInput, PermissionDenied};
    match error.kind() {
        AddrInUse => Error::unavailable(error.to_string()),
        AddrNotAvailable | InvalidInput | PermissionDenied => Error::config(error.to_string()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn taken() -> (std::net::TcpListener, String) {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap().to_string();
        (other, address)
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_comes_free_in_a_moment_is_listened_on() {
        let (other, address) = taken();
        let began = Instant::now();
        let ending = async {
            sleep(IN_USE - millis(50)).await;
            drop(other);
        };
        let (bound, ()) = tokio::join!(bind(&address), ending);
        assert_eq!(bound.unwrap().listener.local_addr().unwrap().to_string(), address);
        assert_eq!(began.elapsed(), IN_USE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_stays_in_use_is_worth_another_start() {
        let (_other, address) = taken();
        let began = Instant::now();
        let Err(error) = bind(&address).await else { panic!("two listen on {address}") };
        assert_eq!((error.kind(), error.exit_code()), (ErrorKind::Unavailable, 69));
        assert_eq!(began.elapsed(), IN_USE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_of_another_machine_is_a_mistake_at_once() {
        let began = Instant::now();
        let Err(error) = bind("192.0.2.1:80").await else { panic!("192.0.2.1 is nobody's") };
        assert_eq!((error.exit_code(), began.elapsed()), (78, Duration::ZERO));
    }
}

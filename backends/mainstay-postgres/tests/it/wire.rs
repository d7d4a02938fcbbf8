//! What can happen between a store and its database: a proxy that breaks connections, goes silent, and spoils requests.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use mainstay_testkit::cluster::Cluster;

/// Stands before a cluster. Its threads end with their connections, and the last with the process.
pub(crate) struct Wire {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Nothing passes any more on the connections that are open, and on those to come; nobody is told.
    silent: AtomicBool,
    open: Mutex<Vec<Arc<Both>>>,
    trick: Mutex<Option<Trick>>,
}

struct Both {
    client: TcpStream,
    server: UnixStream,
    dead: AtomicBool,
}

/// What happens once, to the first request that contains some bytes.
pub(crate) struct Trick {
    pub(crate) on: &'static str,
    pub(crate) does: Does,
}

#[derive(Clone, Copy)]
pub(crate) enum Does {
    /// Other bytes go on, as many.
    Replace(&'static str),
    /// It goes on, and then the connection breaks before anything is answered.
    BreakBehind,
    /// It goes on, and nothing of this connection passes any more.
    SilenceBehind,
    /// What came before this query goes on, and nothing of this connection passes any more.
    SilenceBefore,
}

impl Wire {
    pub(crate) fn to(cluster: &Cluster) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state: Arc<State> = Arc::default();
        let (shared, socket) = (state.clone(), cluster.socket());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                connect(&shared, client, &socket);
            }
        });
        Wire { port, state }
    }

    /// The URL of the database behind it.
    pub(crate) fn address(&self) -> String {
        format!("postgres://{}@127.0.0.1:{}/postgres", mainstay_testkit::cluster::USER, self.port)
    }

    /// Sets a trick.
    pub(crate) fn once(&self, on: &'static str, does: Does) {
        *self.state.trick.lock().unwrap() = Some(Trick { on, does });
    }

    /// Whether the trick has been played.
    pub(crate) fn is_played(&self) -> bool {
        self.state.trick.lock().unwrap().is_none()
    }

    /// Breaks all connections.
    pub(crate) fn reset(&self) {
        for both in self.state.open.lock().unwrap().drain(..) {
            both.end();
        }
    }

    /// From here on, until it is called again: nothing passes, and nobody is told. What was open then stays dead.
    pub(crate) fn silent(&self, silent: bool) {
        self.state.silent.store(silent, Ordering::SeqCst);
        if silent {
            for both in self.state.open.lock().unwrap().iter() {
                both.dead.store(true, Ordering::SeqCst);
            }
        }
    }
}

impl Both {
    fn end(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

fn connect(state: &Arc<State>, client: TcpStream, socket: &Path) {
    let Ok(server) = UnixStream::connect(socket) else { return };
    let _ = client.set_nodelay(true);
    let dead = AtomicBool::new(state.silent.load(Ordering::SeqCst));
    let both = Arc::new(Both { client, server, dead });
    state.open.lock().unwrap().push(both.clone());
    let (there, back, state) = (both.clone(), both, state.clone());
    thread::spawn(move || {
        carry(&there, &there.client, &there.server, |bytes| play(&state, bytes));
    });
    thread::spawn(move || carry(&back, &back.server, &back.client, |_| None));
}

/// Until one end is gone. `look` sees what comes, and says what happens behind it.
fn carry(
    both: &Both,
    mut from: impl Read,
    mut to: impl Write,
    look: impl Fn(&mut [u8]) -> Option<(Does, usize)>,
) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        let some = &mut bytes[..read];
        if both.dead.load(Ordering::SeqCst) {
            continue;
        }
        let (does, at) = look(some).unzip();
        if let Some(Does::BreakBehind | Does::SilenceBehind | Does::SilenceBefore) = does {
            // First of all, so that no answer passes.
            both.dead.store(true, Ordering::SeqCst);
        }
        let goes_on = match (does, at) {
            // A letter and its length stand before the text of a query.
            (Some(Does::SilenceBefore), Some(at)) => &some[..at - 5],
            _ => &*some,
        };
        if to.write_all(goes_on).is_err() {
            break;
        }
        if let Some(Does::BreakBehind) = does {
            let _ = both.client.shutdown(Shutdown::Both);
            // The server has read it when it sees the end.
            let _ = both.server.shutdown(Shutdown::Write);
            return;
        }
    }
    // Of a dead connection, nobody hears anything.
    if !both.dead.load(Ordering::SeqCst) {
        both.end();
    }
}

/// The trick, if it is its turn, and where what it is on begins.
fn play(state: &State, bytes: &mut [u8]) -> Option<(Does, usize)> {
    let mut trick = state.trick.lock().unwrap();
    let on = trick.as_ref()?.on.as_bytes();
    let at = bytes.windows(on.len()).position(|window| window == on)?;
    let does = trick.take()?.does;
    if let Does::Replace(with) = does {
        bytes[at..at + with.len()].copy_from_slice(with.as_bytes());
    }
    Some((does, at))
}

//! The server, the clients, and what happens to them.

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{JoinHandle, sleep, spawn},
    time::Duration,
};

use mainstay::core::rules::mix;
use rustix::process::{Pid, Signal, kill_process};

use super::{
    TASK, TTL_MS, micros,
    notes::{Note, Notes},
};

/// Client processes at a time; each is several clients.
const CLIENTS: usize = 4;
/// A process that has not ended so long after its time hangs.
const STUCK_AFTER_MICROS: u64 = 60_000_000;

pub(super) struct Chaos {
    folder: PathBuf,
    api: SocketAddr,
    seed: u64,
    draws: u64,
    notes: Arc<Mutex<Notes>>,
    started: usize,
    readers: Vec<JoinHandle<()>>,
}

impl Chaos {
    pub(super) fn new(folder: &Path, seed: u64) -> Chaos {
        // Free a moment ago; the server keeps it over its restarts.
        let api =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
        let folder = folder.to_owned();
        Chaos { folder, api, seed, draws: 0, notes: Arc::default(), started: 0, readers: Vec::new() }
    }

    pub(super) fn run(mut self, time: Duration) -> Notes {
        let end = micros() + time.as_micros() as u64;
        let mut server = self.server();
        let mut clients: Vec<Child> = (0..CLIENTS).map(|_| self.client(end)).collect();
        let mut round = self.seed;
        while micros() + 1_500_000 < end {
            self.pause(400, 400);
            let from = micros();
            let victim = self.below(CLIENTS as u64) as usize;
            match round % 4 {
                0 => self.stopped(&clients[victim]),
                1 => {
                    server.kill().expect("kill");
                    server.wait().expect("it ended");
                    server = self.server();
                    self.lock().restarts += 1;
                }
                2 => {
                    clients[victim].kill().expect("kill");
                    clients[victim].wait().expect("it ended");
                    clients[victim] = self.client(end);
                }
                _ => self.stopped(&server),
            }
            round += 1;
            // Whoever was stopped needs a moment to be as quick as before.
            let disturbed = (from, micros() + 300_000);
            self.lock().disturbed.push(disturbed);
        }
        for mut client in clients {
            while client.try_wait().expect("a child").is_none() {
                assert!(micros() < end + STUCK_AFTER_MICROS, "a client hangs");
                sleep(Duration::from_millis(20));
            }
        }
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader");
        }
        server.kill().expect("kill");
        server.wait().expect("it ended");
        std::mem::take(&mut *self.lock())
    }

    /// Stopped for longer than a lease lives, and then let go on as if nothing had been.
    fn stopped(&mut self, process: &Child) {
        let id = Pid::from_raw(process.id() as i32).expect("a process");
        kill_process(id, Signal::STOP).expect("stop");
        self.pause(TTL_MS + 200, 600);
        kill_process(id, Signal::CONT).expect("go on");
    }

    fn pause(&mut self, ms: u64, and_up_to: u64) {
        let more = self.below(and_up_to);
        sleep(Duration::from_millis(ms + more));
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.draws += 1;
        mix(self.seed, self.draws) % limit
    }

    fn server(&self) -> Child {
        let mut server = Command::new(env!("CARGO_BIN_EXE_mainstay"))
            .args(["serve", "--store", "sqlite:locks.db", "--log-level", "error", "--admin-listen", "off"])
            .args(["--listen", &self.api.to_string()])
            .current_dir(&self.folder)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server");
        let mut line = String::new();
        let stdout = server.stdout.as_mut().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
        assert!(line.contains("http://"), "the server did not start: {line}");
        server
    }

    fn client(&mut self, end: u64) -> Child {
        let number = self.started;
        self.started += 1;
        let seed = mix(self.seed, 1 << 32 | number as u64);
        let mut client = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "lock_histories::child::a_client_process", "--ignored", "--nocapture"])
            .env(TASK, format!("{} {number} {seed} {end} {}", self.api, self.folder.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a client");
        let lines = BufReader::new(client.stdout.take().expect("a pipe")).lines();
        let notes = self.notes.clone();
        self.readers.push(spawn(move || {
            for line in lines.map_while(Result::ok) {
                // A line counts only when it is whole.
                let Some(json) = line.strip_prefix('@').and_then(|line| line.strip_suffix(" .")) else {
                    continue;
                };
                let note: Note = serde_json::from_str(json).expect("a note that is whole is well-formed");
                notes.lock().unwrap_or_else(PoisonError::into_inner).add(number, note);
            }
        }));
        client
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! A mainstay server of a test's own.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

use crate::{millis, secs};

/// How long a server may take to listen, and to end.
const LIMIT: Duration = secs(30);
const LOOK: Duration = millis(5);

/// A real server, the binary `mainstay serve --ephemeral`, for tests of clients in any language: a store in memory, free
/// ports on the loopback address. Ends when it is dropped, and by itself when the test's process has gone.
///
/// ```no_run
/// use mainstay::testing::TestServer;
///
/// let server = TestServer::start();
/// let url = server.url(); // http://127.0.0.1:43210
/// ```
///
/// The binary is the one that the variable `MAINSTAY_BIN` names, else `mainstay` from the `PATH`. Tests in other
/// languages start it by themselves: `mainstay serve --ephemeral --addr-file FILE`; the file is there, whole, once it
/// listens.
#[derive(Debug)]
pub struct TestServer {
    child: Child,
    addresses: Addresses,
    folder: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Addresses {
    api: String,
    admin: String,
}

impl TestServer {
    /// Starts one and waits until it listens. Blocks the thread: on virtual time, time stands still meanwhile.
    ///
    /// # Panics
    /// If it does not listen within 30 seconds, with what it said; if there is no binary.
    pub fn start() -> TestServer {
        TestServer::start_with(&[])
    }

    /// The same with more flags, such as `["--store", "sqlite:test.db"]`.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_with(flags: &[&str]) -> TestServer {
        TestServer::of(std::env::var_os("MAINSTAY_BIN").unwrap_or_else(|| "mainstay".into()), flags)
    }

    /// The same with this binary.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn of(binary: impl AsRef<OsStr>, flags: &[&str]) -> TestServer {
        let binary = Path::new(binary.as_ref());
        let name = format!("mainstay-test-{}-{:016x}", std::process::id(), crate::clock::machine_random());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
        let (file, log) = (folder.join("addresses"), folder.join("log"));
        let spawned = std::fs::File::create(&log).and_then(|log| {
            let mut command = Command::new(binary);
            command.args(["serve", "--ephemeral", "--addr-file"]).arg(&file).args(flags);
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
        });
        let mut child = spawned.unwrap_or_else(|error| {
            panic!(
                "cannot start {}: {error}; put `mainstay` into the PATH or its path into MAINSTAY_BIN",
                binary.display()
            )
        });
        let began = Began::now();
        loop {
            if let Ok(text) = std::fs::read_to_string(&file) {
                let addresses = serde_json::from_str(&text).expect("the server writes its addresses as JSON");
                return TestServer { child, addresses, folder };
            }
            let ended = child.try_wait().ok().flatten();
            if ended.is_some() || began.elapsed() > LIMIT {
                let _ = child.kill();
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                panic!(
                    "the server does not listen after {:?} ({ended:?}); it said:\n{said}",
                    began.elapsed()
                );
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Where its API is: `http://127.0.0.1:43210`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addresses.api)
    }

    /// Where its probes and metrics are.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.addresses.admin)
    }

    /// The number of its process, for tests that send it signals.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops it in good order, as SIGTERM does; answers its exit code.
    ///
    /// # Panics
    /// If it has not ended after 30 seconds, or was ended by a signal.
    pub fn stop(mut self) -> i32 {
        self.terminate();
        let ended = self.wait().unwrap_or_else(|error| panic!("the server does not end: {error}"));
        ended.code().unwrap_or_else(|| panic!("the server was ended by a signal: {ended}"))
    }

    fn terminate(&self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }

    fn wait(&mut self) -> io::Result<std::process::ExitStatus> {
        let began = Began::now();
        loop {
            match self.child.try_wait()? {
                Some(status) => return Ok(status),
                None if began.elapsed() > LIMIT => return Err(io::ErrorKind::TimedOut.into()),
                None => std::thread::sleep(LOOK),
            }
        }
    }
}

/// Real time, whatever the test's is: it is another process that is waited for.
#[derive(Clone, Copy)]
struct Began(std::time::Instant);

impl Began {
    #[expect(clippy::disallowed_methods, reason = "another process knows nothing of virtual time")]
    fn now() -> Self {
        Self(std::time::Instant::now())
    }

    fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // Nobody looks at how it ends.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

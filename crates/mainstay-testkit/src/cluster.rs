//! A PostgreSQL of the tests' own: a private cluster in a temporary folder, on a socket in it, gone with the process.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

/// A running server. Its process ends when this is dropped, or when the process that began it does, however that ends.
pub struct Cluster {
    folder: PathBuf,
    bin: PathBuf,
    watcher: Child,
}

/// The super-user of every cluster, without a password.
pub const USER: &str = "mainstay";

/// The script that outlives a test that is killed: it waits for the end of its input, which is the end of the test.
const WATCH: &str = r#"
    "$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off -c full_page_writes=off \
      -c max_connections=300 -c shared_buffers=64MB -c max_wal_size=256MB -c autovacuum=off $3 >"$2/log" 2>&1 &
    server=$!
    while ! grep -q "ready to accept" "$2/log" 2>/dev/null; do
      kill -0 $server 2>/dev/null || { echo failed; cat "$2/log"; exit 1; }
      sleep 0.02
    done
    echo ready
    read end
    "$1/pg_ctl" -D "$2/data" -m immediate -w stop >/dev/null 2>&1
    case "$2" in */mainstay-pg.*) rm -rf "$2" ;; esac
"#;

impl Cluster {
    /// The one that all tests of a process share. `None`: `MAINSTAY_TEST_POSTGRES_URL` names another server.
    ///
    /// # Panics
    /// There is no PostgreSQL on this machine: install it, or name one.
    pub fn shared() -> Option<&'static Cluster> {
        static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
        let make = || match std::env::var("MAINSTAY_TEST_POSTGRES_URL") {
            Ok(_) => None,
            Err(_) => Some(Cluster::start("")),
        };
        SHARED.get_or_init(make).as_ref()
    }

    /// Where tests find a server: the one that the environment names, or the shared one.
    pub fn url() -> String {
        match Cluster::shared() {
            Some(cluster) => cluster.address(),
            None => std::env::var("MAINSTAY_TEST_POSTGRES_URL").expect("it was there"),
        }
    }

    /// A cluster of one's own, with these arguments to the server.
    ///
    /// # Panics
    /// As [`Cluster::shared`].
    pub fn start(arguments: &str) -> Cluster {
        let bin = binaries().expect(
            "PostgreSQL is needed for this test: install it (Debian: postgresql), or set MAINSTAY_TEST_POSTGRES_URL",
        );
        let (folder, owner) = (folder(), owner());
        let mut init = Command::new(bin.join("initdb"));
        init.args(["-A", "trust", "-U", USER, "-E", "UTF8", "--locale=C", "--no-sync", "-D"]);
        let made = run_as(init.arg(folder.join("data")), owner).output().expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let watcher = watch(&bin, &folder, owner, arguments);
        Cluster { folder, bin, watcher }
    }

    /// A copy of this one that follows it, until [`Cluster::promote`].
    ///
    /// # Panics
    /// It cannot be made.
    pub fn standby(&self) -> Cluster {
        let (folder, owner) = (folder(), owner());
        let mut copy = Command::new(self.bin.join("pg_basebackup"));
        copy.args(["-X", "stream", "-c", "fast", "-R", "--no-sync", "-U", USER, "-h"]).arg(&self.folder);
        let made =
            run_as(copy.arg("-D").arg(folder.join("data")), owner).output().expect("pg_basebackup runs");
        assert!(made.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&made.stderr));
        let watcher = watch(&self.bin, &folder, owner, "");
        Cluster { folder, bin: self.bin.clone(), watcher }
    }

    /// Makes a standby a server of its own.
    ///
    /// # Panics
    /// It is none, or does not get there.
    pub fn promote(&self) {
        assert_eq!(self.sql("select pg_promote()"), "t");
    }

    /// Gives a file to the user that the server runs as, who alone may read it.
    ///
    /// # Panics
    /// It is not there.
    pub fn give(path: &Path) {
        if let Some((user, group)) = owner() {
            std::os::unix::fs::chown(path, Some(user), Some(group)).expect("the file is the server's");
        }
    }

    /// A command that runs as the user that the server runs as.
    pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        run_as(&mut command, owner());
        command
    }

    /// The folder of its socket.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A URL of the database `postgres` of the cluster.
    pub fn address(&self) -> String {
        format!("postgres://{USER}@{}/postgres", self.host())
    }

    /// The folder of its socket, as a host in a URL.
    pub fn host(&self) -> String {
        self.folder.display().to_string().replace('/', "%2F")
    }

    /// The socket on which it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(".s.PGSQL.5432")
    }

    /// Stops the server in the way that `pg_ctl -m` calls so (`fast`, `immediate`), and starts it again.
    ///
    /// # Panics
    /// It does not stop or start.
    pub fn restart(&self, mode: &str) {
        let mut stop = Command::new(self.bin.join("pg_ctl"));
        stop.args(["restart", "-w", "-m", mode, "-l"]).arg(self.folder.join("log")).arg("-D");
        let options =
            format!("-k {} -c listen_addresses= -c fsync=off -c max_connections=300", self.folder.display());
        stop.arg(self.folder.join("data")).args(["-o", &options]).stdout(Stdio::null()).stderr(Stdio::null());
        let done = run_as(&mut stop, owner()).status().expect("pg_ctl runs");
        assert!(done.success(), "the server starts again");
    }

    /// Runs a statement as the super-user, by `psql`; answers what it prints.
    ///
    /// # Panics
    /// It is refused.
    pub fn sql(&self, sql: &str) -> String {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            USER,
            "-d",
            "postgres",
            "-c",
            sql,
            "-h",
        ]);
        let done = psql.arg(&self.folder).output().expect("psql runs");
        assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}

/// A new one for a cluster.
fn folder() -> PathBuf {
    let base = if Path::new("/dev/shm").is_dir() { Path::new("/dev/shm") } else { Path::new("/tmp") };
    let folder = base.join(format!("mainstay-pg.{}.{:x}", std::process::id(), unique()));
    fs::create_dir(&folder).expect("a folder for the cluster");
    if let Some((user, group)) = owner() {
        std::os::unix::fs::chown(&folder, Some(user), Some(group)).expect("the folder is the server's");
    }
    folder
}

fn watch(bin: &Path, folder: &Path, owner: Option<(u32, u32)>, arguments: &str) -> Child {
    let mut shell = Command::new("sh");
    shell.args(["-c", WATCH, "watch"]).arg(bin).arg(folder).arg(arguments);
    let mut watcher = run_as(&mut shell, owner)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell runs");
    let mut said = BufReader::new(watcher.stdout.take().expect("it is a pipe"));
    let mut line = String::new();
    said.read_line(&mut line).expect("it says something");
    if line.trim() != "ready" {
        let rest = io::read_to_string(said).unwrap_or_default();
        panic!("PostgreSQL does not start: {line}{rest}");
    }
    watcher
}

/// PostgreSQL refuses to run as root: then as the user it comes with, or as nobody.
fn owner() -> Option<(u32, u32)> {
    let me = fs::metadata("/proc/self").ok()?.uid();
    if me != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut parts = line.split(':').skip(2);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody"))
}

fn run_as(command: &mut Command, owner: Option<(u32, u32)>) -> &mut Command {
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command
}

/// Where the PostgreSQL is that `MAINSTAY_TEST_POSTGRES_BIN` names, or else the newest of this machine.
fn binaries() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("MAINSTAY_TEST_POSTGRES_BIN") {
        return Some(named.into());
    }
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = debian.map(|entry| entry.path().join("bin")).collect();
    found.sort_by_key(|path| version(path));
    let path = std::env::var_os("PATH").unwrap_or_default();
    found.splice(0..0, std::env::split_paths(&path));
    found.into_iter().rev().find(|path| path.join("initdb").is_file() && path.join("postgres").is_file())
}

fn version(bin: &Path) -> u32 {
    let folder = bin.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    folder.and_then(|name| name.parse().ok()).unwrap_or_default()
}

/// Other than before, in this process.
fn unique() -> u128 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static MADE: AtomicU64 = AtomicU64::new(0);
    u128::from(MADE.fetch_add(1, Ordering::Relaxed))
}

/// How long a server may take to come back.
pub const PATIENCE: Duration = Duration::from_secs(30);

//! Behind PgBouncer in transaction mode: nothing is kept in a session from one transaction to the next.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Stdio},
    sync::{Arc, OnceLock},
    time::Duration,
};

use mainstay_core::{Store, id::JobIds};
use mainstay_postgres::{Options, PostgresStore};
use mainstay_testkit::{
    Harness, ManualClock, async_trait,
    cluster::{Cluster, PATIENCE, USER},
};

use crate::{
    hands::{claim, enqueue, serves, until},
    harness::Place,
};

/// A pooler before the shared cluster. It ends with the process that began it.
struct Pooler {
    folder: PathBuf,
    _process: Child,
}

impl Pooler {
    fn shared() -> &'static Pooler {
        static SHARED: OnceLock<Pooler> = OnceLock::new();
        SHARED.get_or_init(|| Pooler::start(Cluster::shared().expect("the shared cluster")))
    }

    fn start(cluster: &Cluster) -> Pooler {
        let folder = cluster.folder().join("pooler");
        fs::create_dir(&folder).expect("a folder for the pooler");
        Cluster::give(&folder);
        let settings = format!(
            "[databases]\n* = host={} user={USER}\n[pgbouncer]\nlisten_addr=\nunix_socket_dir={}\nlisten_port=6432\n\
             auth_type=any\npool_mode=transaction\ndefault_pool_size=6\nmax_client_conn=500\n\
             server_reset_query_always=0\nlogfile={}\n",
            cluster.folder().display(),
            folder.display(),
            folder.join("log").display(),
        );
        fs::write(folder.join("settings"), settings).expect("settings");
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"];
        let program = program.iter().find(|path| fs::exists(path).unwrap_or_default());
        let program =
            program.expect("PgBouncer is needed for this test (Debian: pgbouncer); ./test installs it");
        // The shell ends it with the end of its input, which is the end of the test.
        let script = "\"$1\" -q \"$2\" >/dev/null 2>&1 & read end; kill $!";
        let mut process = Cluster::command("sh")
            .args(["-c", script, "pooler", program])
            .arg(folder.join("settings"))
            .current_dir("/")
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell runs");
        let socket = folder.join(".s.PGSQL.6432");
        for _ in 0..PATIENCE.as_millis() / 10 {
            if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
                return Pooler { folder, _process: process };
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(process.stdin.take());
        let _ = process.wait();
        panic!("PgBouncer does not start: {}", fs::read_to_string(folder.join("log")).unwrap_or_default());
    }

    fn address(&self) -> String {
        let host = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://{USER}@{host}:6432/postgres")
    }
}

/// A store behind the pooler.
pub(crate) struct Pooled {
    place: Place,
}

impl Pooled {
    pub(crate) fn new() -> Pooled {
        Pooled { place: Place::new() }
    }

    fn options(&self) -> Options {
        self.place
            .options_at(&Pooler::shared().address(), "&prepare=off&listen=off&sslmode=disable&lease_ms=1500")
    }
}

#[async_trait]
impl Harness for Pooled {
    fn clock(&self) -> &Arc<ManualClock> {
        &self.place.clock
    }

    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(PostgresStore::open(self.options()).expect("open"))
    }

    fn durable(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn processes_behind_a_pooler_share_the_store_and_take_over() {
    let (pooled, mut ids) = (Pooled::new(), JobIds::default());
    let first = PostgresStore::open(pooled.options()).unwrap();
    let second = PostgresStore::open(pooled.options()).unwrap();
    assert_eq!(second.stats(), [("leads", 0.0)]);
    let made = [enqueue(&first, &mut ids).await, enqueue(&second, &mut ids).await];
    let mut found = claim(&second).await;
    until("both are there", async || {
        found.extend(claim(&second).await);
        found.len() == 2
    })
    .await;
    assert!(found.iter().all(|grant| made.contains(&grant.id)));
    let third = enqueue(&second, &mut ids).await;
    first.close(Duration::from_secs(5)).await.unwrap();
    serves(&second).await;
    assert_eq!(claim(&second).await.iter().map(|grant| grant.id).collect::<Vec<_>>(), [third]);
}

//! `mainstay bench` where the store is a PostgreSQL.

use mainstay_testkit::cluster::Cluster;

use crate::cli::{Ran, command, ended};

async fn run(mut command: tokio::process::Command) -> Ran {
    ended(command.spawn().unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_measured_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let url = tokio::task::spawn_blocking(Cluster::url).await.unwrap();
    let dir = folder.path().to_str().unwrap();
    let mut bench =
        command(&["bench", "jobs", "--output", "json", "--only", "store,work-batch,pickup", "--dir", dir]);
    bench.args(["--callers", "2", "--backlog", "10", "--batch", "5", "--rounds", "1", "--matrix-only"]);
    bench.args(["--cell-seconds", "0.2", "--warm-up-seconds", "0"]).env("MAINSTAY_BENCH_STORE", &url);
    let found = run(bench).await.json();
    let cells = found["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 3, "{found}");
    for cell in cells {
        assert!(cell["cycles_per_second"].as_f64().unwrap() > 0.0, "{cell}");
        // Of the database's log, not of this disk.
        assert!(cell["rounds"][0]["bytes_per_job"].as_f64().unwrap() > 100.0, "{cell}");
    }
    assert!(found["durable"].as_str().unwrap().contains("PostgreSQL"), "{found}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "its folder is gone");
    let left = tokio::task::spawn_blocking(|| {
        let shared = Cluster::shared()?;
        Some(shared.sql("select count(*) from pg_namespace where starts_with(nspname, 'bench_')"))
    });
    // Somebody else's server may be used by others at the same time.
    if let Some(left) = left.await.unwrap() {
        assert_eq!(left, "0", "its schemas are gone");
    }
}

#[tokio::test]
async fn what_has_no_part_in_a_database_says_so() {
    let store = "postgres://me:secret@nowhere.invalid/db";
    for (arguments, said) in [
        (&["bench", "jobs", "--only", "raw"][..], "raw measures the disk"),
        (&["bench", "pool"], "no store has a part"),
    ] {
        let mut bench = command(arguments);
        bench.args(["--store", store]);
        let refused = run(bench).await.failed(1);
        assert!(refused.contains(said), "{refused}");
        assert!(!refused.contains("secret"), "{refused}");
    }
    let refused = run(command(&["bench", "locks", "--store", "sqlite:x.db"])).await.failed(1);
    assert!(refused.contains("--store takes postgres://"), "{refused}");
}

//! One handler, served at the edge that the first argument names: `bare`, `axum` or `chassis`; the second is the
//! number of worker threads. Prints its address. `scripts/bench-edge` puts the load on.
//!
//! As `probes` it is a service whose checks hang and whose threads can be blocked, with an admin listener, for
//! `scripts/bench-probes`.

mod probes;
mod servers;

use std::process::ExitCode;

use tokio::net::TcpListener;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [edge, threads] = args.as_slice() else {
        eprintln!("usage: edge bare|axum|chassis|probes THREADS");
        return ExitCode::from(2);
    };
    let threads = threads.parse().expect("a number of threads");
    if edge == "chassis" {
        return servers::chassis(threads, |address| println!("{address}"));
    }
    if edge == "probes" {
        return probes::run(threads);
    }
    // As the chassis makes its own.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(threads).build();
    runtime.expect("a runtime").block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        println!("{}", listener.local_addr().expect("an address"));
        match edge.as_str() {
            "bare" => servers::bare(listener).await,
            "axum" => servers::axum(listener).await,
            other => panic!("no such edge: {other}"),
        }
    });
    ExitCode::SUCCESS
}

//! Three workers, ten jobs, one of which cannot be done the first time; then the pool drains.
//!
//! The urgent job overtakes the others, the one that hangs runs into its time limit and becomes a dead letter, which is
//! mended and submitted again. Time is virtual, so the ten seconds of the hanging job cost nothing.

use std::process::ExitCode;

use mainstay::pool::{PoolContext, WorkerPool};
use mainstay::testing::block_on_virtual;
use mainstay::{JobError, Result, millis, secs};
use tokio::time::sleep;

#[derive(Clone)]
struct Resize {
    image: u32,
    broken: bool,
}

async fn resize(job: Resize, cx: PoolContext) -> Result<u32, JobError> {
    if job.broken {
        std::future::pending::<()>().await;
    }
    sleep(millis(20)).await;
    eprintln!("job {} resized image {}", cx.id(), job.image);
    Ok(job.image)
}

async fn run() -> Result<ExitCode> {
    let pool = WorkerPool::build("resize", resize).workers(3).queue(100).time_limit(secs(10)).open()?;
    let mut jobs = Vec::new();
    for image in 1..=10 {
        let job = pool.job(Resize { image, broken: image == 4 });
        let job = if image == 10 { job.priority(0) } else { job };
        jobs.push(job.submit().await.map_err(mainstay::Error::from_any)?);
    }
    pool.idle().await;

    for letter in pool.take_dead() {
        eprintln!("image {}: {}", letter.job.image, letter.error);
        let mended = Resize { broken: false, ..letter.job };
        jobs.push(pool.submit(mended).await.map_err(mainstay::Error::from_any)?);
    }
    let mut images = Vec::new();
    for job in jobs {
        images.extend(job.await.ok());
    }
    images.sort_unstable();
    if images.into_iter().eq(1..=10) {
        println!("All 10 jobs processed");
    }
    let report = pool.drain().await;
    if report.is_complete() {
        println!("Pool drained gracefully");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{report}");
    Ok(ExitCode::FAILURE)
}

fn main() -> Result<ExitCode> {
    block_on_virtual(run())
}

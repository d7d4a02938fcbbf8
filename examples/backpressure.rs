//! A fast producer, a slow consumer, and a queue of five between them.
//!
//! The producer is slowed by nothing but the queue: the line is printed because a send had to wait for room. Time is
//! virtual, so the consumer's 10 ms an item cost nothing.

use std::process::ExitCode;

use mainstay::millis;
use mainstay::queue::{Bounded, Receiver, SendError, Sender};
use mainstay::testing::block_on_virtual;
use tokio::time::{Instant, sleep};

const ITEMS: u32 = 20;

async fn produce(items: &Sender<u32>) -> Result<(), SendError<u32>> {
    let mut slowed = false;
    for item in 0..ITEMS {
        let sent = items.send(item).await?;
        if let Some(waited) = sent.waited()
            && !slowed
        {
            println!("Producer slowed by backpressure");
            eprintln!("item {item} waited {waited:?} for room");
            slowed = true;
        }
    }
    Ok(())
}

async fn consume(mut items: Receiver<u32>) -> u32 {
    let mut processed = 0;
    while items.recv().await.is_some() {
        sleep(millis(10)).await;
        processed += 1;
    }
    processed
}

async fn run() -> ExitCode {
    let (tx, rx) = Bounded::new("items", 5).open();
    let producer = async {
        let produced = produce(&tx).await;
        let drained = tx.drain_by(Instant::now() + millis(1_000)).await;
        eprintln!("{drained}");
        produced.is_ok() && drained.is_complete()
    };
    let (complete, processed) = tokio::join!(producer, consume(rx));
    if !complete || processed != ITEMS {
        eprintln!("only {processed} items were processed");
        return ExitCode::FAILURE;
    }
    println!("All items processed");
    ExitCode::SUCCESS
}

fn main() -> ExitCode {
    block_on_virtual(run())
}

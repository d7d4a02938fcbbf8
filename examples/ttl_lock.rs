//! A lock that outlives nobody: client_1 overstays its 50 ms, and client_2, who waits in line, gets the lock the moment
//! they are over. Nobody polls; time is virtual.

use mainstay::{Client, LockGuard, StoreError, core::op::Reason, millis, secs, testing::block_on_virtual};
use tokio::time::{Instant, sleep};

async fn acquire(store: &Client, client: &str) -> Result<LockGuard, StoreError> {
    // A guard renews its lock. This one is not to: what happens to those who cannot is the subject.
    store.lock("resource")?.owner(client).ttl(millis(50)).without_renewal().wait(secs(1)).acquire().await
}

async fn client_1(store: &Client) -> Result<(), StoreError> {
    let lock = acquire(store, "client_1").await?;
    println!("Lock acquired by client_1");
    let work = lock.run(sleep(millis(200))).await; // cut short, and told why
    eprintln!("client_1: {}", work.expect_err("50 ms are over"));
    sleep(millis(10)).await; // not everything listens

    // By now it is client_2's. What client_1 writes under its token is refused, and its release changes nothing.
    let write = store.commit().require_lock(&lock).await;
    assert!(write.is_err_and(|error| error.reason() == Some(&Reason::LockLost)));
    let release = lock.release().await;
    assert!(release.is_err_and(|error| error.reason() == Some(&Reason::LockLost)));
    Ok(())
}

async fn client_2(store: &Client) -> Result<(), StoreError> {
    let asked = Instant::now();
    let lock = acquire(store, "client_2").await?;
    println!("Lock expired — acquired by client_2");
    eprintln!("client_2 waited for {:?}", asked.elapsed());
    sleep(millis(20)).await;
    lock.release().await
}

async fn run() -> Result<(), StoreError> {
    let store = Client::memory();
    tokio::try_join!(client_1(&store), client_2(&store))?;
    println!("Both clients processed");
    Ok(())
}

fn main() -> Result<(), StoreError> {
    block_on_virtual(run())
}

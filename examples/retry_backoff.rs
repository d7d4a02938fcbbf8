//! Two failures, then success: the waits between grow and are drawn at random, and pass in virtual time.

use std::{
    io,
    sync::atomic::{AtomicU32, Ordering},
};

use mainstay::{
    policy::{Retry, retried},
    testing::block_on_virtual,
};

static ATTEMPTS: AtomicU32 = AtomicU32::new(0);

/// Fails twice in a way that may pass.
async fn fetch(page: &'static str) -> io::Result<&'static str> {
    let attempt = ATTEMPTS.fetch_add(1, Ordering::Relaxed) + 1;
    if attempt < 3 {
        println!("Attempt {attempt} failed");
        return Err(io::ErrorKind::ConnectionReset.into()); // declared retryable: `PermissionDenied` is not
    }
    println!("Attempt {attempt} succeeded");
    Ok(page)
}

fn main() -> io::Result<()> {
    // The same arguments and the same outcome, with retries around it: a wait below base × 2ⁿ, never above the cap.
    let fetch = retried(Retry::default(), fetch);
    println!("Result: {}", block_on_virtual(fetch("ok"))?);
    Ok(())
}

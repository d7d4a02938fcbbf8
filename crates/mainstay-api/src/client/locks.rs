use super::{ApiError, HttpClient};
use crate::query::{LocksQuery, percent_encode, reason_query};
use crate::types::{
    Acquire, Acquired, CheckLock, LockChecked, LockView, Page, ReleaseLock, Released, Renew, RenewMany,
    Renewed, RenewedMany, Withdrawn,
};

/// Locks.
impl HttpClient {
    /// Takes a lock; waits as long as the acquire says, on top of the time limit.
    ///
    /// No key is sent unless [`with_key`](Self::with_key) gave one: a waiter without one leaves the queue with its
    /// connection, and a grant that could not be answered is given back. With a key, repeating the call collects the
    /// grant or keeps the place.
    ///
    /// # Errors
    /// `lock-held` when it was not free in time, with who holds it; `state-conflict` for a semaphore of another size.
    pub async fn acquire(&self, lock: &str, acquire: &Acquire) -> Result<Acquired, ApiError> {
        self.post(lock_path(lock, "/acquire"), acquire, acquire.wait_ms).await
    }

    /// Withdraws what was asked for with this very acquire under this key ([`with_key`](Self::with_key)): its place in
    /// the line, or its grant, whether it was answered or not. Repeating it changes nothing more.
    ///
    /// # Errors
    /// `validation-failed` without a key.
    pub async fn withdraw(&self, lock: &str, acquire: &Acquire) -> Result<Withdrawn, ApiError> {
        self.post(lock_path(lock, "/withdraw"), acquire, 0).await
    }

    /// Keeps a lock.
    ///
    /// # Errors
    /// `lock-lost` when it is not held under this lease any more.
    pub async fn renew(&self, lock: &str, renew: &Renew) -> Result<Renewed, ApiError> {
        self.post(lock_path(lock, "/renew"), renew, 0).await
    }

    /// Keeps many locks, each on its own.
    ///
    /// # Errors
    /// Those of the connection; what went wrong with one is in its result.
    pub async fn renew_many(&self, renew: &RenewMany) -> Result<RenewedMany, ApiError> {
        self.post("/v1/locks/renew".to_owned(), renew, 0).await
    }

    /// Gives a lock back.
    ///
    /// # Errors
    /// `lock-lost` when it is not held under this lease any more, also when an earlier try of this very call gave it
    /// back; nothing was changed.
    pub async fn release_lock(&self, lock: &str, release: &ReleaseLock) -> Result<Released, ApiError> {
        self.post_once(lock_path(lock, "/release"), release).await
    }

    /// Whether a lock is held under this token now.
    ///
    /// # Errors
    /// Those of the connection. A lock nobody holds is not an error.
    pub async fn check_lock(&self, lock: &str, check: &CheckLock) -> Result<LockChecked, ApiError> {
        self.post(lock_path(lock, "/check"), check, 0).await
    }

    /// A lock that is held.
    ///
    /// # Errors
    /// `not-found` when it is free.
    pub async fn lock(&self, lock: &str) -> Result<LockView, ApiError> {
        self.get(lock_path(lock, "")).await
    }

    /// The locks that are held, by name.
    ///
    /// # Errors
    /// `validation-failed` when the cursor belongs to another query.
    pub async fn locks(&self, query: &LocksQuery) -> Result<Page<LockView>, ApiError> {
        self.get(format!("/v1/locks{}", query.to_query())).await
    }

    /// Takes a lock away from all who hold it.
    ///
    /// # Errors
    /// `not-found` when it is free, also when an earlier try of this very call did it.
    pub async fn break_lock(&self, lock: &str, reason: Option<&str>) -> Result<(), ApiError> {
        self.delete(lock_path(lock, &reason_query(reason))).await
    }
}

fn lock_path(lock: &str, rest: &str) -> String {
    format!("/v1/locks/{}{rest}", percent_encode(lock))
}
